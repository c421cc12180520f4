package tiler_test

import (
	"math/rand/v2"
	"testing"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// painted counts for each element of a plane of 2·reach elements each way, around the
// origin, how many of tiles have it.
func painted(reach int, tiles []kernels.Tile) map[[2]int]int {
	count := map[[2]int]int{}
	for _, t := range tiles {
		for y := max(t.Y, -reach); y < min(t.Y+t.H, reach); y++ {
			for x := max(t.X, -reach); x < min(t.X+t.W, reach); x++ {
				count[[2]int{x, y}]++
			}
		}
	}
	return count
}

func checkSubtract(t *testing.T, from kernels.Tile, tiles []kernels.Tile) {
	t.Helper()
	const reach = 64
	left := tiler.Subtract(from, tiles)
	all, taken, rest := painted(reach, []kernels.Tile{from}), painted(reach, tiles), painted(reach, left)
	for p := range rest {
		if all[p] == 0 || taken[p] > 0 || rest[p] > 1 {
			t.Fatalf("Subtract(%v, %v) = %v: element %v is wrong there", from, tiles, left, p)
		}
	}
	for p := range all {
		if taken[p] == 0 && rest[p] == 0 {
			t.Fatalf("Subtract(%v, %v) = %v: element %v is missing", from, tiles, left, p)
		}
	}
	for _, u := range left {
		if u.Empty() {
			t.Fatalf("Subtract(%v, %v) = %v: one is empty", from, tiles, left)
		}
	}
}

func TestSubtract(t *testing.T) {
	whole := kernels.Tile{X: 3, Y: 5, W: 20, H: 12}
	for _, tiles := range [][]kernels.Tile{
		nil,
		{whole},
		{{X: 3, Y: 5, W: 20, H: 1}},
		{{X: 8, Y: 7, W: 2, H: 2}},
		{{X: -50, Y: -50, W: 100, H: 100}},
		{{X: 40, Y: 40, W: 2, H: 2}, {}},
		{{X: 3, Y: 5, W: 10, H: 12}, {X: 13, Y: 5, W: 10, H: 12}},
	} {
		checkSubtract(t, whole, tiles)
	}
	if left := tiler.Subtract(kernels.Tile{}, nil); left != nil {
		t.Errorf("nothing is left of nothing, not %v", left)
	}
	// A hole in the middle leaves four, not one for each row.
	if left := tiler.Subtract(whole, []kernels.Tile{{X: 8, Y: 7, W: 2, H: 6}}); len(left) != 4 {
		t.Errorf("beside a hole there are %v, which are not four", left)
	}
}

func TestSubtractRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	random := func(most int) kernels.Tile {
		return kernels.Tile{X: rng.IntN(40) - 20, Y: rng.IntN(40) - 20, W: rng.IntN(most), H: rng.IntN(most)}
	}
	for range 500 {
		var tiles []kernels.Tile
		for range rng.IntN(30) {
			tiles = append(tiles, random(12))
		}
		checkSubtract(t, random(40), tiles)
	}
}

// TestCommon compares the parts with those that are found by looking at all pairs.
func TestCommon(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		bounds := kernels.Tile{W: 1 + rng.IntN(40), H: 1 + rng.IntN(40)}
		tiles := tiler.Split(bounds, 1+rng.IntN(30))
		all := tiler.Split(bounds, 1+rng.IntN(30))
		rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		others := tiler.Subtract(bounds, all[:rng.IntN(len(all)+1)])
		want := map[kernels.Tile]bool{}
		for _, a := range tiles {
			for _, b := range others {
				if c := a.Intersect(b); !c.Empty() {
					want[c] = true
				}
			}
		}
		got := tiler.Common(tiles, others)
		for _, c := range got {
			if !want[c] {
				t.Fatalf("Common(%v, %v) has %v", tiles, others, c)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("Common(%v, %v) has %d parts, want %d", tiles, others, len(got), len(want))
		}
	}
}
