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

	// Where a few of the samples, fewer than sampleFew, make up the cost, another sample is
	// taken with one pixel in sampleFine, if the job takes at least fineCost: it is then a
	// hundredth of the work at most.
	sampleFew  = 256
	sampleFine = 60
	fineCost   = 1 << 29

	// sampleSteps bounds what the sample may take: fractions of a second.
	sampleSteps = 1 << 26

	// cycleSteps bounds the steps in which cycles are looked for; in the second sample the job's
	// cost ÷ cycleShare does, if that is more. cycleLeast is how many each orbit gets that is
	// looked at.
	cycleSteps = 1 << 22
	cycleShare = 1024
	cycleLeast = 2048

	// pixelCost is what a pixel costs besides its iterations, in iterations.
	pixelCost = 8

	// priorSamples is how many samples it weighs that a pixel may cost as much as any other
	// (P. Laplace's rule of succession).
	priorSamples = 4
)

// sampleCost estimates what each part of job costs, from a coarse sample of it.
func (e *Engine) sampleCost(ctx context.Context, job *kernels.Mandelbrot) (tiler.Cost, error) {
	all := job.Bounds()
	if all.Area() < sampleLeast*sampleShare {
		return tiler.Uniform(1), nil
	}
	s, err := e.takeSample(ctx, job, sampleShare, cycleSteps)
	if err != nil {
		return nil, err
	}
	if cost := s.mean() * float64(all.Area()); cost > fineCost && s.effective() < sampleFew {
		if s, err = e.takeSample(ctx, job, sampleFine, max(cycleSteps, int(min(cost/cycleShare, sampleSteps/4)))); err != nil {
			return nil, err
		}
	}
	s.smooth()
	return tiler.NewCostMap(all.W, all.H, s.cols, s.rows, s.costs, pixelCost), nil
}

// costSample is what some pixels of a job cost, in iterations, on a grid.
type costSample struct {
	cols, rows int
	costs      []float64
}

// takeSample looks at one pixel of job in share, and for cycles in about so many steps.
func (e *Engine) takeSample(ctx context.Context, job *kernels.Mandelbrot, share float64, cycles int) (s costSample, err error) {
	all := job.Bounds()
	samples := float64(all.Area()) / share
	cols := int(math.Sqrt(samples * float64(all.W) / float64(all.H)))
	s.cols = min(max(cols, 1), all.W, int(samples))
	s.rows = min(max(int(samples)/s.cols, 1), all.H)
	sample := job.Sample(s.cols, s.rows)
	// What has not escaped by the limit is taken to stay inside.
	sample.MaxIter = min(sample.MaxIter, max(sampleSteps/(s.cols*s.rows), 1))

	runner, err := e.spare.Begin(ctx, sample)
	if err != nil {
		return s, err
	}
	defer runner.Close()
	result := kernels.NewResult(sample, sample.Bounds())
	if err := runner.Run(ctx, sample.Bounds(), result); err != nil {
		return s, err
	}
	counts := kernels.Elements[uint32](result.Planes[0])
	s.costs = make([]float64, len(counts))
	var inside []int
	for i, n := range counts {
		switch {
		case n > 0:
			s.costs[i] = float64(n)
		case !sample.Interior(i%s.cols, i/s.cols):
			inside = append(inside, i)
		}
	}
	costInside(job.MaxIter, sample, inside, cycles, s.costs)
	return s, nil
}

// mean returns the mean cost of a pixel.
func (s costSample) mean() float64 {
	sum := 0.0
	for _, c := range s.costs {
		sum += c + pixelCost
	}
	return sum / float64(len(s.costs))
}

// effective returns how many samples of equal cost would say as much of the whole cost
// (L. Kish, "Survey Sampling", 1965).
func (s costSample) effective() float64 {
	sum, squares := 0.0, 0.0
	for _, c := range s.costs {
		sum, squares = sum+(c+pixelCost), squares+(c+pixelCost)*(c+pixelCost)
	}
	return sum * sum / squares
}

// smooth has all pixels cost something of what few samples have found: there may be as
// much where they were not.
func (s costSample) smooth() {
	effective, mean := s.effective(), s.mean()
	for i, c := range s.costs {
		s.costs[i] = (effective*c + priorSamples*mean) / (effective + priorSamples)
	}
}

// costInside estimates the costs of the pixels of sample that do not escape. The
// kernels go on until they find that the orbit repeats itself, and to maxIter if it
// does not. Where there are too many pixels to look at each, one stands for those
// after it. So many steps are enough, or little more.
func costInside(maxIter int, sample *kernels.Mandelbrot, inside []int, enough int, costs []float64) {
	limit := min(cycleLeast, maxIter)
	each := max(1, (len(inside)*limit+enough-1)/enough)
	var steps []int
	left := enough
	for k := 0; k < len(inside); k += each {
		n := stepsToCycle(sample, inside[k], limit)
		steps, left = append(steps, n), left-n
	}
	open := func() int { return countFrom(steps, limit) }
	for limit < maxIter && open() > 0 && open()*2*limit <= left {
		next := min(2*limit, maxIter)
		for k, n := range steps {
			if n == limit {
				steps[k] = stepsToCycle(sample, inside[k*each], next)
				left -= steps[k]
			}
		}
		limit = next
	}
	further := stepsBeyond(limit, maxIter, countFrom(steps, limit/2), open())
	for k, i := range inside {
		n := float64(steps[k/each])
		if steps[k/each] == limit {
			n = further
		}
		// The kernels look seldom, and at a time that does not suit the orbit.
		costs[i] = min(float64(maxIter), 2*n+cycleLook)
	}
}

// countFrom returns how many of steps are not below least.
func countFrom(steps []int, least int) (count int) {
	for _, n := range steps {
		if n >= least {
			count++
		}
	}
	return count
}

// stepsBeyond estimates the mean steps, to maxIter at most, of orbits that have not ended
// after limit, when so many had not after half of it and so many have not now. Near the
// edge of the set about half of them end in each octave; those that never repeat themselves
// do not.
func stepsBeyond(limit, maxIter, half, open int) float64 {
	slope := math.Log2(float64(half+2) / float64(open+1)) // of a Pareto distribution, about 1 for few
	ratio := float64(maxIter) / float64(limit)
	if math.Abs(1-slope) < 1e-6 {
		return float64(limit) * (1 + math.Log(ratio))
	}
	return float64(limit) * (1 + (math.Pow(ratio, 1-slope)-1)/(1-slope))
}

// cycleLook is about how many steps lie between two looks of the kernels.
const cycleLook = 128

// escaped is farther than any orbit comes again that stays inside.
const escaped = 4 * maxEscapeRadius

// stepsToCycle returns after how many steps the orbit of pixel i of job is as good as
// where it was before, or has escaped, or limit (R. Brent, "An improved Monte Carlo factorization
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
		d := z - kept
		if away := math.Abs(real(d)) + math.Abs(imag(d)); away < epsilon || away > escaped {
			return n
		}
		if n == renew {
			kept, renew = z, 2*renew
		}
	}
	return limit
}
