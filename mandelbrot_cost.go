package gpurun

import (
	"context"
	"math"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

const (
	// One pixel in sampleShare is computed beforehand to learn the costs; below
	// sampleLeast samples that teaches too little to be worth it.
	sampleShare = 1000
	sampleLeast = 16

	// sampleSteps bounds what the sample may take: fractions of a second.
	sampleSteps = 1 << 26

	// cycleSteps bounds the steps in which cycles are looked for, and cycleLeast is how
	// many each orbit gets that is looked at.
	cycleSteps = 1 << 22
	cycleLeast = 2048

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
	var inside []int
	for i, n := range counts {
		switch {
		case n > 0:
			costs[i] = float64(n)
		case !sample.Interior(i%cols, i/cols):
			inside = append(inside, i)
		}
	}
	costInside(job.MaxIter, sample, inside, costs)
	return tiler.NewCostMap(all.W, all.H, cols, rows, costs, pixelCost), nil
}

// costInside estimates the costs of the pixels of sample that do not escape. The
// kernels go on until they find that the orbit repeats itself, and to maxIter if it
// does not. Where there are too many pixels to look at each, one stands for those
// after it.
func costInside(maxIter int, sample *kernels.Mandelbrot, inside []int, costs []float64) {
	if len(inside) == 0 {
		return
	}
	limit := min(max(cycleSteps/len(inside), cycleLeast), maxIter)
	each := (len(inside)*limit + cycleSteps - 1) / cycleSteps
	cost := 0.0
	for k, i := range inside {
		if k%each == 0 {
			cost = float64(maxIter)
			if n := stepsToCycle(sample, i, limit); n < limit {
				// The kernels look seldom, and at a time that does not suit the orbit.
				cost = min(cost, 2*float64(n)+cycleLook)
			}
		}
		costs[i] = cost
	}
}

// cycleLook is about how many steps lie between two looks of the kernels.
const cycleLook = 128

// stepsToCycle returns after how many steps the orbit of pixel i of job is as good as
// where it was before, or limit (R. Brent, "An improved Monte Carlo factorization
// algorithm", 1980). It computes in float64, to the precision of the job.
func stepsToCycle(job *kernels.Mandelbrot, i, limit int) int {
	p := complex(job.CX[i%len(job.CX)], job.CY[i/len(job.CX)])
	c, z := p, complex128(0)
	if job.Julia {
		c, z = complex(job.CRe, job.CIm), p
	}
	epsilon := 1.0 / (1 << 52)
	if job.T == kernels.Float32 {
		epsilon = 1.0 / (1 << 23)
	}
	kept := z
	for n, renew := 1, 16; n < limit; n++ {
		z = z*z + c
		if d := z - kept; math.Abs(real(d))+math.Abs(imag(d)) < epsilon {
			return n
		}
		if n == renew {
			kept, renew = z, 2*renew
		}
	}
	return limit
}
