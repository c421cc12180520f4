package gpurun

import (
	"math"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// TestStepsToCycle has orbits that converge to cycles at a known pace, and one that
// never does.
func TestStepsToCycle(t *testing.T) {
	one := func(typ kernels.DType, cx, cy float64) *kernels.Mandelbrot {
		return &kernels.Mandelbrot{T: typ, CX: []float64{cx}, CY: []float64{cy}}
	}
	golden := one(kernels.Float64, -0.3687, -0.3)
	golden.Julia, golden.CRe, golden.CIm = true, -0.39054087021840008, -0.58678790734696873
	for _, test := range []struct {
		name        string
		job         *kernels.Mandelbrot
		least, most int
	}{
		// A fixed point with multiplier 2z = 1−√(1−4c): 0.2254 for c = 0.1.
		{"fixed point", one(kernels.Float64, 0.1, 0), 16, 16 + 32},
		{"cycle of 2", one(kernels.Float64, -1, 0), 1, 18},
		{"cycle of 3", one(kernels.Float64, -0.1226, 0.7449), 16, 80},
		{"slow", one(kernels.Float64, 0.2499, 0), 500, 2100},
		{"slow, in float32", one(kernels.Float32, 0.2499, 0), 100, 520},
		{"never", golden, 100_000, 100_000},
	} {
		if n := stepsToCycle(test.job, 0, 100_000); n < test.least || n > test.most {
			t.Errorf("%s: %d steps, want %d to %d", test.name, n, test.least, test.most)
		}
	}
}

func TestCostInside(t *testing.T) {
	const w, h, maxIter = 300, 200, 1_000_000
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: maxIter}
	job.CX, job.CY = kernels.Axes(job.T, -0.1226, 0.7449, 0.01, w, h)
	costs := make([]float64, w*h)
	var inside []int
	for i := 0; i < w*h; i += 2 {
		inside = append(inside, i)
	}
	costInside(maxIter, job, inside, costs)
	for i, cost := range costs {
		if i%2 == 1 && cost != 0 || i%2 == 0 && (cost < cycleLook || cost > cycleLeast) {
			t.Fatalf("pixel %d costs %g", i, cost)
		}
	}
	job.Julia, job.CRe, job.CIm = true, -0.39054087021840008, -0.58678790734696873
	job.CX, job.CY = []float64{-0.3687}, []float64{-0.3}
	if costInside(maxIter, job, []int{0}, costs); costs[0] != maxIter {
		t.Errorf("an orbit without a cycle costs %g", costs[0])
	}
	costInside(maxIter, job, nil, nil)
	if costs[0] = math.NaN(); stepsToCycle(job, 0, 0) != 0 {
		t.Error("no step was allowed")
	}
}
