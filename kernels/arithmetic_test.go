package kernels

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

// exactFMA32 returns x·y+z through math/big.
func exactFMA32(x, y, z float32) float32 {
	finite := func(v float32) bool { return v-v == 0 }
	switch {
	case !finite(x) || !finite(y) || x == 0 || y == 0:
		return float32(x*y) + z
	case !finite(z):
		return z
	}
	const enough = 1 << 10 // bits for any exponents of x·y and z
	exact := func(v float32) *big.Float { return new(big.Float).SetPrec(enough).SetFloat64(float64(v)) }
	sum := exact(x)
	sum.Mul(sum, exact(y))
	sum.Add(sum, exact(z))
	out, _ := sum.Float32()
	return out
}

func checkFMA32(t *testing.T, x, y, z float32) {
	t.Helper()
	got, want := FMA32(x, y, z), exactFMA32(x, y, z)
	same := math.Float32bits(got) == math.Float32bits(want) || got != got && want != want
	if !same {
		t.Fatalf("FMA32(%x, %x, %x) = %x, want %x", x, y, z, got, want)
	}
}

// TestFMA32Edges has every combination of values at the ends of the format.
func TestFMA32Edges(t *testing.T) {
	const tiny, least, most = math.SmallestNonzeroFloat32, 0x1p-126, math.MaxFloat32
	values := []float32{
		0, tiny, 3 * tiny, least - tiny, least, 0x1p-75, 0x1.000002p-74, 0x1.fffffep-64,
		0x1p-24, 0x1.000002p-24, 1 - 0x1p-24, 1, 1 + 0x1p-23, 1.5, 3, 0x1p12 + 1, 0x1p23 + 1, 0x1p24,
		0x1.fffffep63, 0x1p64, 0x1p103, 0x1p127, most, float32(math.Inf(1)),
	}
	for _, v := range values[:len(values):len(values)] {
		values = append(values, -v)
	}
	values = append(values, float32(math.Copysign(0, -1)), float32(math.NaN()))
	for _, x := range values {
		for _, y := range values {
			for _, z := range values {
				checkFMA32(t, x, y, z)
			}
		}
	}
}

// TestFMA32Random has any bit patterns, and sums next to the middle between two
// float32, where two roundings go wrong.
func TestFMA32Random(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		checkFMA32(t, math.Float32frombits(rng.Uint32()), math.Float32frombits(rng.Uint32()), math.Float32frombits(rng.Uint32()))
	}
	for range 20_000 {
		// x·y is near ±1, and z has its last bit at 2 or a little below.
		x := 1 + rng.Float32()
		y := 1 / x
		z := float32(1<<24+rng.IntN(1<<24)) * float32(math.Ldexp(1, -rng.IntN(3)))
		if rng.IntN(2) == 0 {
			x = -x
		}
		scale := float32(math.Ldexp(1, rng.IntN(140)-100))
		checkFMA32(t, x*scale, y, z*scale)
	}
}

// TestInterior has points on either side of the edges of the cardioid and the
// disc.
func TestInterior(t *testing.T) {
	points := []struct {
		re, im float64
		want   bool
	}{
		{0, 0, true}, {0.2499, 0, true}, {0.2501, 0, false}, {-0.7499, 0, true}, {-0.1, 0.63, true}, {-0.1, 0.66, false},
		{-0.7501, 0, true}, {-1, 0, true}, {-1.2499, 0, true}, {-1.2501, 0, false}, {-1, 0.2499, true}, {-1, 0.2501, false},
		{-0.75, 0.01, false}, {1, 1, false}, {-2, 0, false},
	}
	for _, typ := range []DType{Float32, Float64} {
		for _, p := range points {
			for _, im := range []float64{p.im, -p.im} {
				m := &Mandelbrot{T: typ, CX: []float64{typ.Round(p.re)}, CY: []float64{typ.Round(im)}}
				if got := m.Interior(0, 0); got != p.want {
					t.Errorf("%s: Interior of (%v, %v) is %v", typ, p.re, im, got)
				}
				m.Julia = true
				if m.Interior(0, 0) {
					t.Errorf("%s: (%v, %v) is settled for a Julia set", typ, p.re, im)
				}
			}
		}
	}
}

// TestNearlyInterior has points anywhere and near the edges, where most are not sure.
func TestNearlyInterior(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	sures := 0
	const points = 200_000
	for range points {
		sin, cos := math.Sincos(2 * math.Pi * rng.Float64())
		x, y := 4*rng.Float64()-2, 4*rng.Float64()-2
		switch rng.IntN(3) {
		case 0: // the cardioid
			x, y = cos/2-(cos*cos-sin*sin)/4, sin/2-sin*cos/2
		case 1: // the disc
			x, y = -1+cos/4, sin/4
		}
		off := math.Pow(10, -7*rng.Float64()-1)
		cx, cy := float32(x+off*rng.NormFloat64()), float32(y+off*rng.NormFloat64())
		in, sure := nearlyInterior(float64(cx), float64(cy))
		if sure {
			sures++
			if want := interior32(cx, cy); in != want {
				t.Fatalf("(%v, %v): %v, want %v", cx, cy, in, want)
			}
		}
	}
	if sures < points/4 || sures > points-points/10 {
		t.Errorf("%d of %d points are sure", sures, points)
	}
}
