package gpurun

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/gpurun/gpurun/device"
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

func multiplyFiles[T float32 | float64](ctx context.Context, e *Engine, c string, a, b *npy.File) (err error) {
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
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	to, err := e.openProduct(ctx, out, a, b)
	if err != nil {
		return err
	}
	defer to.close()
	p := kernels.MatMul[T]{TransA: a.Fortran, TransB: b.Fortran, M: a.Rows, N: b.Cols, K: a.Cols, Alpha: 1}
	if p.SourceA, err = source[T](e, a); err != nil {
		return err
	}
	if p.SourceB, err = source[T](e, b); err != nil {
		return err
	}
	report, err := e.runFiles(ctx, &p, to)
	if report != nil {
		defer func() {
			report.Seconds = time.Since(start).Seconds()
			e.keep(report, err)
		}()
	}
	if err != nil {
		return err
	}
	for _, f := range []*npy.File{a, b} {
		if err := f.Check(); err != nil {
			return fmt.Errorf("gpurun: %w", errors.Join(err, to.forget()))
		}
	}
	if err := to.commit(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
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

// runFiles computes p, whose operands are in files and whose turn it is, as a job. The
// report is nil if none began.
func (e *Engine) runFiles(ctx context.Context, p productJob, to *productFile) (*Report, error) {
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
	predictions := who.predict(p)
	report, err := e.run(ctx, p, who.devices, who.hosts, to.sink, to.options)
	report.setPrediction(predictions)
	if err == nil {
		report.setProduct(p, who.alone())
	}
	return report, err
}
