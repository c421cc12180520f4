package gpurun

import (
	"context"

	"github.com/gpurun/gpurun/kernels"
)

// Mandelbrot computes the image that v describes: of the Mandelbrot set, or of
// a Julia set if v.Julia is set. The result is the same to the last bit on all
// devices and for any number of tiles. MandelbrotBands is for images that do not fit
// into memory.
//
// The error matches ErrView if v is not valid, ErrTooLarge if the image does
// not fit into memory, ErrDevice if no device computes in its precision,
// ErrTileFailed or ErrNoDevice if the devices failed, ErrClosed, and ctx's error
// if ctx was done first.
func (e *Engine) Mandelbrot(ctx context.Context, v View) (*Field, error) {
	v = v.withDefaults()
	if err := v.Validate(); err != nil {
		return nil, err
	}
	if err := checkMemory(v); err != nil {
		return nil, err
	}
	var whole *Field
	err := e.computeBands(ctx, v, v.Height, func(f *Field) error {
		whole = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	return whole, nil
}

type sinkFunc func(kernels.Tile, *kernels.Result) error

func (f sinkFunc) Put(t kernels.Tile, r *kernels.Result) error { return f(t, r) }
