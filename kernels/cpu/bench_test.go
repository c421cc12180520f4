package cpu

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// iterations returns the steps that the definition of job takes for the pixels
// whose counts are given. Pixels that the interior test settles take none.
func iterations(job *kernels.Mandelbrot, counts []uint32) float64 {
	n := 0
	for p, count := range counts {
		switch {
		case count > 0:
			n += int(count)
		case !job.Interior(p%len(job.CX), p/len(job.CX)):
			n += job.MaxIter
		}
	}
	return float64(n)
}

// BenchmarkMandelbrot reports how many steps of the definition are done in a
// second by one goroutine.
func BenchmarkMandelbrot(b *testing.B) {
	views := []view{
		{name: "full", re: -0.5, span: 3, w: 480, h: 320, maxIter: 1000, r: 256},
		{name: "seahorse", re: -0.746, im: 0.102083, span: 0.005, w: 240, h: 200, maxIter: 5000, r: 256},
		// Inside the period-3 bulb, which the interior test does not know.
		{name: "inside", re: -0.1226, im: 0.7449, span: 0.05, w: 256, h: 64, maxIter: 2000, r: 256},
		{name: "valley", re: -0.7463, im: 0.1102, span: 0.005, w: 480, h: 320, maxIter: 5000, r: 256},
		{name: "outside", re: 2, im: 2, span: 2, w: 480, h: 320, maxIter: 1000, r: 256},
	}
	for _, variant := range Variants() {
		for _, typ := range types {
			for _, v := range views {
				b.Run(fmt.Sprintf("%s/%s/%s", variant, typ, v.name), func(b *testing.B) {
					job := v.job(typ)
					r := kernels.NewResult(job, job.Bounds())
					all := job.Bounds()
					for b.Loop() {
						variant.Mandelbrot(job, all, r, Once(0, all.Area()), new(atomic.Bool))
					}
					done := float64(b.N) * iterations(job, kernels.Elements[uint32](r.Planes[0]))
					if variant != Generic {
						b.ReportMetric(100*idling(variant, job), "idle-%")
					}
					b.ReportMetric(done/1e9/b.Elapsed().Seconds(), "Giter/s")
					b.ReportMetric(float64(b.N*job.Bounds().Area())/1e6/b.Elapsed().Seconds(), "Mpixel/s")
				})
			}
		}
	}
}

// idling returns what part of the steps of the lanes that orbits leave and enter
// was not asked for: a lane had no orbit, or went on with one that was done.
func idling(v Variant, job *kernels.Mandelbrot) float64 {
	if job.T == kernels.Float32 {
		return idlingOf[float32](v, job)
	}
	return idlingOf[float64](v, job)
}

func idlingOf[T real](v Variant, job *kernels.Mandelbrot) float64 {
	all := job.Bounds()
	r := kernels.NewResult(job, all)
	o := newOrbits[T](v, job, all, r, Once(0, all.Area()))
	o.compute(new(atomic.Bool))
	wanted := 0.0
	for p, n := range kernels.Elements[uint32](r.Planes[0]) {
		if n == 0 && !job.Interior(p%all.W, p/all.W) {
			n = uint32(job.MaxIter)
		}
		wanted += float64(max(int(n)-firstSteps, 0))
	}
	return 1 - wanted/(float64(o.relay.done)*float64(o.relay.width))
}
