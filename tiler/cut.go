// Package tiler is the arithmetic of cutting a job's output into tiles and of
// putting it together again. Cuts are by number (Split), by cost (CutByCost, Grid)
// and by memory (Bands); whatever the cut, the tiles cover what was cut
// exactly and never overlap.
package tiler

import (
	"sort"

	"github.com/gpurun/gpurun/kernels"
)

// Split cuts bounds into exactly min(n, elements of bounds) tiles of nearly
// equal area; n below 1 counts as 1. Empty bounds give no tile.
//
// It halves the longer side, again and again, in proportion to the number of
// tiles that each half is to hold.
func Split(bounds kernels.Tile, n int) []kernels.Tile {
	if bounds.Empty() {
		return nil
	}
	n = min(max(1, n), bounds.Area())
	return split(make([]kernels.Tile, 0, n), bounds, n)
}

func split(tiles []kernels.Tile, t kernels.Tile, n int) []kernels.Tile {
	if n == 1 {
		return append(tiles, t)
	}
	long, short := max(t.W, t.H), min(t.W, t.H)
	first := n / 2
	cut := min(max(1, int(float64(long)*float64(first)/float64(n)+0.5)), long-1)
	// Either side must have an element for each of its tiles.
	first = min(max(1, first, n-(long-cut)*short), n-1, cut*short)
	var a, b kernels.Tile
	if t.W >= t.H {
		a, b = t.SplitX(cut)
	} else {
		a, b = t.SplitY(cut)
	}
	return split(split(tiles, a, first), b, n-first)
}

// sliver is the part of the wanted cost below which a remainder is not left
// behind, and by which a tile may cost more than was wanted.
const sliver = 0.25

// CutByCost cuts off t a head that costs about want and has at most maxArea
// elements, but at least one element; maxArea below 1 counts as 1. The rest
// is at most two tiles.
//
// The head is a slab of whole rows, the topmost of t. Only where one row is
// already too much is it a part of the first row. A head never leaves
// a rest, or a rest of its row, that costs less than a quarter of want, unless
// maxArea forbids to take it along.
func CutByCost(t kernels.Tile, cost Cost, want float64, maxArea int) (head kernels.Tile, rest []kernels.Tile) {
	maxArea = max(1, maxArea)
	most := want * (1 + sliver)
	if t.Area() <= maxArea && cost.Cost(t) <= most {
		return t, nil
	}
	row, below := t.SplitY(1)
	if t.W <= maxArea && cost.Cost(row) <= most {
		head, below = cutSide(t, cost, want, maxArea, kernels.Tile.SplitY, t.H, t.W)
		return head, nonEmpty(below)
	}
	head, right := cutSide(row, cost, want, maxArea, kernels.Tile.SplitX, t.W, 1)
	return head, nonEmpty(right, below)
}

// cutSide cuts t along one side, n lines long with across elements a line.
func cutSide(t kernels.Tile, cost Cost, want float64, maxArea int,
	cut func(kernels.Tile, int) (kernels.Tile, kernels.Tile), n, across int) (head, rest kernels.Tile) {
	limit := min(n, max(1, maxArea/across))
	costOf := func(lines int) float64 {
		head, _ := cut(t, lines)
		return cost.Cost(head)
	}
	// The first number of lines that costs more than wanted, or the one
	// before: the nearer, unless it is far too much.
	lines := min(limit, 1+sort.Search(limit, func(i int) bool { return costOf(i+1) > want }))
	if over := costOf(lines) - want; lines > 1 && (over > want*sliver || over > want-costOf(lines-1)) {
		lines--
	}
	head, rest = cut(t, lines)
	if n <= limit && cost.Cost(rest) < want*sliver {
		return t, kernels.Tile{}
	}
	return head, rest
}

func nonEmpty(tiles ...kernels.Tile) []kernels.Tile {
	var out []kernels.Tile
	for _, t := range tiles {
		if !t.Empty() {
			out = append(out, t)
		}
	}
	return out
}

// Bands cuts t into tiles of at most maxArea elements each: into slabs of
// whole rows of nearly equal height or, where one row is already too much,
// each row into stretches of nearly equal width. maxArea below 1 counts as 1.
// The tiles come in row order. An empty t gives no tile.
func Bands(t kernels.Tile, maxArea int) []kernels.Tile {
	if t.Empty() {
		return nil
	}
	maxArea = max(1, maxArea)
	slabs := t.H
	if rows := maxArea / t.W; rows > 0 {
		slabs = (t.H + rows - 1) / rows
	}
	stretches := (t.W + maxArea - 1) / maxArea
	tiles := make([]kernels.Tile, 0, slabs*stretches)
	for j := range slabs {
		y0, y1 := j*t.H/slabs, (j+1)*t.H/slabs
		for i := range stretches {
			x0, x1 := i*t.W/stretches, (i+1)*t.W/stretches
			tiles = append(tiles, kernels.Tile{X: t.X + x0, Y: t.Y + y0, W: x1 - x0, H: y1 - y0})
		}
	}
	return tiles
}
