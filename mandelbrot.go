package gpurun

import (
	"context"
	"math"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
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

const (
	// One pixel in sampleShare is computed beforehand to learn the costs; below
	// sampleLeast samples that teaches too little to be worth it.
	sampleShare = 1000
	sampleLeast = 16

	// sampleSteps bounds what the sample may take: fractions of a second.
	sampleSteps = 1 << 26

	// pixelCost is what a pixel costs besides its iterations, in iterations.
	pixelCost = 8
)

// sampleCost estimates what each part of job costs, from a coarse sample of it.
func (e *Engine) sampleCost(ctx context.Context, job *kernels.Mandelbrot) (tiler.Cost, error) {
	all := job.Bounds()
	samples := float64(all.Area()) / sampleShare
	if samples < sampleLeast {
		return tiler.Uniform(1), nil
	}
	cols := int(math.Sqrt(samples * float64(all.W) / float64(all.H)))
	cols = min(max(cols, 1), all.W, int(samples))
	rows := min(max(int(samples)/cols, 1), all.H)
	sample := job.Sample(cols, rows)
	// What has not escaped by the limit is taken to stay inside.
	sample.MaxIter = min(sample.MaxIter, max(sampleSteps/(cols*rows), 1))

	runner, err := e.spare.Begin(ctx, sample)
	if err != nil {
		return nil, err
	}
	defer runner.Close()
	result := kernels.NewResult(sample, sample.Bounds())
	if err := runner.Run(ctx, sample.Bounds(), result); err != nil {
		return nil, err
	}
	counts := kernels.Elements[uint32](result.Planes[0])
	costs := make([]float64, len(counts))
	for i, n := range counts {
		switch {
		case n > 0:
			costs[i] = float64(n)
		case !sample.Interior(i%cols, i/cols):
			costs[i] = float64(job.MaxIter)
		}
	}
	return tiler.NewCostMap(all.W, all.H, cols, rows, costs, pixelCost), nil
}
