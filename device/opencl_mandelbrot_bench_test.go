package device

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// BenchmarkMandelbrot has the CPU and the OpenCL device compute the same images by
// turns, since a machine's speed may drift, and reports the medians in steps of the
// definition a nanosecond, without those of pixels that the interior test settles.
func BenchmarkMandelbrot(b *testing.B) {
	views := []mandelbrotView{
		{name: "full", re: -0.5, span: 3, w: 1920, h: 1280, maxIter: 1000, r: 256},
		{name: "hard", re: -0.746, im: 0.102083, span: 0.005, w: 1920, h: 1280, maxIter: 5000, r: 256},
		{name: "inside", re: -0.1226, im: 0.7449, span: 0.05, w: 1920, h: 1280, maxIter: 2000, r: 256},
	}
	for _, v := range views {
		for _, t := range realTypes {
			b.Run(v.name+"/"+t.String(), func(b *testing.B) { compareSpeeds(b, v.job(t)) })
		}
	}
}

func compareSpeeds(b *testing.B, job *kernels.Mandelbrot) {
	job.Magnitudes = false
	own, err := OpenCPU(0)
	if err != nil {
		b.Fatal(err)
	}
	defer own.Close()
	devices := []Device{own, openOpenCL(b, 0)}
	runners := make([]kernels.Runner, len(devices))
	for i, d := range devices {
		if runners[i], err = d.Begin(b.Context(), job); err != nil {
			b.Fatal(err)
		}
		defer runners[i].Close()
	}
	steps := float64(definitionSteps(job, runRows(b, runners[0], job, own.Slots())))
	runRows(b, runners[1], job, openCLSlots) // measures the device's speed

	times := make([][]time.Duration, len(devices))
	for b.Loop() {
		for i, d := range devices {
			start := time.Now()
			runRows(b, runners[i], job, d.Slots())
			times[i] = append(times[i], time.Since(start))
		}
	}
	rate := func(i int) float64 {
		slices.Sort(times[i])
		return steps / float64(times[i][len(times[i])/2].Nanoseconds())
	}
	b.ReportMetric(rate(0), "cpu-Giter/s")
	b.ReportMetric(rate(1), "opencl-Giter/s")
	b.ReportMetric(rate(1)/rate(0), "opencl/cpu")
	b.ReportMetric(0, "ns/op")
}

// runRows computes the whole job of r, so many of its tiles at a time.
func runRows(b *testing.B, r kernels.Runner, job kernels.Job, slots int) []*kernels.Result {
	tiles := tiler.Split(job.Bounds(), 8)
	results := make([]*kernels.Result, len(tiles))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range slots {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(tiles); i = int(next.Add(1)) - 1 {
				results[i] = kernels.NewResult(job, tiles[i])
				if err := r.Run(b.Context(), tiles[i], results[i]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return results
}

// definitionSteps returns the steps that the definition does of the job, by what
// runRows returned.
func definitionSteps(job *kernels.Mandelbrot, results []*kernels.Result) (steps int64) {
	for i, tile := range tiler.Split(job.Bounds(), len(results)) {
		for p, n := range kernels.Elements[uint32](results[i].Planes[0]) {
			switch {
			case n > 0:
				steps += int64(n)
			case !job.Interior(tile.X+p%tile.W, tile.Y+p/tile.W):
				steps += int64(job.MaxIter)
			}
		}
	}
	return steps
}
