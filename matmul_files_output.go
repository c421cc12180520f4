package gpurun

import (
	"context"
	"fmt"
	"math"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/journal"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/kernels"
)

// productFile is the file that a product goes to: its tiles are written to their places
// there, or in Config.State, where they are kept.
type productFile struct {
	ctx     context.Context
	file    *output.File
	journal *journal.Journal // nil if nothing is kept
	sink    dist.Sink
	options dist.Options
}

// openProduct readies out for the product of a and b.
func (e *Engine) openProduct(ctx context.Context, out *output.File, a, b *npy.File) (*productFile, error) {
	header := npy.Header{Type: a.Type, Rows: a.Rows, Cols: b.Cols}
	if size := float64(header.Type.Size()) * float64(header.Rows) * float64(header.Cols); size > math.MaxInt64/2 {
		return nil, fmt.Errorf("gpurun: %w: a product of %d×%d is larger than a file can be", ErrTooLarge, header.Rows, header.Cols)
	}
	head := header.Append(nil)
	to := &productFile{ctx: ctx, file: out}
	if e.config.State == "" || header.Rows == 0 || header.Cols == 0 {
		plane := output.Plane{At: int64(len(head)), Width: header.Cols, Element: header.Type.Size()}
		to.sink = sinkFunc(func(t kernels.Tile, r *kernels.Result) error {
			return plane.Write(ctx, out, t.X, t.Y, t.W, t.H, r.Planes[0])
		})
		err := out.Reserve(plane.At + int64(plane.Element)*int64(header.Rows)*int64(header.Cols))
		if err == nil {
			_, err = out.WriteAt(head, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("gpurun: %w", err)
		}
		return to, nil
	}
	switch {
	case out.InPlace():
		return nil, fmt.Errorf("gpurun: write %s: it is no regular file, and cannot be made of what is kept: name one", out.Name())
	case out.Within(e.config.State):
		return nil, fmt.Errorf("gpurun: write %s: that is in the folder of the state, %s: name another", out.Name(), e.config.State)
	}
	job, err := productState(a, b, head)
	if err != nil {
		return nil, err
	}
	if to.journal, err = e.openState(ctx, job, out.Name()); err != nil {
		return nil, err
	}
	to.sink = &stateSink{ctx: ctx, journal: to.journal}
	to.options = dist.Options{
		Longest: longestKept,
		Todo:    to.journal.Missing(kernels.Tile{W: header.Cols, H: header.Rows}),
	}
	return to, nil
}

// commit gives the file its name, once all tiles have been put.
func (p *productFile) commit() error {
	if p.journal == nil {
		return p.file.Commit()
	}
	return p.journal.Deliver(p.ctx, p.file)
}

// forget makes nothing count that was kept: an operand was written to meanwhile.
func (p *productFile) forget() error {
	if p.journal == nil {
		return nil
	}
	return p.journal.Retract([]kernels.Tile{{W: math.MaxInt32, H: math.MaxInt32}})
}

// close lets go of Config.State.
func (p *productFile) close() {
	if p.journal != nil {
		p.journal.Close(p.ctx)
	}
}
