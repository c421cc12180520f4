package tiler

import (
	"math/rand/v2"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// requireCover fails unless tiles cover t exactly, without overlap.
func requireCover(t *testing.T, whole kernels.Tile, tiles []kernels.Tile) {
	t.Helper()
	seen := make([]bool, whole.Area())
	left := len(seen)
	for _, u := range tiles {
		if u.Empty() || !whole.Contains(u) {
			t.Fatalf("tile %v is empty or outside %v", u, whole)
		}
		for y := range u.H {
			for x := range u.W {
				at := (u.Y-whole.Y+y)*whole.W + u.X - whole.X + x
				if seen[at] {
					t.Fatalf("tile %v overlaps another: %v", u, tiles)
				}
				seen[at] = true
				left--
			}
		}
	}
	if left != 0 {
		t.Fatalf("%d elements of %v are in no tile", left, whole)
	}
}

func TestSplit(t *testing.T) {
	for _, b := range []kernels.Tile{{W: 1, H: 1}, {W: 2, H: 3}, {W: 3, H: 2}, {W: 7, H: 1}, {W: 1, H: 9}, {W: 64, H: 48}, {X: 5, Y: 3, W: 31, H: 17}} {
		for n := -1; n <= b.Area()+2; n++ {
			tiles := Split(b, n)
			requireCover(t, b, tiles)
			if want := min(max(1, n), b.Area()); len(tiles) != want {
				t.Fatalf("Split(%v, %d) gave %d tiles, want %d", b, n, len(tiles), want)
			}
		}
	}
	for _, b := range []kernels.Tile{{}, {W: 3}, {H: 3}} {
		if tiles := Split(b, 3); tiles != nil {
			t.Errorf("Split(%v, 3) = %v, want none", b, tiles)
		}
	}
}

func TestSplitIsNearlyEqual(t *testing.T) {
	for _, b := range []kernels.Tile{{W: 1920, H: 1280}, {W: 5000, H: 100}, {W: 333, H: 777}} {
		for _, n := range []int{2, 3, 7, 16, 31, 100, 101} {
			least, most := b.Area(), 0
			for _, u := range Split(b, n) {
				least, most = min(least, u.Area()), max(most, u.Area())
			}
			if float64(most) > 1.2*float64(least) {
				t.Errorf("Split(%v, %d): areas from %d to %d", b, n, least, most)
			}
		}
	}
}

func TestBands(t *testing.T) {
	for _, b := range []kernels.Tile{{}, {W: 1, H: 1}, {W: 10, H: 7}, {X: 2, Y: 9, W: 33, H: 5}} {
		for maxArea := -1; maxArea <= b.Area()+1; maxArea++ {
			tiles := Bands(b, maxArea)
			requireCover(t, b, tiles)
			for _, u := range tiles {
				if u.Area() > max(1, maxArea) {
					t.Fatalf("Bands(%v, %d) gave %v", b, maxArea, u)
				}
				if maxArea >= b.W && u.W != b.W {
					t.Fatalf("Bands(%v, %d) cut a row: %v", b, maxArea, u)
				}
			}
		}
	}
}

func TestCutByCostShapes(t *testing.T) {
	whole := kernels.Tile{X: 3, Y: 4, W: 10, H: 10}
	for _, c := range []struct {
		name    string
		want    float64
		maxArea int
		head    kernels.Tile
		rest    int
	}{
		{"all", 1000, 1000, whole, 0},
		{"a slab of the nearest number of rows", 34, 1000, kernels.Tile{X: 3, Y: 4, W: 10, H: 3}, 1},
		{"no row is cut for a little", 9, 1000, kernels.Tile{X: 3, Y: 4, W: 10, H: 1}, 1},
		{"part of a row", 6, 1000, kernels.Tile{X: 3, Y: 4, W: 6, H: 1}, 2},
		{"no sliver", 85, 1000, whole, 0},
		{"memory before cost", 85, 50, kernels.Tile{X: 3, Y: 4, W: 10, H: 5}, 1},
		{"memory below a row", 85, 4, kernels.Tile{X: 3, Y: 4, W: 4, H: 1}, 2},
		{"at least one element", 0, 0, kernels.Tile{X: 3, Y: 4, W: 1, H: 1}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			head, rest := CutByCost(whole, Uniform(1), c.want, c.maxArea)
			if head != c.head || len(rest) != c.rest {
				t.Errorf("got %v and %v, want %v and %d more", head, rest, c.head, c.rest)
			}
			requireCover(t, whole, append(rest, head))
		})
	}
	if head, rest := CutByCost(kernels.Tile{}, Uniform(1), 1, 1); !head.Empty() || rest != nil {
		t.Errorf("cutting nothing gave %v and %v", head, rest)
	}
}

// cutAll takes t apart with CutByCost, head by head, and checks every cut.
func cutAll(t *testing.T, whole kernels.Tile, cost Cost, want float64, maxArea int) {
	t.Helper()
	var heads []kernels.Tile
	total := 0.0
	for pending := []kernels.Tile{whole}; len(pending) > 0; {
		u := pending[len(pending)-1]
		head, rest := CutByCost(u, cost, want, maxArea)
		if len(rest) > 2 || head.Empty() || head.Area() > max(1, maxArea) {
			t.Fatalf("CutByCost(%v, want %g, maxArea %d) gave %v and %v", u, want, maxArea, head, rest)
		}
		if c := cost.Cost(head); c > 1.5*want && head.Area() > 1 {
			if one, _ := head.SplitX(1); head.H > 1 || c-cost.Cost(one) > 1.5*want {
				t.Fatalf("CutByCost(%v, want %g): head %v costs %g", u, want, head, c)
			}
		}
		heads = append(heads, head)
		total += cost.Cost(head)
		pending = append(pending[:len(pending)-1], rest...)
	}
	requireCover(t, whole, heads)
	if c := cost.Cost(whole); total < c*(1-1e-9) || total > c*(1+1e-9) {
		t.Fatalf("the parts of %v cost %g, the whole %g", whole, total, c)
	}
}

func TestCutByCostCoversExactly(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		whole := kernels.Tile{W: 1 + rng.IntN(40), H: 1 + rng.IntN(40)}
		var cost Cost = Uniform(rng.Float64())
		if seed%3 > 0 {
			cost = randomMap(rng, whole)
		}
		cutAll(t, whole, cost, cost.Cost(whole)*rng.Float64()*rng.Float64(), rng.IntN(whole.Area()+2))
	}
}

func FuzzCut(f *testing.F) {
	f.Add(uint64(1), uint8(10), uint8(7), 5.0, 30)
	f.Add(uint64(2), uint8(1), uint8(1), 0.0, 0)
	f.Fuzz(func(t *testing.T, seed uint64, w, h uint8, want float64, maxArea int) {
		whole := kernels.Tile{X: int(seed % 5), Y: int(seed % 3), W: int(w), H: int(h)}
		requireCover(t, whole, Bands(whole, maxArea))
		requireCover(t, whole, Split(whole, maxArea))
		if whole.Empty() {
			return
		}
		bounds := kernels.Tile{W: whole.X + whole.W, H: whole.Y + whole.H}
		cutAll(t, whole, randomMap(rand.New(rand.NewPCG(seed, 2)), bounds), want, maxArea)
	})
}
