package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
)

// guarded is lanes between words that nothing may write.
type guarded[T real] struct {
	before [64]byte
	l      lanes[T]
	after  [64]byte
}

func TestAligned(t *testing.T) {
	for range 100 {
		for _, p := range []unsafe.Pointer{
			unsafe.Pointer(aligned[lanes[float32]]()), unsafe.Pointer(aligned[runners[float64]]()),
		} {
			if uintptr(p)%64 != 0 {
				t.Fatalf("address %#x", p)
			}
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
	steps := 1 + rng.IntN(60)
	got := randomLanes[T](rng, T(r*r))
	want := *got
	step(v, &got.l, steps)
	stepGeneric(&want.l, steps)
	what := fmt.Sprintf("%s %T, %d steps, R %v", v, got.l.r2, steps, r)
	if got.before != want.before || got.after != want.after || got.l.cx != want.l.cx || got.l.cy != want.l.cy {
		t.Fatalf("%s wrote where it may only read", what)
	}
	if got.l.alive != want.l.alive || got.l.clock != want.l.clock || got.l.n != want.l.n {
		t.Fatalf("%s: alive %#x, want %#x; clock %d, want %d\nn %v\nwant %v",
			what, got.l.alive, want.l.alive, got.l.clock, want.l.clock, got.l.n, want.l.n)
	}
	for i := range group {
		if math.Float32bits(got.l.mag[i]) != math.Float32bits(want.l.mag[i]) {
			t.Fatalf("%s: lane %d: mag %v, want %v", what, i, got.l.mag[i], want.l.mag[i])
		}
		if want.l.alive>>i&1 != 0 && (got.l.x[i] != want.l.x[i] || got.l.y[i] != want.l.y[i]) {
			t.Fatalf("%s: lane %d: z = (%v, %v), want (%v, %v)", what, i, got.l.x[i], got.l.y[i], want.l.x[i], want.l.y[i])
		}
	}
}

// randomLanes returns lanes of which any may be alive.
func randomLanes[T real](rng *rand.Rand, r2 T) *guarded[T] {
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
