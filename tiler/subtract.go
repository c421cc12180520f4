package tiler

import (
	"cmp"
	"slices"

	"github.com/gpurun/gpurun/kernels"
)

// Subtract returns what is left of t without the elements of tiles: rectangles that
// do not overlap, in the order of their rows and then of their columns. The tiles may
// overlap, and reach beyond t.
//
// It looks at the stretches of rows in which nothing begins or ends, one after the
// other, and joins what is alike in neighbouring ones.
func Subtract(t kernels.Tile, tiles []kernels.Tile) []kernels.Tile {
	if t.Empty() {
		return nil
	}
	var cut []kernels.Tile
	edges := []int{t.Y, t.Y + t.H}
	for _, u := range tiles {
		if c := t.Intersect(u); !c.Empty() {
			cut = append(cut, c)
			edges = append(edges, c.Y, c.Y+c.H)
		}
	}
	slices.SortFunc(cut, func(a, b kernels.Tile) int { return a.Y - b.Y })
	slices.Sort(edges)
	edges = slices.Compact(edges)

	var left, open []kernels.Tile // open reach down to the stretch that is looked at
	var here []kernels.Tile       // those of cut that are in it
	for i, y := range edges[:len(edges)-1] {
		here = slices.DeleteFunc(here, func(c kernels.Tile) bool { return c.Y+c.H <= y })
		for len(cut) > 0 && cut[0].Y <= y {
			here, cut = append(here, cut[0]), cut[1:]
		}
		slices.SortFunc(here, func(a, b kernels.Tile) int { return a.X - b.X })
		var next []kernels.Tile
		for _, g := range gaps(t, here, y, edges[i+1]) {
			if k := slices.IndexFunc(open, func(o kernels.Tile) bool { return o.X == g.X && o.W == g.W }); k >= 0 {
				g.Y, g.H = open[k].Y, open[k].H+g.H
				open = slices.Delete(open, k, k+1)
			}
			next = append(next, g)
		}
		left, open = append(left, open...), next
	}
	left = append(left, open...)
	slices.SortFunc(left, func(a, b kernels.Tile) int { return cmp.Or(a.Y-b.Y, a.X-b.X) })
	return left
}

// gaps returns what cut, in the order of its columns, leaves of the rows from … to−1 of
// t, in which none of it begins or ends.
func gaps(t kernels.Tile, cut []kernels.Tile, from, to int) (left []kernels.Tile) {
	x := t.X
	for _, c := range cut {
		if c.X > x {
			left = append(left, kernels.Tile{X: x, Y: from, W: c.X - x, H: to - from})
		}
		x = max(x, c.X+c.W)
	}
	if end := t.X + t.W; x < end {
		left = append(left, kernels.Tile{X: x, Y: from, W: end - x, H: to - from})
	}
	return left
}

// Common returns what tiles have in common with those of others, which do not overlap: the
// parts that are in one of each, in the order of their rows.
func Common(tiles, others []kernels.Tile) []kernels.Tile {
	byRow := func(a, b kernels.Tile) int { return a.Y - b.Y }
	tiles, others = slices.Clone(tiles), slices.Clone(others)
	slices.SortFunc(tiles, byRow)
	slices.SortFunc(others, byRow)
	var parts, here []kernels.Tile // those of others that reach down to t, and have begun above its end
	for _, t := range tiles {
		here = slices.DeleteFunc(here, func(u kernels.Tile) bool { return u.Y+u.H <= t.Y })
		for len(others) > 0 && others[0].Y < t.Y+t.H {
			here, others = append(here, others[0]), others[1:]
		}
		for _, u := range here {
			if c := t.Intersect(u); !c.Empty() {
				parts = append(parts, c)
			}
		}
	}
	return parts
}
