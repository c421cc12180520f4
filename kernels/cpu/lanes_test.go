package cpu

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
)

// guarded is lanes between words that nothing may write.
type guarded[T real] struct {
	before [64]byte
	l      lanes[T]
	after  [64]byte
}

func randomSource(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestNewLanesIsAligned(t *testing.T) {
	for range 100 {
		if p := uintptr(unsafe.Pointer(newLanes[float32]())); p%64 != 0 {
			t.Fatalf("address %#x", p)
		}
		if p := uintptr(unsafe.Pointer(newLanes[float64]())); p%64 != 0 {
			t.Fatalf("address %#x", p)
		}
	}
}

// TestFMA has sums next to the middle between two float32, where the sum of
// float64 rounded to float32 goes wrong.
func TestFMA(t *testing.T) {
	rng := randomSource(t)
	for range 10_000 {
		x := 1 + rng.Float32()
		y, z := 1/x, float32(1<<24+2*rng.IntN(1<<23))
		want := float32(bigFMA(kernels.Float32, float64(x), float64(y), float64(z)))
		if got := fma(x, y, z); got != want {
			t.Fatalf("float32: fma(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
		x64, y64, z64 := rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()
		if got, want := fma(x64, y64, z64), bigFMA(kernels.Float64, x64, y64, z64); got != want {
			t.Fatalf("float64: fma(%x, %x, %x) = %x, want %x", x64, y64, z64, got, want)
		}
	}
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
		o := newOrbits[float64](Generic, job, job.Bounds(), 0, 1)
		o.place(1)
		o.l.cx[1] = 100 // not alive
		if o.safe != test.safe || !o.safe && o.beyond() != test.beyond {
			t.Errorf("%+v: safe %v, beyond %v", test, o.safe, o.beyond())
		}
	}
}

// TestBeyond has orbits that leave the disc of radius 2 and come back into it,
// as only |c| > 2 allows. They stay in it for the first steps because they
// start near a fixed point.
func TestBeyond(t *testing.T) {
	variants(t, func(t *testing.T, v Variant) {
		job := &kernels.Mandelbrot{T: kernels.Float64, CX: make([]float64, group), CY: []float64{0}, R2: 4, MaxIter: 200}
		missed := false
		for i := range group {
			const c = -2.2
			o := newOrbits[float64](v, job, job.Bounds(), 0, group)
			o.l.cx[i] = c
			o.l.x[i] = (1-math.Sqrt(1-4*c))/2 + float64(i+1)*1e-12
			o.l.alive = 1 << i
			want, blocks := *o.l, *o.l
			stepGeneric(&want, job.MaxIter)
			step(v, &blocks, job.MaxIter, firstSteps)
			missed = missed || blocks.n != want.n
			if o.iterate(new(atomic.Bool)); o.l.n != want.n || o.l.mag != want.mag {
				t.Errorf("escaped at %d, want %d", o.l.n[i], want.n[i])
			}
		}
		if !missed {
			t.Error("no orbit comes back within a block, so this tests nothing")
		}
	})
}

// TestStart has points all over the plane and within a few units in the last
// place of the edges of the cardioid and of the disc.
func TestStart(t *testing.T) {
	rng := randomSource(t)
	variants(t, func(t *testing.T, v Variant) {
		testStart[float32](t, rng, v)
		testStart[float64](t, rng, v)
	})
}

func testStart[T real](t *testing.T, rng *rand.Rand, v Variant) {
	for range 500 {
		var got guarded[T]
		for i := range group {
			cx, cy := edge(rng)
			ulps := func() T { return 1 + T(rng.IntN(9)-4)*T(epsilon[T]()) }
			got.l.cx[i], got.l.cy[i] = T(cx)*ulps(), T(cy)*ulps()
			got.l.x[i], got.l.y[i], got.l.n[i], got.l.mag[i] = 1, 2, 3, 4
		}
		got.l.alive, got.l.clock = rng.Uint64(), 5
		want := got
		start(v, &got.l)
		startGeneric(&want.l)
		if got != want {
			t.Fatalf("%s: alive %#x, want %#x", v, got.l.alive, want.l.alive)
		}
	}
}

// edge returns a point near the edge of the cardioid, of the disc, or anywhere.
func edge(rng *rand.Rand) (cx, cy float64) {
	sin, cos := math.Sincos(2 * math.Pi * rng.Float64())
	switch rng.IntN(4) {
	case 0:
		return cos/2 - (cos*cos-sin*sin)/4, sin/2 - sin*cos/2
	case 1:
		return -1 + cos/4, sin / 4
	case 2:
		return rng.NormFloat64(), rng.NormFloat64()
	}
	return math.Ldexp(rng.NormFloat64(), rng.IntN(250)-125), math.Ldexp(rng.NormFloat64(), rng.IntN(250)-125)
}

func epsilon[T real]() float64 {
	if unsafe.Sizeof(T(0)) == 4 {
		return 1.0 / (1 << 23)
	}
	return 1.0 / (1 << 52)
}

// TestStep advances lanes in any state in which they may be, with any values
// in the lanes that are not alive.
func TestStep(t *testing.T) {
	rng := randomSource(t)
	variants(t, func(t *testing.T, v Variant) {
		for range 1500 {
			testStep[float32](t, rng, v)
			testStep[float64](t, rng, v)
		}
	})
}

func testStep[T real](t *testing.T, rng *rand.Rand, v Variant) {
	t.Helper()
	r := []float64{2, 2.1, 4, 256, 1e9}[rng.IntN(5)]
	steps := rng.IntN(60)
	checked := rng.IntN(steps + 10)
	radius := kernels.MonotoneLimit(r * r)
	if rng.IntN(3) == 0 {
		checked, radius = steps, math.Inf(1)
	}
	got := randomLanes[T](rng, T(r*r), radius)
	want := *got
	step(v, &got.l, steps, checked)
	stepGeneric(&want.l, steps)
	what := func(i int) string {
		return string(v) + " " + map[bool]string{true: "float32", false: "float64"}[epsilon[T]() > 1e-10]
	}
	if got.before != want.before || got.after != want.after || got.l.cx != want.l.cx || got.l.cy != want.l.cy {
		t.Fatalf("%s wrote where it may only read", what(0))
	}
	if got.l.alive != want.l.alive || got.l.clock != want.l.clock || got.l.n != want.l.n {
		t.Fatalf("%s, %d steps, %d checked, R %v: alive %#x, want %#x; clock %d, want %d\nn %v\nwant %v",
			what(0), steps, checked, r, got.l.alive, want.l.alive, got.l.clock, want.l.clock, got.l.n, want.l.n)
	}
	for i := range group {
		if math.Float32bits(got.l.mag[i]) != math.Float32bits(want.l.mag[i]) {
			t.Fatalf("%s, %d steps, %d checked, R %v: lane %d: mag %v, want %v", what(i), steps, checked, r, i, got.l.mag[i], want.l.mag[i])
		}
		if want.l.alive>>i&1 != 0 && (got.l.x[i] != want.l.x[i] || got.l.y[i] != want.l.y[i]) {
			t.Fatalf("%s, %d steps, %d checked, R %v: lane %d: z = (%v, %v), want (%v, %v)",
				what(i), steps, checked, r, i, got.l.x[i], got.l.y[i], want.l.x[i], want.l.y[i])
		}
	}
}

// randomLanes returns lanes of which any may be alive, with |c| ≤ radius where
// they are.
func randomLanes[T real](rng *rand.Rand, r2 T, radius float64) *guarded[T] {
	g := new(guarded[T])
	l := &g.l
	l.r2 = r2
	l.clock = rng.Int64N(math.MaxInt32 - 100)
	l.alive = rng.Uint64()
	if rng.IntN(2) == 0 {
		l.alive &= rng.Uint64() & rng.Uint64() & rng.Uint64()
	}
	odd := []T{0, T(math.Inf(1)), T(math.Inf(-1)), T(math.SmallestNonzeroFloat32), 1e38, -1e-38, T(math.NaN())}
	for i := range group {
		cx, cy := orbit(rng)
		if far := math.Hypot(cx, cy) / radius; far > 1 {
			cx, cy = cx/far/2, cy/far/2
		}
		l.cx[i], l.cy[i] = T(cx), T(cy)
		l.x[i], l.y[i] = T(rng.NormFloat64()/2), T(rng.NormFloat64()/2)
		if l.alive>>i&1 == 0 {
			l.n[i], l.mag[i] = uint32(rng.Int32()), float32(rng.NormFloat64())
			l.x[i], l.y[i], l.cx[i], l.cy[i] = odd[rng.IntN(7)], odd[rng.IntN(7)], odd[rng.IntN(6)], odd[rng.IntN(6)]
		}
	}
	return g
}

// orbit returns a c near which some orbits last.
func orbit(rng *rand.Rand) (cx, cy float64) {
	if rng.IntN(4) == 0 {
		return 3 * rng.NormFloat64(), 3 * rng.NormFloat64()
	}
	sin, cos := math.Sincos(2 * math.Pi * rng.Float64())
	grow := 1 + rng.ExpFloat64()/20
	return grow * (cos/2 - (cos*cos-sin*sin)/4), grow * (sin/2 - sin*cos/2)
}
