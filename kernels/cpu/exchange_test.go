package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// withAVX512 runs f where the processor has AVX-512: the functions tested with it have
// assembly for that alone.
func withAVX512(t *testing.T, f func(t *testing.T)) {
	variants(t, func(t *testing.T, v Variant) {
		if v == AVX512 {
			f(t)
		}
	})
}

func TestExchange(t *testing.T) {
	rng := randomSource(t)
	withAVX512(t, func(t *testing.T) {
		for range 500 {
			testExchange[float32](t, rng)
			testExchange[float64](t, rng)
		}
	})
}

func testExchange[T real](t *testing.T, rng *rand.Rand) {
	t.Helper()
	type state struct {
		l       runners[T]
		in, out orbitList[T]
		guard   [64]byte
	}
	got := new(state)
	l, width := &got.l, runWidth[T](AVX512)
	l.now = nowStart + rng.Int64N(1<<31)
	for i := range width {
		l.x[i], l.y[i], l.cx[i], l.cy[i] = T(rng.Float32()), T(rng.Float32()), T(rng.Float32()), T(rng.Float32())
		l.clock[i], l.end[i] = fromWord[T](l.now-rng.Int64N(100)), fromWord[T](l.now+rng.Int64N(100))
		l.pixel[i], l.pastX[i] = rng.Uint32(), 1
		if rng.IntN(5) > 0 {
			l.taken[i/64] |= 1 << (i % 64)
			if rng.IntN(3) > 0 {
				l.alive[i/64] |= 1 << (i % 64)
			}
		}
	}
	in := &got.in
	in.n = rng.IntN(4*group + 1)
	if rng.IntN(2) == 0 {
		in.n = rng.IntN(20)
	}
	for k := range in.n {
		in.x[k], in.y[k], in.cx[k], in.cy[k] = T(rng.Float32()), T(rng.Float32()), T(rng.Float32()), T(rng.Float32())
		in.pixel[k] = rng.Uint32()
	}
	got.out.n = rng.IntN(group)
	maxIter := firstSteps + 1 + rng.IntN(math.MaxInt32-firstSteps)
	want := new(state)
	*want = *got

	live := exchange(AVX512, l, width, in, &got.out, maxIter, firstSteps)
	wantLive := exchangeGeneric(&want.l, width, &want.in, &want.out, maxIter, firstSteps)
	what := fmt.Sprintf("%T, %d wait", l.r2, in.n)
	if live != wantLive || l.alive != want.l.alive || l.taken != want.l.taken || in.n != want.in.n || got.out.n != want.out.n || got.guard != want.guard {
		t.Fatalf("%s: %d live, want %d; %d wait, want %d; %d left, want %d", what, live, wantLive, in.n, want.in.n, got.out.n, want.out.n)
	}
	// Which orbit takes which lane does not matter.
	if a, b := runningOrbits(l, width), runningOrbits(&want.l, width); !slices.Equal(a, b) {
		t.Fatalf("%s: lanes\n%v\nwant\n%v", what, a, b)
	}
	if a, b := listedOrbits(&got.out, true), listedOrbits(&want.out, true); !slices.Equal(a, b) {
		t.Fatalf("%s: left\n%v\nwant\n%v", what, a, b)
	}
	if a, b := listedOrbits(in, false), listedOrbits(&want.in, false); !slices.Equal(a, b) {
		t.Fatalf("%s: waiting\n%v\nwant\n%v", what, a, b)
	}
}

// runningOrbits returns what is known of the orbits in lanes, in some order that does
// not depend on the lanes.
func runningOrbits[T real](l *runners[T], width int) (all []string) {
	for i := range width {
		if l.taken[i/64]>>(i%64)&1 != 0 {
			all = append(all, fmt.Sprint(l.pixel[i], l.x[i], l.y[i], l.cx[i], l.cy[i], toWord(l.clock[i]), toWord(l.end[i]), l.pastX[i]))
		}
	}
	slices.Sort(all)
	return all
}

func listedOrbits[T real](o *orbitList[T], steps bool) (all []string) {
	for k := range o.n {
		s := fmt.Sprint(o.pixel[k], o.x[k], o.y[k], o.cx[k], o.cy[k])
		if steps {
			s += fmt.Sprint(" ", o.steps[k])
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

func TestAdmit(t *testing.T) {
	rng := randomSource(t)
	withAVX512(t, func(t *testing.T) {
		for range 300 {
			testAdmit[float32](t, rng)
			testAdmit[float64](t, rng)
		}
	})
}

func testAdmit[T real](t *testing.T, rng *rand.Rand) {
	t.Helper()
	l := randomLanes[T](rng, 4)
	var got, want orbitList[T]
	got.n = rng.IntN(3*group + 1)
	want.n = got.n
	which, pixel := rng.Uint64(), rng.IntN(1<<31-group)
	admit(AVX512, &l.l, which, pixel, &got)
	admitGeneric(&l.l, which, pixel, &want)
	if a, b := fmt.Sprint(listedOrbits(&got, false)), fmt.Sprint(listedOrbits(&want, false)); a != b {
		t.Fatalf("%T: %#x of %d\n%s\nwant\n%s", l.l.r2, which, want.n, a, b)
	}
}

// TestFirst compares groups within a row with what start and step make of them.
func TestFirst(t *testing.T) {
	rng := randomSource(t)
	withAVX512(t, func(t *testing.T) {
		for range 500 {
			testFirst[float32](t, rng)
			testFirst[float64](t, rng)
		}
	})
}

func testFirst[T real](t *testing.T, rng *rand.Rand) {
	t.Helper()
	var got, want lanes[T]
	var cols [group]T
	x, cy := edge(rng)
	width := math.Pow(10, -8*rng.Float64())
	for i := range cols {
		cols[i] = T(x + width*float64(i)/group)
	}
	y := T(cy)
	r := []float64{2, 4, 256, 1e9}[rng.IntN(4)]
	got.r2, want.r2 = T(r*r), T(r*r)
	steps := 1 + rng.IntN(40)
	var counts [group + 1]uint32
	var mags [group + 1]float32
	counts[group], mags[group] = guard, -1
	first(&got, &cols[0], &y, &counts[0], &mags[0], steps)

	want.cx = cols
	for i := range want.cy {
		want.cy[i] = y
	}
	startGeneric(&want)
	stepGeneric(&want, steps)
	what := fmt.Sprintf("%T, %d steps, R %v, from (%v, %v)", y, steps, r, cols[0], y)
	if got.alive != want.alive || counts[group] != guard || mags[group] != -1 {
		t.Fatalf("%s: alive %#x, want %#x; beyond the end %#x, %v", what, got.alive, want.alive, counts[group], mags[group])
	}
	for i := range group {
		if counts[i] != want.n[i] || math.Float32bits(mags[i]) != math.Float32bits(want.mag[i]) {
			t.Fatalf("%s: lane %d: %d, %v, want %d, %v", what, i, counts[i], mags[i], want.n[i], want.mag[i])
		}
		if want.alive>>i&1 != 0 && (got.x[i] != want.x[i] || got.y[i] != want.y[i] || got.cx[i] != want.cx[i] || got.cy[i] != want.cy[i]) {
			t.Fatalf("%s: lane %d: z = (%v, %v), want (%v, %v)", what, i, got.x[i], got.y[i], want.x[i], want.y[i])
		}
	}
}

// TestSettle has orbits that left, that have done all their steps, and that became NaN.
func TestSettle(t *testing.T) {
	rng := randomSource(t)
	withAVX512(t, func(t *testing.T) {
		for range 300 {
			maxIter := 1 + rng.IntN(math.MaxInt32)
			var l lanes[float32]
			steps, pixel := make([]uint32, group), make([]uint32, group)
			for i, p := range rng.Perm(2 * group)[:group] {
				pixel[i] = uint32(p)
				steps[i] = uint32(max(maxIter-40+rng.IntN(50), 0))
				l.n[i] = uint32(rng.IntN(longestBlock + 1))
				l.mag[i] = []float32{1, float32(math.NaN()), float32(math.Inf(1))}[rng.IntN(3)]
			}
			if got, want := unfinished(AVX512, steps, maxIter), unfinishedGeneric(steps, maxIter); got != want {
				t.Fatalf("unfinished %#x, want %#x", got, want)
			}
			var counts, wantCounts [2 * group]uint32
			var mags, wantMags []float32
			if rng.IntN(4) > 0 {
				mags, wantMags = make([]float32, 2*group), make([]float32, 2*group)
			}
			settle(AVX512, counts[:], mags, pixel, steps, &l, maxIter)
			settleGeneric(wantCounts[:], wantMags, pixel, steps, &l, maxIter)
			same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
			if counts != wantCounts || !slices.EqualFunc(mags, wantMags, same) {
				t.Fatalf("of %d steps: %v\nwant %v", maxIter, counts, wantCounts)
			}
		}
	})
}
