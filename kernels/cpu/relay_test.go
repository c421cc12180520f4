package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// runReference is run, one lane after another and one step after another.
func runReference[T real](l *runners[T], width, blocks, eights, least int) {
	for alive := width; blocks > 0 && alive >= least; blocks-- {
		l.now += int64(8 * eights)
		alive = 0
		for i := range width {
			word, bit := &l.alive[i/64], uint64(1)<<(i%64)
			if *word&bit == 0 {
				continue
			}
			x, y := l.x[i], l.y[i]
			for range 8 * eights {
				x, y = fma(x, x, fma(-y, y, l.cx[i])), fma(T(x+x), y, l.cy[i])
			}
			if !(fma(x, x, T(y*y)) <= l.r2) {
				*word &^= bit
				continue
			}
			l.x[i], l.y[i], l.clock[i] = x, y, fromWord[T](l.now)
			if int32(l.now) >= int32(toWord(l.end[i])) {
				*word &^= bit
				continue
			}
			alive++
		}
	}
}

// TestRun advances lanes in any state in which they may be.
func TestRun(t *testing.T) {
	rng := randomSource(t)
	variants(t, func(t *testing.T, v Variant) {
		for range 300 {
			testRun[float32](t, rng, v)
			testRun[float64](t, rng, v)
		}
	})
}

func testRun[T real](t *testing.T, rng *rand.Rand, v Variant) {
	t.Helper()
	type fenced struct {
		before [64]byte
		l      runners[T]
		after  [64]byte
	}
	var got fenced
	l, width := &got.l, runWidth[T](v)
	r := []float64{2, 2.1, 4, 256, 1e9}[rng.IntN(5)]
	l.r2, l.now = T(r*r), nowStart+rng.Int64N(1<<31)
	for i := range width {
		cx, cy := orbit(rng)
		l.cx[i], l.cy[i] = T(cx), T(cy)
		l.x[i], l.y[i] = T(rng.NormFloat64()/2), T(rng.NormFloat64()/2)
		l.clock[i], l.end[i] = fromWord[T](l.now), fromWord[T](l.now+1+rng.Int64N(200))
		if rng.IntN(3) == 0 {
			l.end[i] = fromWord[T](l.now + math.MaxInt32)
		}
		if rng.IntN(8) != 0 {
			l.alive[i/64] |= 1 << (i % 64)
		} else if rng.IntN(2) == 0 {
			l.x[i], l.cy[i] = T(math.NaN()), T(math.Inf(1))
		}
	}
	blocks, eights, least := 1+rng.IntN(12), 1<<rng.IntN(3), rng.IntN(width)
	before, want := *l, *l
	run(v, l, blocks, eights, least)
	runReference(&want, width, blocks, eights, least)
	what := fmt.Sprintf("%s %T, %d blocks of %d, at least %d, R %v", v, l.r2, blocks, 8*eights, least, r)
	if got.before != [64]byte{} || got.after != [64]byte{} {
		t.Fatalf("%s wrote outside", what)
	}
	if l.now != want.now || l.alive != want.alive {
		t.Fatalf("%s: now %d, want %d; alive %#x, want %#x", what, l.now, want.now, l.alive, want.alive)
	}
	for i := range width {
		if before.alive[i/64]>>(i%64)&1 == 0 {
			continue
		}
		if l.x[i] != want.x[i] || l.y[i] != want.y[i] || toWord(l.clock[i]) != toWord(want.clock[i]) {
			t.Fatalf("%s: lane %d: z = (%v, %v) at %#x, want (%v, %v) at %#x", what, i,
				l.x[i], l.y[i], toWord(l.clock[i]), want.x[i], want.y[i], toWord(want.clock[i]))
		}
	}
}

// mixed has orbits of every length beside one another, so that blocks become
// longer and shorter.
var mixed = []view{
	{name: "full", re: -0.5, span: 3, w: 240, h: 160, maxIter: 500, r: 256},
	{name: "hard", re: -0.746, im: 0.102083, span: 0.005, w: 120, h: 80, maxIter: 3000, r: 256},
	{name: "hard R=2", re: -0.746, im: 0.102083, span: 0.02, w: 120, h: 80, maxIter: 2999, r: 2},
	{name: "inside and outside", re: -0.16, im: 1.03, span: 0.15, w: 160, h: 60, maxIter: 1700, r: 256},
	{name: "long", re: -0.7436, im: 0.1318, span: 0.003, w: 48, h: 32, maxIter: 40_000, r: 256},
	{name: "julia", span: 3, w: 160, h: 60, maxIter: 1000, r: 256, julia: true, cre: -0.8, cim: 0.156},
}

func TestMixed(t *testing.T) {
	for _, v := range mixed {
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

// TestPulls deals the pixels out to several goroutines in chunks of any size.
func TestPulls(t *testing.T) {
	rng := randomSource(t)
	for _, v := range mixed[:2] {
		for _, typ := range types {
			job := v.job(typ)
			tile := kernels.Tile{X: 1, Y: 2, W: v.w - 3, H: v.h / 2}
			want := compute(t, Generic, job, tile, 0, tile.Area())
			for _, variant := range runnable() {
				r := kernels.NewResult(job, tile)
				var mu sync.Mutex
				next := 0
				pull := func() (from, to int) {
					mu.Lock()
					defer mu.Unlock()
					from = next
					next = min(next+1+rng.IntN(500), tile.Area())
					return from, next
				}
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() { variant.Mandelbrot(job, tile, r, pull, new(atomic.Bool)) })
				}
				wg.Wait()
				got := [][]uint32{kernels.Elements[uint32](r.Planes[0]), kernels.Elements[uint32](r.Planes[1])}
				equal(t, fmt.Sprint(variant, " ", v.name), job, tile, got, want)
			}
		}
	}
}

// TestCycle has lanes that are where they were, and others that share one
// coordinate with that place.
func TestCycle(t *testing.T) {
	rng := randomSource(t)
	variants(t, func(t *testing.T, v Variant) {
		for range 100 {
			testCycle[float32](t, rng, v)
			testCycle[float64](t, rng, v)
		}
	})
}

func testCycle[T real](t *testing.T, rng *rand.Rand, v Variant) {
	t.Helper()
	width := runWidth[T](v)
	var l runners[T]
	l.now = nowStart + rng.Int64N(1<<31)
	some := []T{0, 1, 2, T(math.NaN())}
	for i := range width {
		l.x[i], l.y[i], l.pastX[i], l.pastY[i] = some[rng.IntN(4)], some[rng.IntN(4)], some[rng.IntN(4)], some[rng.IntN(4)]
		if rng.IntN(2) == 0 {
			l.pastX[i], l.pastY[i] = l.x[i], l.y[i]
		}
		l.clock[i], l.end[i] = T(i), T(i+1)
		l.alive[i/64] |= rng.Uint64() & (1 << (i % 64))
	}
	before := l
	cycle(v, &l)
	for i := range width {
		word, bit := i/64, uint64(1)<<(i%64)
		same := before.alive[word]&bit != 0 && l.x[i] == l.pastX[i] && l.y[i] == l.pastY[i]
		if got := before.alive[word]&^l.alive[word]&bit != 0; got != same {
			t.Fatalf("%s %T: lane %d taken: %v, want %v", v, l.r2, i, got, same)
		}
		if same && toWord(l.end[i]) != uint32(l.now) || !same && l.end[i] != before.end[i] {
			t.Fatalf("%s %T: lane %d: end %v", v, l.r2, i, l.end[i])
		}
	}
	for word := range l.alive {
		if l.alive[word]&^before.alive[word] != 0 {
			t.Fatalf("%s %T: alive %#x, was %#x", v, l.r2, l.alive, before.alive)
		}
	}
}

// TestCycles has orbits with attracting cycles of many periods, which would take
// centuries if they were not found to repeat themselves.
func TestCycles(t *testing.T) {
	// One whose |c| has each step tested, from −2 to 2 and there for ever.
	tip := view{re: -2, span: 0, w: 1, h: 1, maxIter: math.MaxInt32, r: 2}.job(kernels.Float64)
	for _, variant := range runnable() {
		equal(t, "tip", tip, tip.Bounds(), compute(t, variant, tip, tip.Bounds(), 0, 1), [][]uint32{{0}, {0}})
	}

	// Centres of bulbs, by the period.
	bulbs := map[int][2]float64{
		3: {-0.1226, 0.7449}, 4: {0.2823, 0.5301}, 5: {0.3795, 0.3349}, 6: {0.3890, 0.2159}, 7: {0.3761, 0.1447},
	}
	for period, c := range bulbs {
		for _, typ := range types {
			job := view{re: c[0], im: c[1], span: 0.003, w: 40, h: 6, maxIter: math.MaxInt32, r: 256}.job(typ)
			all := job.Bounds()
			want := [][]uint32{make([]uint32, all.Area()), make([]uint32, all.Area())}
			for _, variant := range runnable() {
				equal(t, fmt.Sprint(variant, " period ", period), job, all, compute(t, variant, job, all, 0, all.Area()), want)
			}
		}
	}
}

// TestRebase has the clock of a relay start again while orbits are under way.
func TestRebase(t *testing.T) {
	v := mixed[1]
	variants(t, func(t *testing.T, variant Variant) {
		testRebase[float32](t, variant, v.job(kernels.Float32))
		testRebase[float64](t, variant, v.job(kernels.Float64))
	})
}

func testRebase[T real](t *testing.T, variant Variant, job *kernels.Mandelbrot) {
	all := job.Bounds()
	r := kernels.NewResult(job, all)
	o := newOrbits[T](variant, job, all, r, Once(0, all.Area()))
	o.relay.l.now = -1000
	o.compute(new(atomic.Bool))
	if o.relay.l.now >= 0 {
		t.Error("the clock went on")
	}
	want := compute(t, Generic, job, all, 0, all.Area())
	equal(t, string(variant), job, all, [][]uint32{kernels.Elements[uint32](r.Planes[0]), kernels.Elements[uint32](r.Planes[1])}, want)
}

// TestSafe has blocks tested as a whole only where that finds every escape.
func TestSafe(t *testing.T) {
	const slack = 1.0 / (1 << 14) // more than the margin of MonotoneLimit
	tests := []struct {
		r, cx, cy    float64
		julia        bool
		safe, beyond bool // beyond if not safe
	}{
		{r: 256, safe: true},
		{r: 2 + slack, safe: true},
		{r: 2, cx: -2, beyond: true},
		{r: 2, cx: -2 + slack},
		{r: 2, cx: -1.2 - slack, cy: 1.6 + slack, beyond: true},
		{r: 2, cx: -1.2 + slack, cy: 1.6 - slack},
		{r: 2, cx: -2, julia: true, beyond: true},
		{r: 2, cx: -2 + slack, julia: true, safe: true},
		{r: 5, cx: 3, cy: -4, julia: true, safe: true},
	}
	for _, test := range tests {
		job := &kernels.Mandelbrot{
			T: kernels.Float64, CX: []float64{test.cx}, CY: []float64{test.cy}, R2: test.r * test.r, MaxIter: 1,
			Julia: test.julia, CRe: test.cx, CIm: test.cy,
		}
		o := newOrbits[float64](Generic, job, job.Bounds(), kernels.NewResult(job, job.Bounds()), Once(0, 1))
		o.place(1)
		o.l.cx[1] = 100 // not alive
		if o.safe != test.safe || !o.safe && (o.beyond() == 1) != test.beyond {
			t.Errorf("%+v: safe %v, beyond %#x", test, o.safe, o.beyond())
		}
	}
}

// TestBeyondBesideOthers has an orbit above the limit that never leaves, and beside it
// one below that does, late.
func TestBeyondBesideOthers(t *testing.T) {
	job := &kernels.Mandelbrot{
		T: kernels.Float64, CX: []float64{-2, -1.99}, CY: []float64{1e-14, 0}, R2: 4, MaxIter: 200, Magnitudes: true,
	}
	all := job.Bounds()
	want := definition(job, exact(job.T), all, 0, all.Area())
	if want[0][1] != 45 || want[0][2] != 0 {
		t.Fatalf("the orbits are others: %v", want[0])
	}
	for _, variant := range runnable() {
		equal(t, string(variant), job, all, compute(t, variant, job, all, 0, all.Area()), want)
	}
}

// TestBeyond has orbits that leave the disc of radius 2 and come back into it,
// as only |c| > 2 allows: blocks that are tested as a whole would miss them.
func TestBeyond(t *testing.T) {
	const c = -2.2
	variants(t, func(t *testing.T, v Variant) {
		job := &kernels.Mandelbrot{T: kernels.Float64, CX: make([]float64, group), CY: []float64{0}, R2: 4, MaxIter: 200}
		all := job.Bounds()
		missed := false
		for i := range group {
			o := newOrbits[float64](v, job, all, kernels.NewResult(job, all), Once(0, group))
			o.l.cx[i] = c
			// It stays in the disc for a while, since it starts near a fixed point.
			o.l.x[i] = (1-math.Sqrt(1-4*c))/2 + float64(i+1)*1e-12
			o.l.alive = 1 << i
			if o.beyond() != 1<<i {
				t.Error("it would not be tested at each step")
			}
			want := *o.l
			stepGeneric(&want, job.MaxIter)

			l := o.relay.l
			l.cx[0], l.x[0], l.alive[0], l.end[0] = c, o.l.x[i], 1, fromWord[float64](nowStart+200)
			run(v, l, 100, 1, 1)
			missed = missed || l.now-nowStart > int64(want.n[i]+7)/8*8

			if o.iterate(job.MaxIter, new(atomic.Bool)); o.l.n != want.n || o.l.mag != want.mag {
				t.Errorf("escaped at %d, want %d", o.l.n[i], want.n[i])
			}
		}
		if !missed {
			t.Error("no orbit comes back within a block, so this tests nothing")
		}
	})
}
