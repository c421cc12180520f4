package gpurun

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// bytesPerPixel is what an image takes in this process: counts, magnitudes, and
// the picture made of them.
const bytesPerPixel = 12

// Mandelbrot computes the image that v describes: of the Mandelbrot set, or of
// a Julia set if v.Julia is set. The result is the same to the last bit on all
// devices and for any number of tiles.
//
// The error matches ErrView if v is not valid, ErrTooLarge if the image does
// not fit into memory, and ctx's error if ctx was done first.
func (e *Engine) Mandelbrot(ctx context.Context, v View) (*Field, error) {
	v = v.withDefaults()
	if err := v.Validate(); err != nil {
		return nil, err
	}
	if err := checkMemory(v); err != nil {
		return nil, err
	}
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()

	start := time.Now()
	job := v.job()
	devices, err := e.devicesFor(job.T)
	if err != nil {
		return nil, err
	}
	cost, err := e.sampleCost(ctx, job)
	if err != nil {
		return nil, err
	}
	field := newField(v, job)
	report, err := e.run(ctx, job, devices, sinkFunc(field.put), dist.Options{Cost: cost})
	if err != nil {
		return nil, err
	}
	report.setWork(field.iterations())
	report.Seconds = time.Since(start).Seconds()
	return field, nil
}

type sinkFunc func(kernels.Tile, *kernels.Result) error

func (f sinkFunc) Put(t kernels.Tile, r *kernels.Result) error { return f(t, r) }

func checkMemory(v View) error {
	total := device.TotalMemory()
	// In float64, which cannot overflow here.
	need := float64(v.Width) * float64(v.Height) * bytesPerPixel
	if need <= 0.8*float64(total) {
		return nil
	}
	return fmt.Errorf("%w: an image of %d×%d pixels takes %s, and 80 %% of this machine's memory is %s: ask for fewer pixels",
		ErrTooLarge, v.Width, v.Height, humanize.IBytes(uint64(min(need, math.MaxInt64))), humanize.IBytes(uint64(0.8*float64(total))))
}

const (
	// One pixel in sampleShare is computed beforehand to learn the costs; below
	// sampleLeast samples that teaches too little to be worth it.
	sampleShare = 1000
	sampleLeast = 16

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
			costs[i] = float64(sample.MaxIter)
		}
	}
	return tiler.NewCostMap(all.W, all.H, cols, rows, costs, pixelCost), nil
}
