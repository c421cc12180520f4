package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

var types = []kernels.DType{kernels.Float32, kernels.Float64}

// view describes a job.
type view struct {
	name         string
	re, im, span float64
	w, h         int
	maxIter      int
	r            float64
	julia        bool
	cre, cim     float64
}

func (v view) job(t kernels.DType) *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{
		T: t, MaxIter: v.maxIter, R2: t.Round(float64(v.r * v.r)), Magnitudes: true,
		Julia: v.julia, CRe: t.Round(v.cre), CIm: t.Round(v.cim),
	}
	job.CX, job.CY = kernels.Axes(t, v.re, v.im, v.span, v.w, v.h)
	return job
}

// views are small, but hold every kind of pixel. An iteration limit that is
// not a power of two leaves a remainder after the blocks.
var views = []view{
	{name: "full", re: -0.5, span: 3, w: 61, h: 41, maxIter: 1000, r: 256},
	{name: "full R=2", re: -0.5, span: 3, w: 61, h: 41, maxIter: 1000, r: 2},
	{name: "full R=1e9", re: -0.5, span: 3, w: 61, h: 41, maxIter: 333, r: 1e9},
	{name: "seahorse", re: -0.7463, im: 0.1102, span: 0.005, w: 33, h: 31, maxIter: 2001, r: 256},
	{name: "seahorse R=2", re: -0.7463, im: 0.1102, span: 0.005, w: 33, h: 31, maxIter: 2001, r: 2},
	{name: "real axis", re: -1.4, span: 1.4, w: 129, h: 1, maxIter: 1500, r: 2},
	{name: "antenna", re: -1.7548, span: 1e-3, w: 65, h: 5, maxIter: 700, r: 256},
	{name: "tip", re: -2, span: 0.01, w: 63, h: 7, maxIter: 300, r: 2},
	{name: "tip 1e-12", re: -2, span: 1e-12, w: 63, h: 7, maxIter: 300, r: 2},
	{name: "tip 1e-15", re: -2, span: 1e-15, w: 17, h: 3, maxIter: 300, r: 2},
	// Some of its pixels are beyond MonotoneLimit, beside others that are not.
	{name: "limit of R=2", re: -1.999977112, span: 1e-9, w: 64, h: 8, maxIter: 300, r: 2},
	{name: "inside", re: -0.1226, im: 0.7449, span: 0.02, w: 32, h: 4, maxIter: 1000, r: 256},
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
}

const guard = 0xdeadbeef

// compute returns what v stores for [from, to) of tile: counts and the bits of
// the magnitudes, guard where it stored nothing.
func compute(t testing.TB, v Variant, job *kernels.Mandelbrot, tile kernels.Tile, from, to int) [][]uint32 {
	t.Helper()
	r := kernels.NewResult(job, tile)
	var planes [][]uint32
	for _, p := range r.Planes {
		words := kernels.Elements[uint32](p)
		for i := range words {
			words[i] = guard
		}
		planes = append(planes, words)
	}
	if !v.Mandelbrot(job, tile, r, Once(from, to), new(atomic.Bool)) {
		t.Fatalf("%s: stopped without being told to", v)
	}
	return planes
}

// equal fails the test if got differs from want, and says where.
func equal(t testing.TB, what string, job *kernels.Mandelbrot, tile kernels.Tile, got, want [][]uint32) {
	t.Helper()
	for p := range want {
		for i, w := range want[p] {
			if got[p][i] != w {
				x, y := tile.X+i%tile.W, tile.Y+i/tile.W
				t.Errorf("%s: %s, tile %v, pixel (%d, %d) = (%v, %v), plane %d: got %#x, want %#x",
					what, job.T, tile, x, y, job.CX[x], job.CY[y], p, got[p][i], w)
				return
			}
		}
	}
}

// definition returns what compute should, by the definition.
func definition(job *kernels.Mandelbrot, a arithmetic, tile kernels.Tile, from, to int) [][]uint32 {
	var planes [][]uint32
	for range job.Planes() {
		planes = append(planes, slices.Repeat([]uint32{guard}, tile.Area()))
	}
	for p := from; p < to; p++ {
		count, mag := escape(job, a, tile.X+p%tile.W, tile.Y+p/tile.W)
		planes[0][p] = count
		if job.Magnitudes {
			planes[1][p] = math.Float32bits(mag)
		}
	}
	return planes
}

// variants runs f once for each variant but Generic, and skips those that this
// processor lacks.
func variants(t *testing.T, f func(t *testing.T, v Variant)) {
	for _, v := range all {
		if v == Generic {
			continue
		}
		t.Run(string(v), func(t *testing.T) {
			if !v.runs() {
				t.Skipf("this processor cannot run %s", v)
			}
			f(t, v)
		})
	}
}

// TestRequired keeps a machine that should have a variant from passing the
// other tests without it.
func TestRequired(t *testing.T) {
	for name := range strings.SplitSeq(os.Getenv("GPURUN_REQUIRE"), ",") {
		v := Variant(strings.TrimSpace(name))
		if slices.Contains(all, v) && !v.runs() {
			t.Errorf("GPURUN_REQUIRE names %s, which this processor cannot run", v)
		}
	}
}

// TestGenericIsExact compares Generic with math/big on a few pixels of each
// view.
func TestGenericIsExact(t *testing.T) {
	for _, v := range views {
		v.maxIter = min(v.maxIter, 200)
		for _, typ := range types {
			job := v.job(typ)
			for _, p := range []int{0, v.w / 3, v.w - 1} {
				for j := 0; j < v.h; j += (v.h + 4) / 5 {
					tile := kernels.Tile{X: p, Y: j, W: 1, H: 1}
					equal(t, v.name, job, tile, compute(t, Generic, job, tile, 0, 1), definition(job, exact(typ), tile, 0, 1))
				}
			}
		}
	}
}

// TestGeneric compares Generic with the definition on every pixel.
func TestGeneric(t *testing.T) {
	for _, v := range views {
		v.maxIter = min(v.maxIter, 150)
		for _, typ := range types {
			job := v.job(typ)
			all := job.Bounds()
			equal(t, v.name, job, all, compute(t, Generic, job, all, 0, all.Area()), definition(job, quick(typ), all, 0, all.Area()))
		}
	}
}

func TestViews(t *testing.T) {
	for _, v := range views {
		for _, typ := range types {
			job := v.job(typ)
			all := job.Bounds()
			want := compute(t, Generic, job, all, 0, all.Area())
			variants(t, func(t *testing.T, variant Variant) {
				equal(t, v.name, job, all, compute(t, variant, job, all, 0, all.Area()), want)
			})
		}
	}
}

// TestShapes covers groups that are cut short, that span rows and that start
// anywhere.
func TestShapes(t *testing.T) {
	type shape struct{ w, h, from, to int }
	var shapes []shape
	for _, w := range []int{1, 2, 31, 32, 33, 63, 64, 65, 127, 129} {
		shapes = append(shapes, shape{w, 1, 0, w})
	}
	shapes = append(shapes,
		shape{1, 200, 0, 200}, shape{7, 3, 0, 21}, shape{7, 3, 5, 6}, shape{7, 3, 5, 5}, shape{7, 40, 3, 277},
		shape{129, 5, 0, 645}, shape{129, 5, 1, 644}, shape{129, 5, 128, 130}, shape{129, 5, 130, 131}, shape{129, 5, 129, 258},
		shape{65, 4, 64, 66}, shape{64, 3, 1, 65}, shape{1000, 2, 990, 1010},
	)
	for _, s := range shapes {
		for _, typ := range types {
			for _, julia := range []bool{false, true} {
				// The tile is a part of the job.
				v := view{re: -0.7, im: 0.1, span: 3, w: s.w + 5, h: s.h + 4, maxIter: 50, r: 256, julia: julia, cre: -0.4, cim: 0.6}
				job := v.job(typ)
				job.Magnitudes = s.w%2 != 0
				tile := kernels.Tile{X: 3, Y: 2, W: s.w, H: s.h}
				want := definition(job, quick(typ), tile, s.from, s.to)
				for _, variant := range runnable() {
					equal(t, fmt.Sprintf("%s, [%d, %d)", variant, s.from, s.to), job, tile, compute(t, variant, job, tile, s.from, s.to), want)
				}
			}
		}
	}
}

// TestMaxIter covers the seams between the first steps, blocks, the rest after
// the blocks and bursts.
func TestMaxIter(t *testing.T) {
	limits := []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 1000, burst - 1, burst, burst + 1, 50_000}
	for _, n := range limits {
		for _, typ := range types {
			for _, julia := range []bool{false, true} {
				v := view{re: -0.7463, im: 0.1102, span: 0.003, w: 3, h: 3, maxIter: n, r: 2, julia: julia, cre: -0.7463, cim: 0.1102}
				if julia {
					v.re, v.im = 0, 0
				}
				job := v.job(typ)
				all := job.Bounds()
				want := compute(t, Generic, job, all, 0, all.Area())
				variants(t, func(t *testing.T, variant Variant) {
					equal(t, fmt.Sprint(n, " steps"), job, all, compute(t, variant, job, all, 0, all.Area()), want)
				})
			}
		}
	}
}

// TestLongOrbits has points just above −5/4, where two bulbs touch: some of
// their orbits take several bursts to escape.
func TestLongOrbits(t *testing.T) {
	for _, typ := range types {
		for _, n := range []int{burst + 5, 2*burst - 1, 2 * burst, 70_000} {
			job := &kernels.Mandelbrot{T: typ, CX: []float64{-1.25}, MaxIter: n, R2: 256, Magnitudes: true}
			for _, y := range []float64{7e-5, 1e-4, 1.6e-4, 3e-4, 1e-3} {
				job.CY = append(job.CY, typ.Round(y))
			}
			all := job.Bounds()
			want := definition(job, quick(typ), all, 0, all.Area())
			if n == 70_000 && slices.Max(want[0]) <= burst {
				t.Errorf("%s: no orbit outlasts a burst", typ)
			}
			for _, variant := range runnable() {
				equal(t, fmt.Sprintf("%s, %d steps", variant, n), job, all, compute(t, variant, job, all, 0, all.Area()), want)
			}
		}
	}
}

// TestEdgeOfTheDisc has |c| within a few units in the last place of R = 2,
// where an orbit may leave the disc and come back.
func TestEdgeOfTheDisc(t *testing.T) {
	for _, typ := range types {
		next := func(x, to float64) float64 {
			if typ == kernels.Float32 {
				return float64(math.Nextafter32(float32(x), float32(to)))
			}
			return math.Nextafter(x, to)
		}
		around := func(x float64) []float64 {
			out := []float64{typ.Round(x)}
			for lo, hi := out[0], out[0]; len(out) < 9; {
				lo, hi = next(lo, -9), next(hi, 9)
				out = append(out, lo, hi)
			}
			return out
		}
		for _, angle := range []float64{math.Pi, math.Pi * 0.999, 0, math.Pi / 3, math.Pi / 2, 2.5} {
			job := &kernels.Mandelbrot{T: typ, MaxIter: 400, R2: 4, Magnitudes: true}
			job.CX = around(2 * math.Cos(angle))
			job.CY = append(around(2*math.Sin(angle)), 0, typ.Round(1e-40), 1e-30, typ.Round(-1e-17), typ.Round(1e-9))
			for i := range job.CY {
				job.CY[i] = typ.Round(job.CY[i])
			}
			all := job.Bounds()
			want := definition(job, quick(typ), all, 0, all.Area())
			for _, variant := range runnable() {
				equal(t, fmt.Sprint(variant, " angle ", angle), job, all, compute(t, variant, job, all, 0, all.Area()), want)
			}
		}
	}
}

// randomView returns any view that is quick to compute.
func randomView(rng *rand.Rand) view {
	at := func(points ...[2]float64) (float64, float64) {
		p := points[rng.IntN(len(points))]
		noise := math.Pow(10, -1-15*rng.Float64())
		return p[0] + noise*rng.NormFloat64(), p[1] + noise*rng.NormFloat64()
	}
	v := view{
		span:    math.Pow(10, 1-16*rng.Float64()),
		w:       1 + rng.IntN(90),
		h:       1 + rng.IntN(6),
		maxIter: 1 + int(math.Pow(10, 2.7*rng.Float64())),
		r:       []float64{2, 2, math.Nextafter(2, 3), 2.00001, 4, 256, 1e9, 2 + 10*rng.Float64()}[rng.IntN(8)],
		julia:   rng.IntN(3) == 0,
	}
	v.re, v.im = at([2]float64{-2, 0}, [2]float64{-0.75, 0.1}, [2]float64{-1.25, 0}, [2]float64{0.25, 0},
		[2]float64{0, 1}, [2]float64{-1.7549, 0}, [2]float64{-0.1226, 0.7449}, [2]float64{0.3, 0.5})
	if v.julia {
		v.cre, v.cim = at([2]float64{-2, 0}, [2]float64{0, 1}, [2]float64{-0.123, 0.745}, [2]float64{0, 0}, [2]float64{-0.8, 0.156})
		v.r = max(v.r, math.Nextafter(math.Hypot(v.cre, v.cim), math.Inf(1)))
	}
	return v
}

func TestRandomViews(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 120 {
		v, typ := randomView(rng), types[rng.IntN(2)]
		job := v.job(typ)
		job.Magnitudes = rng.IntN(2) == 0
		w, h := 1+rng.IntN(v.w), 1+rng.IntN(v.h)
		tile := kernels.Tile{X: rng.IntN(v.w - w + 1), Y: rng.IntN(v.h - h + 1), W: w, H: h}
		from := rng.IntN(tile.Area())
		to := from + rng.IntN(tile.Area()-from+1)
		want := definition(job, quick(typ), tile, from, to)
		for _, variant := range runnable() {
			equal(t, fmt.Sprintf("%s, %+v, [%d, %d)", variant, v, from, to), job, tile, compute(t, variant, job, tile, from, to), want)
		}
		if t.Failed() {
			return
		}
	}
}

func FuzzMandelbrot(f *testing.F) {
	for _, v := range views {
		f.Add(v.re, v.im, v.span, uint8(v.w), uint8(v.h), uint16(v.maxIter), v.r, v.julia, v.cre, v.cim, false)
		f.Add(v.re, v.im, v.span, uint8(v.w), uint8(v.h), uint16(v.maxIter), v.r, v.julia, v.cre, v.cim, true)
	}
	f.Fuzz(func(t *testing.T, re, im, span float64, w, h uint8, maxIter uint16, r float64, julia bool, cre, cim float64, single bool) {
		for _, x := range []float64{re, im, span, r, cre, cim} {
			if !(math.Abs(x) <= 1e9) {
				t.Skip("out of range")
			}
		}
		v := view{
			re: re, im: im, span: span, w: 1 + int(w)%80, h: 1 + int(h)%3, maxIter: 1 + int(maxIter)%300,
			r: max(2, math.Abs(r), math.Hypot(cre, cim)), julia: julia, cre: cre, cim: cim,
		}
		typ := kernels.Float64
		if single {
			typ = kernels.Float32
		}
		job := v.job(typ)
		all := job.Bounds()
		want := definition(job, quick(typ), all, 0, all.Area())
		for _, variant := range runnable() {
			equal(t, string(variant), job, all, compute(t, variant, job, all, 0, all.Area()), want)
		}
	})
}

// siegel is in a Siegel disc, around a fixed point that has the golden mean as its
// rotation number: no orbit leaves it, or soon comes back to exactly where it was.
var siegel = view{
	re: -0.3687, im: -0.3377, span: 0.1, w: group, h: 2, maxIter: 2e9, r: 256,
	julia: true, cre: -0.39054087021840008, cim: -0.58678790734696873,
}

// TestStop wants a pixel that takes minutes to be given up at once. A machine
// with other things to do may need several attempts to show it.
func TestStop(t *testing.T) {
	v := siegel
	for _, variant := range runnable() {
		for _, typ := range types {
			job := v.job(typ)
			r := kernels.NewResult(job, job.Bounds())
			const attempts, want = 5, 50 * time.Millisecond
			var took time.Duration
			for range attempts {
				var stop atomic.Bool
				var told atomic.Int64
				timer := time.AfterFunc(20*time.Millisecond, func() {
					told.Store(time.Now().UnixNano())
					stop.Store(true)
				})
				if variant.Mandelbrot(job, job.Bounds(), r, Once(0, job.Bounds().Area()), &stop) {
					t.Fatalf("%s %s: done, or said to be", variant, typ)
				}
				timer.Stop()
				if took = time.Since(time.Unix(0, told.Load())); took <= want {
					break
				}
			}
			if took > want {
				t.Errorf("%s %s: returned %v after stop, and no sooner in %d attempts; want %v", variant, typ, took, attempts, want)
			}
		}
	}
}

// TestStopBetweenPulls is told to stop where no orbit lasts.
func TestStopBetweenPulls(t *testing.T) {
	job := view{re: 3, im: 3, span: 1, w: 64, h: 100, maxIter: 1000, r: 256}.job(kernels.Float64)
	for _, variant := range runnable() {
		r := kernels.NewResult(job, job.Bounds())
		var stop atomic.Bool
		pulls := 0
		pull := func() (from, to int) {
			pulls++
			stop.Store(pulls > 1)
			return 64 * (pulls - 1), 64 * pulls
		}
		if variant.Mandelbrot(job, job.Bounds(), r, pull, &stop) || pulls > 2 {
			t.Errorf("%s: pulled %d times", variant, pulls)
		}
	}
}

// TestUnknownVariant computes rather than crashing.
func TestUnknownVariant(t *testing.T) {
	job := views[0].job(kernels.Float64)
	all := job.Bounds()
	want := compute(t, Generic, job, all, 0, 100)
	equal(t, "unknown", job, all, compute(t, "sse9", job, all, 0, 100), want)
}
