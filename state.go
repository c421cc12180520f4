package gpurun

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/journal"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

var (
	// ErrOtherState is matched by the error about a Config.State that keeps another job.
	ErrOtherState = journal.ErrOther

	// ErrStateBusy is matched by the error about a Config.State in which another process
	// works.
	ErrStateBusy = journal.ErrBusy

	// ErrStateDamaged is matched by the error about a Config.State that cannot be read.
	ErrStateDamaged = journal.ErrDamaged
)

// State says how far the job in a folder is.
type State = journal.State

// ReadState returns what is kept in the folder dir, which was the State of a Config. It
// changes nothing there, and may be called while a job runs. The error matches
// fs.ErrNotExist if nothing is kept there, or ErrStateDamaged.
func ReadState(dir string) (*State, error) { return journal.Read(dir) }

// FinishState says of the job that is kept in the folder dir that its result is safe
// elsewhere: it is removed there, and the folder can be used for another job. What
// ReadState says stays. The error is one of ReadState's, or ErrStateBusy.
func FinishState(dir string) error { return journal.Finish(dir) }

// longestKept is how long a tile of a product is predicted to take at most whose result is
// kept: it is lost when the process dies meanwhile.
const longestKept = 10 * time.Second

// openState returns the journal of job in Config.State, or nil where nothing is kept. result
// is the path of the file that the output will be, or empty.
func (e *Engine) openState(ctx context.Context, job journal.Job, result string) (*journal.Journal, error) {
	if e.config.State == "" {
		return nil, nil
	}
	j, err := journal.Open(ctx, e.config.State, job, result)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("gpurun: %w", err)
	}
	return j, err
}

// imageState returns what is kept of v, which is valid and has its defaults filled in.
func imageState(v View) journal.Job {
	set := "Mandelbrot set"
	if v.Julia != nil {
		set = fmt.Sprintf("Julia set of %g", *v.Julia)
	}
	job := v.job(0, 0)
	return journal.Job{
		Title: fmt.Sprintf("the %s at %g, %g wide, %d×%d, %v, %d iterations at most",
			set, v.Center, v.Span, v.Width, v.Height, v.Resolve(), v.MaxIter),
		Identity: identity("mandelbrot", v.dtype(), v.Width, v.Height, v.Center, v.Span, v.MaxIter,
			job.R2, job.Magnitudes, job.Julia, job.CRe, job.CIm),
		Width: v.Width, Height: v.Height, Planes: job.Planes(),
	}
}

// productState returns what is kept of the product of a and b, in a file that begins with
// head.
func productState(a, b *npy.File, head []byte) (journal.Job, error) {
	var operands []any
	for _, f := range []*npy.File{a, b} {
		reference, err := f.Reference()
		if err != nil {
			return journal.Job{}, fmt.Errorf("gpurun: %w", err)
		}
		operands = append(operands, f.Rows, f.Cols, f.Fortran, reference.Size, reference.Time, hex.EncodeToString(reference.Sample[:]))
	}
	return journal.Job{
		Title:    fmt.Sprintf("the product of %s (%d×%d) and %s (%d×%d), %v", a.Path(), a.Rows, a.Cols, b.Path(), b.Rows, b.Cols, a.Type),
		Identity: identity("matmul", a.Type, operands...),
		Width:    b.Cols, Height: a.Rows, Planes: []kernels.DType{a.Type}, Head: head,
	}, nil
}

// identity returns what is the same for jobs with the same bits: a hash of the kernel, its
// version, its type and all of parts.
func identity(kernel string, t kernels.DType, parts ...any) string {
	hash := sha256.New()
	write := func(text string) {
		hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
		hash.Write([]byte(text))
	}
	for _, part := range append([]any{kernel, kernels.Version, t}, parts...) {
		write(fmt.Sprintf("%x", part)) // floats with all their bits
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// stateSink keeps what is put into a sink, which is nil where nobody else wants it.
type stateSink struct {
	dist.Sink
	ctx     context.Context
	journal *journal.Journal
	down    int // how many rows lower the tiles of the job are in what is kept
}

func (s *stateSink) Put(t kernels.Tile, r *kernels.Result) error {
	if s.Sink != nil {
		if err := s.Sink.Put(t, r); err != nil {
			return err
		}
	}
	return s.journal.Put(s.ctx, lowered(t, s.down), r)
}

// Retract makes it a dist.Retracter.
func (s *stateSink) Retract(tiles []kernels.Tile) error {
	lower := make([]kernels.Tile, len(tiles))
	for i, t := range tiles {
		lower[i] = lowered(t, s.down)
	}
	return s.journal.Retract(lower)
}

// lowered returns t so many rows lower.
func lowered(t kernels.Tile, down int) kernels.Tile {
	t.Y += down
	return t
}
