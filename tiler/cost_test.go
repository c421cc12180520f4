package tiler

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// randomMap returns a CostMap over bounds, with the sharp contrasts that an
// escape-time image has.
func randomMap(rng *rand.Rand, bounds kernels.Tile) *CostMap {
	cols, rows := 1+rng.IntN(9), 1+rng.IntN(9)
	samples := make([]float64, cols*rows)
	for i := range samples {
		if rng.IntN(2) == 0 {
			samples[i] = math.Exp2(40 * rng.Float64())
		}
	}
	return NewCostMap(bounds.W, bounds.H, cols, rows, samples, float64(rng.IntN(3)))
}

func randomPart(rng *rand.Rand, t kernels.Tile) kernels.Tile {
	x, y := rng.IntN(t.W), rng.IntN(t.H)
	return kernels.Tile{X: t.X + x, Y: t.Y + y, W: 1 + rng.IntN(t.W-x), H: 1 + rng.IntN(t.H-y)}
}

func TestCostMapAddsUpExactly(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		bounds := kernels.Tile{W: 1 + rng.IntN(3000), H: 1 + rng.IntN(3000)}
		m := randomMap(rng, bounds)
		u := randomPart(rng, bounds)
		a, b := u.SplitX(rng.IntN(u.W + 1))
		if rng.IntN(2) == 0 {
			a, b = u.SplitY(rng.IntN(u.H + 1))
		}
		if m.Cost(a)+m.Cost(b) != m.Cost(u) {
			t.Fatalf("seed %d: %v costs %g, its parts %g and %g", seed, u, m.Cost(u), m.Cost(a), m.Cost(b))
		}
		part := randomPart(rng, u)
		if c := m.Cost(part); c <= 0 || c > m.Cost(u) {
			t.Fatalf("seed %d: %v costs %g, its part %v %g", seed, u, m.Cost(u), part, c)
		}
	}
}

// The integral of the samples over a tile, the slow way.
func integral(w, h, cols, rows int, samples []float64, t kernels.Tile) float64 {
	sum := 0.0
	for j := range rows {
		for i := range cols {
			x0, x1 := float64(i*w)/float64(cols), float64((i+1)*w)/float64(cols)
			y0, y1 := float64(j*h)/float64(rows), float64((j+1)*h)/float64(rows)
			dx := min(x1, float64(t.X+t.W)) - max(x0, float64(t.X))
			dy := min(y1, float64(t.Y+t.H)) - max(y0, float64(t.Y))
			if dx > 0 && dy > 0 {
				sum += dx * dy * samples[j*cols+i]
			}
		}
	}
	return sum
}

func TestCostMapIsTheIntegralOfItsSamples(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 4))
		w, h, cols, rows := 1+rng.IntN(200), 1+rng.IntN(200), 1+rng.IntN(20), 1+rng.IntN(20)
		samples := make([]float64, cols*rows)
		for i := range samples {
			samples[i] = rng.Float64()
		}
		m := NewCostMap(w, h, cols, rows, samples, 2)
		u := randomPart(rng, kernels.Tile{W: w, H: h})
		want := integral(w, h, cols, rows, samples, u) + 2*float64(u.Area())
		if got := m.Cost(u); math.Abs(got-want) > 1e-9*want {
			t.Fatalf("seed %d: %v of %d×%d in %d×%d cells costs %g, want %g", seed, u, w, h, cols, rows, got, want)
		}
	}
}

func TestCostMapOfOddSamples(t *testing.T) {
	whole := kernels.Tile{W: 10, H: 10}
	for _, c := range []struct {
		name       string
		samples    []float64
		perElement float64
		want       float64
	}{
		{"zeros are uniform", []float64{0, 0}, 0, 100},
		{"what is not a cost counts as zero", []float64{math.NaN(), math.Inf(1)}, -1, 100},
		{"half", []float64{-3, 5}, 0, 250},
		{"constant", []float64{0, 0}, 7, 700},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewCostMap(10, 10, 2, 1, c.samples, c.perElement)
			if got := m.Cost(whole); math.Abs(got-c.want) > 1e-9*c.want {
				t.Errorf("the whole costs %g, want %g", got, c.want)
			}
		})
	}
	if got := NewCostMap(0, 0, 1, 1, []float64{1}, 1).Cost(kernels.Tile{}); got != 0 {
		t.Errorf("nothing costs %g", got)
	}
	if got := Uniform(3).Cost(whole); got != 300 {
		t.Errorf("Uniform(3) costs %g, want 300", got)
	}
}

func BenchmarkCostMap(b *testing.B) {
	samples := make([]float64, 256*256)
	for i := range samples {
		samples[i] = float64(i % 1000)
	}
	m := NewCostMap(16384, 16384, 256, 256, samples, 1)
	for i := 0; b.Loop(); i++ {
		m.Cost(kernels.Tile{X: i % 1000, Y: i % 777, W: 5000, H: 7000})
	}
}
