// Package devicetest is the conformance suite for devices: whatever a device
// is, its results must equal those of the plain Go kernels bit for bit, it must
// stop when it is told to, and it must keep to its budget.
package devicetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

// Test runs the whole suite on d, in the types that d computes exactly.
func Test(t *testing.T, d device.Device) {
	t.Run("bits", func(t *testing.T) { testBits(t, d) }) // before budget
	t.Run("products/f32", func(t *testing.T) { testProducts[float32](t, d) })
	t.Run("products/f64", func(t *testing.T) { testProducts[float64](t, d) })
	t.Run("tiles", func(t *testing.T) { testTiles(t, d) })
	t.Run("concurrent", func(t *testing.T) { testConcurrent(t, d) })
	t.Run("cancel", func(t *testing.T) { testCancel(t, d) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, d) })
	t.Run("budget", func(t *testing.T) { testBudget(t, d) })
}

// oracle caches what plain Go computes for each case, for all devices.
var oracle sync.Map // case name → *kernels.Result

// Reference returns what plain Go computes for the whole of job, which is
// known by name.
func Reference(name string, job *kernels.Mandelbrot) *kernels.Result {
	if r, ok := oracle.Load(name); ok {
		return r.(*kernels.Result)
	}
	all := job.Bounds()
	r := kernels.NewResult(job, all)
	const chunk = 512
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var stop atomic.Bool
			for {
				from := int(next.Add(chunk)) - chunk
				if from >= all.Area() {
					return
				}
				cpu.Generic.Mandelbrot(job, all, r, cpu.Once(from, min(from+chunk, all.Area())), &stop)
			}
		})
	}
	wg.Wait()
	oracle.Store(name, r)
	return r
}

// exact reports whether d computes in job's type exactly.
func exact(d device.Device, job kernels.Job) bool {
	return d.Info().Support(job.DType()) == device.Exact
}

func testBits(t *testing.T, d device.Device) {
	tested := 0
	for _, c := range Cases() {
		if !exact(d, c.Job) {
			continue
		}
		tested++
		t.Run(c.Name, func(t *testing.T) {
			got := compute(t, d, c.Job, c.Job.Bounds())
			compare(t, c.Job, c.Job.Bounds(), got, Reference(c.Name, c.Job))
		})
	}
	if tested == 0 {
		t.Errorf("%s computes no type exactly", d.ID())
	}
}

// begin begins job on d and closes the runner when the test ends.
func begin(t *testing.T, d device.Device, job kernels.Job) kernels.Runner {
	t.Helper()
	r, err := d.Begin(t.Context(), job)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close the runner: %v", err)
		}
	})
	return r
}

// compute returns what d makes of tile.
func compute(t *testing.T, d device.Device, job kernels.Job, tile kernels.Tile) *kernels.Result {
	t.Helper()
	r := kernels.NewResult(job, tile)
	for _, plane := range r.Planes {
		for i := range plane {
			plane[i] = 0xA5 // every element has to be written
		}
	}
	if err := begin(t, d, job).Run(t.Context(), tile, r); err != nil {
		t.Fatalf("compute tile %v: %v", tile, err)
	}
	return r
}

// compare reports where got, the result of tile, differs from want, that of
// the whole job.
func compare(t *testing.T, job kernels.Job, tile kernels.Tile, got, want *kernels.Result) {
	t.Helper()
	width := job.Bounds().W
	differ := 0
	for p := range job.Planes() {
		// All planes have four-byte elements: their bits are compared, so that
		// a NaN or the sign of a zero counts too.
		g, w := kernels.Elements[uint32](got.Planes[p]), kernels.Elements[uint32](want.Planes[p])
		for i, v := range g {
			x, y := tile.X+i%tile.W, tile.Y+i/tile.W
			if v == w[y*width+x] {
				continue
			}
			if differ++; differ <= 3 {
				t.Errorf("plane %d, pixel (%d, %d): %#x, want %#x", p, x, y, v, w[y*width+x])
			}
		}
	}
	if differ > 3 {
		t.Errorf("%d elements of %d differ", differ, tile.Area())
	}
}

// testTiles computes random tiles of one job with one runner.
func testTiles(t *testing.T, d device.Device) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, c := range Cases() {
		if c.Name != "seahorse/f32" && c.Name != "seahorse/f64" || !exact(d, c.Job) {
			continue
		}
		want := Reference(c.Name, c.Job)
		runner := begin(t, d, c.Job)
		all := c.Job.Bounds()
		for range 25 {
			tile := randomTile(rng, all)
			got := kernels.NewResult(c.Job, tile)
			if err := runner.Run(t.Context(), tile, got); err != nil {
				t.Fatalf("compute tile %v: %v", tile, err)
			}
			compare(t, c.Job, tile, got, want)
		}
	}
}

func randomTile(rng *rand.Rand, all kernels.Tile) kernels.Tile {
	w, h := 1+rng.IntN(all.W), 1+rng.IntN(all.H)
	return kernels.Tile{X: rng.IntN(all.W - w + 1), Y: rng.IntN(all.H - h + 1), W: w, H: h}
}

// testConcurrent gives the device as many tiles at once as it has slots, and
// another job beside them.
func testConcurrent(t *testing.T, d device.Device) {
	cases := slices.DeleteFunc(Cases(), func(c Case) bool {
		return !exact(d, c.Job) || !strings.HasPrefix(c.Name, "full/") && !strings.HasPrefix(c.Name, "seahorse/")
	})
	if len(cases) < 2 {
		t.Fatalf("%d cases to run at once", len(cases))
	}
	runners := []kernels.Runner{begin(t, d, cases[0].Job), begin(t, d, cases[1].Job)}
	var wg sync.WaitGroup
	for i, runner := range runners {
		c := cases[i]
		want := Reference(c.Name, c.Job)
		for range d.Slots() {
			wg.Go(func() {
				for range 3 {
					got := kernels.NewResult(c.Job, c.Job.Bounds())
					if err := runner.Run(t.Context(), c.Job.Bounds(), got); err != nil {
						t.Error(err)
						return
					}
					compare(t, c.Job, c.Job.Bounds(), got, want)
				}
			})
		}
	}
	wg.Wait()
}

// testCancel stops a job that would take hours.
func testCancel(t *testing.T, d device.Device) {
	job := endless(d)
	runner := begin(t, d, job)
	ctx, cancel := context.WithCancel(t.Context())
	result := kernels.NewResult(job, job.Bounds())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx, job.Bounds(), result) }()
	time.Sleep(50 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled Run returned %v", err)
		}
	case <-time.After(10 * time.Second): // far beyond the promised 0.1 s: a hang
		t.Fatal("a cancelled Run does not return")
	}
	before := slices.Concat(result.Planes...)
	time.Sleep(20 * time.Millisecond)
	if !slices.Equal(before, slices.Concat(result.Planes...)) {
		t.Error("the result was written to after Run had returned")
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runner.Run(cancelled, job.Bounds(), result); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with a context that is done returned %v", err)
	}
}

// endless returns a job whose pixels all take the largest number of steps.
func endless(d device.Device) *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{T: kernels.Float32, MaxIter: kernels.MaxIterLimit, R2: 4}
	if !exact(d, job) {
		job.T = kernels.Float64
	}
	// In a Siegel disc orbits go round for ever, and never come to where they were.
	job.Julia, job.CRe, job.CIm = true, job.T.Round(-0.39054087021840008), job.T.Round(-0.58678790734696873)
	job.CX, job.CY = kernels.Axes(job.T, -0.3687, -0.3377, 0.1, 64, 64)
	return job
}

// testRefusals gives the device what it cannot compute.
func testRefusals(t *testing.T, d device.Device) {
	if _, err := d.Begin(t.Context(), unknownJob{}); !errors.Is(err, device.ErrUnsupported) {
		t.Errorf("a job of an unknown kernel began: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	job := endless(d)
	if _, err := d.Begin(ctx, job); !errors.Is(err, context.Canceled) {
		t.Errorf("a job began although its context was done: %v", err)
	}
	runner := begin(t, d, job)
	outside := kernels.Tile{X: 60, Y: 0, W: 10, H: 1}
	if err := runner.Run(t.Context(), outside, kernels.NewResult(job, outside)); err == nil {
		t.Error("a tile outside the job was computed")
	}
}

type unknownJob struct{}

func (unknownJob) Kernel() string          { return "unknown" }
func (unknownJob) Bounds() kernels.Tile    { return kernels.Tile{W: 1, H: 1} }
func (unknownJob) DType() kernels.DType    { return kernels.Float32 }
func (unknownJob) Planes() []kernels.DType { return []kernels.DType{kernels.Float32} }

// testBudget checks that what the device has allocated stayed under its budget.
func testBudget(t *testing.T, d device.Device) {
	info := d.Info()
	if info.Budget <= 0 || info.Budget > info.Memory {
		t.Errorf("the budget is %d of %d bytes", info.Budget, info.Memory)
	}
	if peak := d.PeakBytes(); peak > info.Budget || peak <= 0 && info.Backend != "cpu" {
		t.Errorf("%d bytes were allocated, of a budget of %d", peak, info.Budget)
	}
}
