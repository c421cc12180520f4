package tiler

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// moved counts the elements that the blocks of b, cut from C column by column, read
// and write.
func moved(p Product, b Blocks) float64 {
	sum := float64(p.M) * float64(p.N)
	for x := 0; x < p.N; x += b.Cols {
		cols := min(b.Cols, p.N-x)
		for y := 0; y < p.M; y += b.Rows {
			rows := min(b.Rows, p.M-y)
			sum += float64(rows) * float64(p.K)
			if y == 0 || b.Depth < p.K {
				sum += float64(cols) * float64(p.K)
			}
		}
	}
	return sum
}

func TestPlanBlocksFits(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 6))
		side := func() int { return 1 + int(math.Exp2(17*rng.Float64())) }
		p := Product{side(), side(), side()}
		elements, stepX, stepY := math.Exp2(30*rng.Float64()), 1+rng.IntN(100), 1+rng.IntN(100)
		b, ok := PlanBlocks(p, elements, stepX, stepY)
		if !ok {
			if least := (Blocks{Rows: min(stepY, p.M), Cols: min(stepX, p.N), Depth: 1}); least.Memory(p.K) <= elements {
				t.Fatalf("seed %d: no plan for %+v in %g elements, and %+v fits", seed, p, elements, least)
			}
			continue
		}
		if b.Memory(p.K) > elements {
			t.Fatalf("seed %d: %+v takes %g of %g elements", seed, b, b.Memory(p.K), elements)
		}
		if b.Rows < 1 || b.Rows > p.M || b.Rows%stepY != 0 && b.Rows != p.M ||
			b.Cols < 1 || b.Cols > p.N || b.Cols%stepX != 0 && b.Cols != p.N || b.Depth < 1 || b.Depth > p.K {
			t.Fatalf("seed %d: %+v has blocks %+v, of steps %d×%d", seed, p, b, stepX, stepY)
		}
		if got := moved(p, b); math.Abs(got-b.Moved) > 1e-9*got {
			t.Fatalf("seed %d: %+v of %+v move %g, not %g", seed, b, p, got, b.Moved)
		}
	}
}

func TestPlanBlocksMovesLittle(t *testing.T) {
	worst := 0.0
	for _, p := range []Product{
		{8192, 8192, 8192}, {20000, 20000, 20000}, {100000, 100000, 100000}, {42000, 42000, 42000},
		{100000, 1000, 1000}, {1000, 100000, 5000}, {30000, 30000, 100}, {500, 700, 1000000}, {100000, 1, 100000},
	} {
		for mib := 16; mib <= 1024; mib *= 2 {
			for _, size := range []int{4, 8} {
				elements := float64(mib << 20 / size)
				b, ok := PlanBlocks(p, elements, 96, 168)
				if !ok {
					t.Fatalf("no plan for %+v in %d MiB", p, mib)
				}
				ratio := b.Moved / MovedBound(p, elements)
				worst = max(worst, ratio)
				if ratio > 1.15 {
					t.Errorf("%+v in %d MiB, %d bytes an element: %+v move %.3f of the bound", p, mib, size, b, ratio)
				}
			}
		}
	}
	t.Logf("at most %.3f of the bound", worst)
}

func TestMovedBound(t *testing.T) {
	if got := MovedBound(Product{10, 20, 30}, 25); got != 2*10*20*30/5+10*30+30*20+10*20 {
		t.Errorf("got %g", got)
	}
}

func TestGridCutsOnItsLines(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		g := Grid{StepX: 1 + rng.IntN(8), StepY: 1 + rng.IntN(8)}
		if rng.IntN(2) == 0 {
			g.MaxW, g.MaxH = g.StepX*(1+rng.IntN(9)), g.StepY*(1+rng.IntN(9))
		}
		whole := kernels.Tile{W: 1 + rng.IntN(100), H: 1 + rng.IntN(100)}
		want, maxArea := float64(whole.Area())*rng.Float64(), 1+rng.IntN(whole.Area())
		var heads []kernels.Tile
		for pending := []kernels.Tile{whole}; len(pending) > 0; {
			u := pending[len(pending)-1]
			head, rest := g.Cut(u, Uniform(1), want, maxArea)
			pending = append(pending[:len(pending)-1], rest...)
			heads = append(heads, head)
			if g.MaxW > 0 && (head.W > g.MaxW || head.H > g.MaxH) {
				t.Fatalf("seed %d: %+v cut %v off %v", seed, g, head, u)
			}
			if head.X%g.StepX != 0 || head.Y%g.StepY != 0 {
				t.Fatalf("seed %d: %+v cut %v off %v, which is not on its lines", seed, g, head, u)
			}
			// A step more on each side, and what is not worth a tile of its own.
			side := math.Sqrt(min(want, float64(maxArea)))
			if limit := (1.2*side + float64(g.StepX)) * (1.2*side + float64(g.StepY)); head.W > g.StepX && head.H > g.StepY &&
				head.W < u.W && head.H < u.H && float64(head.Area()) > limit {
				t.Fatalf("seed %d: %+v cut %v off %v, where %g were wanted and %d allowed", seed, g, head, u, want, maxArea)
			}
		}
		requireCover(t, whole, heads)
	}
}

func TestGridCutsSquares(t *testing.T) {
	whole := kernels.Tile{W: 1000, H: 1000}
	for _, c := range []struct {
		name    string
		g       Grid
		want    float64
		maxArea int
		head    kernels.Tile
	}{
		{"all", Grid{}, math.Inf(1), math.MaxInt, whole},
		{"a quarter", Grid{StepX: 10, StepY: 10}, 250000, math.MaxInt, kernels.Tile{W: 500, H: 500}},
		{"the largest, alike", Grid{StepX: 10, StepY: 10, MaxW: 400, MaxH: 900}, math.Inf(1), math.MaxInt, kernels.Tile{W: 340, H: 500}},
		{"a strip of a half", Grid{StepX: 10, StepY: 10, MaxW: 700, MaxH: 1000}, 100000, 500000, kernels.Tile{W: 500, H: 200}},
		{"all but little of it", Grid{StepX: 10, StepY: 10, MaxW: 1000, MaxH: 700}, 460000, 500000, kernels.Tile{W: 1000, H: 500}},
		{"memory", Grid{StepX: 10, StepY: 10}, math.Inf(1), 10000, kernels.Tile{W: 100, H: 100}},
		{"a narrow grid", Grid{StepX: 10, StepY: 10, MaxW: 50, MaxH: 1000}, 10000, math.MaxInt, kernels.Tile{W: 50, H: 200}},
		{"high", Grid{StepX: 10, StepY: 10, High: 500}, 50000, math.MaxInt, kernels.Tile{W: 100, H: 500}},
		{"not so high", Grid{StepX: 10, StepY: 10, High: 500}, 6000, math.MaxInt, kernels.Tile{W: 60, H: 100}},
		{"higher", Grid{StepX: 10, StepY: 10, High: 50}, 250000, math.MaxInt, kernels.Tile{W: 500, H: 500}},
		{"nothing wanted", Grid{StepX: 16, StepY: 8}, 0, math.MaxInt, kernels.Tile{W: 16, H: 8}},
	} {
		if head, _ := c.g.Cut(whole, Uniform(1), c.want, c.maxArea); head != c.head {
			t.Errorf("%s: cut %v, want %v", c.name, head, c.head)
		}
	}
}

// TestPlanBlocksEnds plans products of any shape, also such as nobody has, in a moment.
func TestPlanBlocksEnds(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, p := range []Product{{1, 1 << 46, 1}, {1 << 46, 1, 1}, {1, 1 << 46, 1 << 20}, {1 << 23, 1 << 23, 1 << 23}, {1, 1, 1 << 46}} {
			for _, elements := range []float64{1, 100, 1 << 20, 1 << 40} {
				PlanBlocks(p, elements, 1, 1)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
}
