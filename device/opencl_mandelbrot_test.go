package device

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

// mandelbrotView describes a job.
type mandelbrotView struct {
	name         string
	re, im, span float64
	w, h         int
	maxIter      int
	r            float64
	julia        bool
	cre, cim     float64
}

func (v mandelbrotView) job(t kernels.DType) *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{
		T: t, MaxIter: v.maxIter, R2: t.Round(float64(v.r * v.r)), Magnitudes: true,
		Julia: v.julia, CRe: t.Round(v.cre), CIm: t.Round(v.cim),
	}
	job.CX, job.CY = kernels.Axes(t, v.re, v.im, v.span, v.w, v.h)
	return job
}

// mandelbrotViews hold every kind of pixel: orbits that escape at once, late and never,
// that overflow and become NaN, and constants that no block of steps may be tested with.
var mandelbrotViews = []mandelbrotView{
	{name: "full", re: -0.5, span: 3, w: 161, h: 107, maxIter: 1000, r: 256},
	{name: "full R=2", re: -0.5, span: 3, w: 161, h: 107, maxIter: 1000, r: 2},
	{name: "full R=1e9", re: -0.5, span: 3, w: 61, h: 41, maxIter: 333, r: 1e9},
	{name: "seahorse", re: -0.7463, im: 0.1102, span: 0.005, w: 83, h: 61, maxIter: 2001, r: 256},
	{name: "seahorse R=2", re: -0.7463, im: 0.1102, span: 0.005, w: 83, h: 61, maxIter: 2001, r: 2},
	{name: "real axis", re: -1.4, span: 1.4, w: 129, h: 1, maxIter: 1500, r: 2},
	{name: "antenna", re: -1.7548, span: 1e-3, w: 65, h: 5, maxIter: 700, r: 256},
	{name: "tip", re: -2, span: 0.01, w: 63, h: 7, maxIter: 300, r: 2},
	{name: "tip 1e-12", re: -2, span: 1e-12, w: 63, h: 7, maxIter: 300, r: 2},
	{name: "tip 1e-15", re: -2, span: 1e-15, w: 17, h: 3, maxIter: 300, r: 2},
	{name: "inside", re: -0.1226, im: 0.7449, span: 0.02, w: 32, h: 14, maxIter: 1000, r: 256},
	{name: "inside the cardioid", span: 0.02, w: 32, h: 4, maxIter: 1 << 30, r: 256},
	{name: "outside", re: 3, im: 3, span: 1, w: 32, h: 4, maxIter: 1000, r: 256},
	{name: "far outside", span: 1e20, w: 32, h: 31, maxIter: 10, r: 1e9},
	{name: "deep", re: -0.7436438870371587, im: 0.13182590420531198, span: 1e-13, w: 31, h: 9, maxIter: 5000, r: 256},
	{name: "deeper than float64", re: -0.7436438870371587, im: 0.13182590420531198, span: 1e-16, w: 9, h: 9, maxIter: 3000, r: 2},
	{name: "cusp", re: 0.25, span: 1e-4, w: 33, h: 9, maxIter: 3000, r: 256},
	{name: "dendrite", span: 4, w: 64, h: 33, maxIter: 1000, r: 256, julia: true, cim: 1},
	{name: "rabbit", span: 4, w: 65, h: 33, maxIter: 300, r: 2, julia: true, cre: -0.123, cim: 0.745},
	{name: "disc", span: 2.5, w: 65, h: 33, maxIter: 100, r: 2, julia: true},
	{name: "interval", span: 4.01, w: 257, h: 1, maxIter: 500, r: 2, julia: true, cre: -2},
	{name: "around the interval", span: 4.01, w: 65, h: 7, maxIter: 500, r: 2, julia: true, cre: -2},
	{name: "|c| = R", span: 12, w: 65, h: 7, maxIter: 50, r: 5, julia: true, cre: -3, cim: 4},
	{name: "|c| = R = 1e9", span: 1e5, w: 65, h: 7, maxIter: 50, r: 1e9, julia: true, cre: 1e9},
	// x+x is infinite, so y and r2 are NaN where y is 0.
	{name: "overflow in float32", span: 6e38, w: 65, h: 3, maxIter: 40, r: 256, julia: true, cim: 1},
	{name: "overflow in float64", re: 0.2e308, span: 1.7e308, w: 65, h: 3, maxIter: 40, r: 256, julia: true, cim: 1},
	{name: "huge z", span: 1e30, w: 65, h: 5, maxIter: 50, r: 256, julia: true, cim: 1},
	{name: "denormal z", span: 1e-38, w: 65, h: 5, maxIter: 50, r: 256, julia: true},
}

// shapes runs f with a device that uses its own kernel, and with one that uses each of
// the others: that for GPUs, whose results are read as from memory of the device's own,
// and that for CPUs with vectors of some sizes.
func shapes(t *testing.T, f func(t *testing.T, d *openCLDevice)) {
	for name, lanes := range map[string]int{"its own": 0, "scalar": 1, "vectors of 2": 2, "vectors of 4": 4, "vectors of 16": 16} {
		t.Run(name, func(t *testing.T) {
			d := openOpenCL(t, 0)
			d.lanes = lanes
			if lanes == 1 {
				apart := *d.device
				apart.HostUnified = false
				d.device = &apart
			}
			f(t, d)
		})
	}
}

// wantPlanes returns the planes of tile of job as plain Go computes them, which the
// tests of kernels/cpu compare with the definition.
func wantPlanes(t testing.TB, job *kernels.Mandelbrot, tile kernels.Tile) *kernels.Result {
	t.Helper()
	return runTile(t, newCPUVariant(cpu.Generic, 0), job, tile)
}

// runTile returns what d computes of tile of job.
func runTile(t testing.TB, d Device, job *kernels.Mandelbrot, tile kernels.Tile) *kernels.Result {
	t.Helper()
	r, err := d.Begin(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := kernels.NewResult(job, tile)
	for _, plane := range out.Planes {
		for i := range plane {
			plane[i] = 0xa5
		}
	}
	if err := r.Run(t.Context(), tile, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// compareTile fails the test if d computes other bits of tile of job than plain Go.
func compareTile(t *testing.T, what string, d Device, job *kernels.Mandelbrot, tile kernels.Tile) {
	t.Helper()
	got, want := runTile(t, d, job, tile), wantPlanes(t, job, tile)
	for p := range want.Planes {
		g, w := kernels.Elements[uint32](got.Planes[p]), kernels.Elements[uint32](want.Planes[p])
		for i := range w {
			if g[i] != w[i] {
				x, y := tile.X+i%tile.W, tile.Y+i/tile.W
				t.Errorf("%s: %s, tile %v, pixel (%d, %d) = (%v, %v), plane %d: got %#x, want %#x",
					what, job.T, tile, x, y, job.CX[x], job.CY[y], p, g[i], w[i])
				return
			}
		}
	}
}

var realTypes = []kernels.DType{kernels.Float32, kernels.Float64}

// TestMandelbrotViews compares whole views and a part of each, with magnitudes and
// without.
func TestMandelbrotViews(t *testing.T) {
	shapes(t, func(t *testing.T, d *openCLDevice) {
		for _, v := range mandelbrotViews {
			for _, typ := range realTypes {
				job := v.job(typ)
				compareTile(t, v.name, d, job, job.Bounds())
				job.Magnitudes = false
				part := kernels.Tile{X: v.w / 3, Y: v.h / 3, W: (v.w + 1) / 2, H: (v.h + 1) / 2}
				compareTile(t, v.name+", a part", d, job, part)
			}
		}
	})
}

// TestMandelbrotLittleMemory has no room for all pixels at once, so there are several
// bands, and no room for more than one work-group.
func TestMandelbrotLittleMemory(t *testing.T) {
	const memory = 60_000
	shapes(t, func(t *testing.T, d *openCLDevice) {
		for _, v := range mandelbrotViews[:6] {
			for _, typ := range realTypes {
				d.ledger.SetBudget(memory)
				job := v.job(typ)
				compareTile(t, v.name, d, job, job.Bounds())
				if peak := d.ledger.Peak(); peak > memory {
					t.Errorf("%s: took %d bytes", v.name, peak)
				}
			}
		}
	})
}

// TestMandelbrotShortLaunches has a device believed to be so slow that every orbit takes
// many launches.
func TestMandelbrotShortLaunches(t *testing.T) {
	shapes(t, func(t *testing.T, d *openCLDevice) {
		for _, v := range mandelbrotViews {
			v.maxIter = min(v.maxIter*3, 5000)
			for _, typ := range realTypes {
				d.speeds[typ] = &speedometer{rate: 1}
				job := v.job(typ)
				compareTile(t, v.name, d, job, job.Bounds())
			}
		}
	})
}

// TestMandelbrotCycles has orbits with attracting cycles of many periods, which would
// take years if they were not found to repeat themselves: in launches of the usual
// length, and in some so short that no place and its return fit into one.
func TestMandelbrotCycles(t *testing.T) {
	// Centres of bulbs, by the period.
	bulbs := map[int][2]float64{
		3: {-0.1226, 0.7449}, 4: {0.2823, 0.5301}, 5: {0.3795, 0.3349}, 6: {0.3890, 0.2159}, 7: {0.3761, 0.1447},
	}
	shapes(t, func(t *testing.T, d *openCLDevice) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for period, c := range bulbs {
			for _, typ := range realTypes {
				job := mandelbrotView{re: c[0], im: c[1], span: 0.003, w: 40, h: 6, maxIter: kernels.MaxIterLimit, r: 256}.job(typ)
				want := kernels.NewResult(job, job.Bounds())
				for _, rate := range []float64{1e8, 1} {
					d.speeds[typ] = &speedometer{rate: rate, measured: true}
					got := kernels.NewResult(job, job.Bounds())
					if err := runIn(ctx, d, job, got); err != nil {
						t.Fatalf("period %d, %s, %g steps a second: %v", period, typ, rate, err)
					}
					if !slices.EqualFunc(got.Planes, want.Planes, slices.Equal[[]byte]) {
						t.Errorf("period %d, %s: an orbit has left", period, typ)
					}
				}
			}
		}
	})
}

// runIn computes the whole job on d.
func runIn(ctx context.Context, d Device, job *kernels.Mandelbrot, out *kernels.Result) error {
	r, err := d.Begin(ctx, job)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Run(ctx, job.Bounds(), out)
}

// TestMandelbrotMaxIter covers the seams between the first steps, blocks, rounds and
// what is left after them.
func TestMandelbrotMaxIter(t *testing.T) {
	shapes(t, func(t *testing.T, d *openCLDevice) {
		for _, n := range []int{1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 72, 127, 128, 129, 1000} {
			for _, typ := range realTypes {
				for _, julia := range []bool{false, true} {
					v := mandelbrotView{re: -0.7463, im: 0.1102, span: 0.03, w: 13, h: 5, maxIter: n, r: 2, julia: julia, cre: -0.7463, cim: 0.1102}
					if julia {
						v.re, v.im, v.span = 0, 0, 3
					}
					job := v.job(typ)
					compareTile(t, fmt.Sprint(n, " steps"), d, job, job.Bounds())
				}
			}
		}
	})
}

// TestMandelbrotEdgeOfTheDisc has |c| within a few units in the last place of R = 2,
// where an orbit may leave the disc and come back.
func TestMandelbrotEdgeOfTheDisc(t *testing.T) {
	around := func(t kernels.DType, x float64) []float64 {
		eps := math.Abs(x) / (1 << 24)
		if t == kernels.Float64 {
			eps /= 1 << 29
		}
		var out []float64
		for k := -4.0; k <= 4; k++ {
			out = append(out, t.Round(x+k*eps))
		}
		return out
	}
	shapes(t, func(t *testing.T, d *openCLDevice) {
		for _, typ := range realTypes {
			for _, angle := range []float64{math.Pi, math.Pi * 0.999, 0, math.Pi / 3, math.Pi / 2, 2.5} {
				for _, r2 := range []float64{4, 4.0001} {
					job := &kernels.Mandelbrot{T: typ, MaxIter: 400, R2: typ.Round(r2), Magnitudes: true}
					job.CX = around(typ, 2*math.Cos(angle))
					job.CY = append(around(typ, 2*math.Sin(angle)), 0, typ.Round(1e-40), typ.Round(1e-30), typ.Round(-1e-17), typ.Round(1e-9))
					compareTile(t, fmt.Sprint("angle ", angle), d, job, job.Bounds())
				}
			}
		}
	})
}

// TestMandelbrotTiles compares random tiles of a random size, most of them small.
func TestMandelbrotTiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	shapes(t, func(t *testing.T, d *openCLDevice) {
		rng := rand.New(rand.NewPCG(seed, 5))
		for range 60 {
			v := mandelbrotViews[rng.IntN(len(mandelbrotViews))]
			v.w, v.h = 1+rng.IntN(1<<(1+rng.IntN(9))), 1+rng.IntN(1<<(1+rng.IntN(5)))
			v.maxIter = min(v.maxIter, 1+rng.IntN(300))
			job := v.job(realTypes[rng.IntN(2)])
			job.Magnitudes = rng.IntN(2) == 0
			tile := kernels.Tile{W: 1 + rng.IntN(v.w), H: 1 + rng.IntN(v.h)}
			tile.X, tile.Y = rng.IntN(v.w-tile.W+1), rng.IntN(v.h-tile.H+1)
			compareTile(t, v.name, d, job, tile)
		}
	})
}

// TestMandelbrotTogether computes tiles in all slots at once.
func TestMandelbrotTogether(t *testing.T) {
	shapes(t, func(t *testing.T, d *openCLDevice) {
		job := mandelbrotViews[0].job(kernels.Float64)
		r, err := d.Begin(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		want := wantPlanes(t, job, job.Bounds())
		done := make(chan error)
		for range openCLSlots {
			go func() {
				for range 10 {
					out := kernels.NewResult(job, job.Bounds())
					if err := r.Run(t.Context(), job.Bounds(), out); err != nil {
						done <- err
						return
					}
					if !slices.EqualFunc(out.Planes, want.Planes, slices.Equal[[]byte]) {
						done <- fmt.Errorf("the result differs")
						return
					}
				}
				done <- nil
			}()
		}
		for range openCLSlots {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
