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
	costInside(maxIter, job, inside, cycleSteps, costs)
	for i, cost := range costs {
		if i%2 == 1 && cost != 0 || i%2 == 0 && (cost < cycleLook || cost > cycleLeast) {
			t.Fatalf("pixel %d costs %g", i, cost)
		}
	}
	job.Julia, job.CRe, job.CIm = true, -0.39054087021840008, -0.58678790734696873
	job.CX, job.CY = []float64{-0.3687}, []float64{-0.3}
	if costInside(maxIter, job, []int{0}, cycleSteps, costs); costs[0] != maxIter {
		t.Errorf("an orbit without a cycle costs %g", costs[0])
	}
	costInside(maxIter, job, nil, cycleSteps, nil)
	if costs[0] = math.NaN(); stepsToCycle(job, 0, 0) != 0 {
		t.Error("no step was allowed")
	}
}

// Orbits that take longer than anybody looks cost what such orbits do: at the edge of the set,
// where ever fewer last ever longer, and inside of a disc on which none ever repeats itself.
func TestCostOfOrbitsThatTakeLong(t *testing.T) {
	const w, h, maxIter = 400, 220, 200_000
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: maxIter}
	job.CX, job.CY = kernels.Axes(job.T, -0.5, -0.475, 3, w, h)
	var inside []int
	for i := range w * h {
		if p := complex(job.CX[i%w], job.CY[i/w]); !job.Interior(i%w, i/w) && stays(p, 600) {
			inside = append(inside, i)
		}
	}
	costs, truth, guess := make([]float64, w*h), 0.0, 0.0
	costInside(maxIter, job, inside, len(inside)*cycleLeast, costs)
	for _, i := range inside {
		truth += min(maxIter, 2*float64(stepsToCycle(job, i, maxIter))+cycleLook)
		guess += costs[i]
	}
	if ratio := guess / truth; ratio < 0.4 || ratio > 2.5 {
		t.Errorf("%d pixels are thought to cost %.2f of what they do", len(inside), ratio)
	}
	if never := stepsBeyond(1000, maxIter, 5000, 5000); never < 0.9*maxIter {
		t.Errorf("orbits of which none ends are thought to end after %g steps", never)
	}
}

// stays reports whether the orbit of c is still near after so many steps.
func stays(c complex128, steps int) bool {
	z := complex128(0)
	for range steps {
		if z = z*z + c; real(z)*real(z)+imag(z)*imag(z) > 4 {
			return false
		}
	}
	return true
}

// A few samples that are all of the cost say little of where else there is some.
func TestSmoothedSample(t *testing.T) {
	few := costSample{cols: 100, rows: 10, costs: make([]float64, 1000)}
	few.costs[17], few.costs[500] = 1e6, 1e6
	before := few.mean()
	if n := few.effective(); n < 2 || n > 2.1 {
		t.Errorf("two of a thousand count as %g", n)
	}
	few.smooth()
	if after := few.mean(); math.Abs(after-before) > 0.02*before {
		t.Errorf("all cost %g in place of %g", after, before)
	}
	if least := few.costs[0]; least < 0.5*before || least > before {
		t.Errorf("a pixel costs %g where the mean is %g", least, before)
	}
	many := costSample{cols: 100, rows: 10, costs: make([]float64, 1000)}
	for i := range many.costs {
		many.costs[i] = float64(i % 2 * 1000)
	}
	many.smooth()
	if most := many.costs[1]; most < 980 || many.costs[0] > 10 {
		t.Errorf("pixels cost %g and %g in place of 0 and 1000", many.costs[0], most)
	}
}
