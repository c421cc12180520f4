package gpurun

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/kernels"
)

// MatMulFiles reads the matrices in the files a and b and writes their product to the
// file c, by the arithmetic of Gemm64 or Gemm32 with α = 1 and β = 0. The files are
// NumPy's .npy files, of float32 or float64 both, little-endian, in C or in Fortran
// order; c is of the same type, in C order.
//
// None of them has to fit into memory: rectangles of a and b are read, and such of c
// written, as there is room for on the devices, of which Config.Memory is the budget;
// on the CPU that is how much of the machine's memory is taken. The bits do not
// depend on it. Hosts take part where Gemm64 says so. They fetch what they need of a and
// b, or read them where they are: see Config.SharedFiles.
//
// c appears whole or not at all, in place of what was there before. It must not be a
// or b. All that it takes is set aside on the disk before anything is computed, where
// the system can do that. Whoever writes to a or b meanwhile is found out at the end,
// if not before, and c does not appear.
//
// The error matches ErrFormat if a or b holds no matrix that can be read, ErrShape if
// they do not fit together, ErrOverlap if c is one of them, ErrChanged if one was
// written to, ErrTooLarge if Config.Tiles makes tiles that do not fit into the budget,
// ErrDevice, ErrTileFailed, ErrNoDevice or ErrBudget if devices cannot, ErrClosed; it
// is ctx's error if ctx was done first, or what the system said of a file.
func (e *Engine) MatMulFiles(ctx context.Context, c, a, b string) error {
	x, err := npy.Open(a)
	if err != nil {
		return fmt.Errorf("gpurun: %w", err)
	}
	defer x.Close()
	y, err := npy.Open(b)
	if err != nil {
		return fmt.Errorf("gpurun: %w", err)
	}
	defer y.Close()
	switch {
	case x.Type == kernels.Float32 && y.Type == kernels.Float32:
		return multiplyFiles[float32](ctx, e, c, x, y)
	case x.Type == kernels.Float64 && y.Type == kernels.Float64:
		return multiplyFiles[float64](ctx, e, c, x, y)
	case x.Type == y.Type:
		return shapeError("%s and %s are of %v: only f32 and f64 are multiplied: convert them", a, b, x.Type)
	}
	return shapeError("%s is of %v and %s of %v: convert one of them", a, x.Type, b, y.Type)
}

// fileMatrix is an operand in a file.
type fileMatrix[T float32 | float64] struct{ *npy.File }

func (m fileMatrix[T]) Read(to []T, t kernels.Tile) error { return npy.Read(m.File, to, t) }

// sharedMatrix is an operand in a file that hosts have too.
type sharedMatrix[T float32 | float64] struct {
	fileMatrix[T]
	reference npy.Reference
}

// Reference makes it a dist.Shared.
func (m sharedMatrix[T]) Reference() npy.Reference { return m.reference }

// source returns the operand in f.
func source[T float32 | float64](e *Engine, f *npy.File) (kernels.Source[T], error) {
	if e.cluster == nil || !e.config.SharedFiles {
		return fileMatrix[T]{f}, nil
	}
	reference, err := f.Reference()
	if err != nil {
		return nil, fmt.Errorf("gpurun: %w", err)
	}
	return sharedMatrix[T]{fileMatrix[T]{f}, reference}, nil
}

func multiplyFiles[T float32 | float64](ctx context.Context, e *Engine, c string, a, b *npy.File) error {
	start := time.Now()
	if a.Cols != b.Rows {
		return shapeError("%s is %d×%d and %s is %d×%d: the second must have as many rows as the first has columns",
			a.Path(), a.Rows, a.Cols, b.Path(), b.Rows, b.Cols)
	}
	out, err := createProduct(c, a, b)
	if err != nil {
		return err
	}
	defer out.Discard()
	header := npy.Header{Type: a.Type, Rows: a.Rows, Cols: b.Cols}
	sink := &fileSink{ctx: ctx, file: out, header: header}
	if err := sink.begin(); err != nil {
		return fmt.Errorf("gpurun: %w", err)
	}
	p := kernels.MatMul[T]{TransA: a.Fortran, TransB: b.Fortran, M: a.Rows, N: b.Cols, K: a.Cols, Alpha: 1}
	if p.SourceA, err = source[T](e, a); err != nil {
		return err
	}
	if p.SourceB, err = source[T](e, b); err != nil {
		return err
	}
	report, err := e.runFiles(ctx, &p, sink)
	if report != nil {
		defer func() {
			report.Seconds = time.Since(start).Seconds()
			e.keep(report)
		}()
	}
	if err != nil {
		return err
	}
	for _, f := range []*npy.File{a, b} {
		if err := f.Check(); err != nil {
			return fmt.Errorf("gpurun: %w", err)
		}
	}
	if err := out.Commit(); err != nil {
		return fmt.Errorf("gpurun: %w", err)
	}
	return nil
}

// createProduct makes the file of the product of a and b.
func createProduct(path string, a, b *npy.File) (*output.File, error) {
	out, err := output.Create(path)
	if err != nil {
		return nil, fmt.Errorf("gpurun: %w", err)
	}
	for _, f := range []*npy.File{a, b} {
		info, err := f.Info()
		if err == nil && out.Replaces(info) {
			err = fmt.Errorf("%w: %s is the operand %s: give the product a name of its own", ErrOverlap, path, f.Path())
		}
		if err != nil {
			out.Discard()
			return nil, err
		}
	}
	return out, nil
}

// runFiles computes p, whose operands are in files, as a job. The report is nil if none
// began.
func (e *Engine) runFiles(ctx context.Context, p productJob, sink dist.Sink) (*Report, error) {
	who, err := e.spreadOver(p)
	if err != nil {
		return nil, err
	}
	if who.none() {
		who.devices = []device.Device{e.spare}
	}
	if tiles := e.config.Tiles; tiles > 0 {
		bytes := float64(kernels.ResultBytes(p, p.Bounds())) / float64(tiles)
		for _, d := range who.devices {
			if bytes > float64(d.Info().Budget) {
				return nil, fmt.Errorf("%w: a tile of %d has %s, and the budget of %s is %s: take more tiles, or leave their number to gpurun",
					ErrTooLarge, tiles, humanize.IBytes(uint64(bytes)), d.ID(), humanize.IBytes(uint64(d.Info().Budget)))
			}
		}
	}
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	predictions := who.predict(p)
	report, err := e.run(ctx, p, who.devices, who.hosts, sink, dist.Options{})
	report.setPrediction(predictions)
	if err == nil {
		report.setProduct(p, who.alone())
	}
	return report, err
}

// fileSink puts tiles into a file, which is a .npy file of a matrix.
type fileSink struct {
	ctx    context.Context
	file   *output.File
	header npy.Header
	offset int64 // of the data
}

// begin makes the file as long as it is to be, and writes the header.
func (s *fileSink) begin() error {
	text := s.header.Append(nil)
	s.offset = int64(len(text))
	element := float64(s.header.Type.Size())
	if size := element * float64(s.header.Rows) * float64(s.header.Cols); size > math.MaxInt64/2 {
		return fmt.Errorf("%w: a product of %d×%d is larger than a file can be", ErrTooLarge, s.header.Rows, s.header.Cols)
	}
	if err := s.file.Reserve(s.offset + int64(s.header.Type.Size())*int64(s.header.Rows)*int64(s.header.Cols)); err != nil {
		return err
	}
	_, err := s.file.WriteAt(text, 0)
	return err
}

// Put writes the rows of a tile to their places. A job that is over does not wait for
// the rest of a large one.
func (s *fileSink) Put(t kernels.Tile, r *kernels.Result) error {
	element := s.header.Type.Size()
	row, stride := t.W*element, int64(s.header.Cols)*int64(element)
	at := s.offset + int64(t.Y)*stride + int64(t.X)*int64(element)
	rows := max(1, writeOnce/row)
	if int64(row) != stride {
		rows = 1
	}
	for y := 0; y < t.H; y += rows {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		part := r.Planes[0][y*row : min(y+rows, t.H)*row]
		if _, err := s.file.WriteAt(part, at+int64(y)*stride); err != nil {
			return err
		}
	}
	return nil
}

// writeOnce is how many bytes are written before ctx is looked at again.
const writeOnce = 8 << 20
