package tiler

import (
	"math"

	"github.com/gpurun/gpurun/kernels"
)

// Grid says which tiles suit a device.
type Grid struct {
	// StepX and StepY are what widths and heights of tiles are best multiples of.
	StepX, StepY int

	// MaxW and MaxH are the sides of the largest tile that it computes in one go. They
	// are 0 where a larger one is as good.
	MaxW, MaxH int
}

// Cut is CutByCost for a device that has to fetch as many rows and columns of its
// operands as a tile has: the head is about square, and lies on the grid. It costs
// about want, if maxArea and the grid let it.
func (g Grid) Cut(t kernels.Tile, cost Cost, want float64, maxArea int) (head kernels.Tile, rest []kernels.Tile) {
	area := float64(max(1, maxArea))
	if whole := cost.Cost(t); whole > 0 {
		area = max(1, min(area, want/whole*float64(t.Area())))
	}
	mostW, mostH := limit(t.W, g.MaxW), limit(t.H, g.MaxH)
	w := min(float64(mostW), math.Sqrt(area))
	h := min(float64(mostH), area/w)
	w = min(float64(mostW), area/h)
	head, below := t.SplitY(g.line(t.H, h, mostH, g.StepY))
	head, right := head.SplitX(g.line(t.W, w, mostW, g.StepX))
	return head, nonEmpty(right, below)
}

func limit(n, most int) int {
	if most <= 0 {
		return n
	}
	return min(n, most)
}

// line returns how much of a side of n lines to cut off, where about want are wanted
// and at most most may be: as much as if all of it were cut alike.
func (g Grid) line(n int, want float64, most, step int) int {
	step = max(1, step)
	enough := max(1, int(min(want*(1+sliver/2), float64(most))))
	lines := side(n, (n+enough-1)/enough, step)
	if lines > enough {
		lines = max(enough/step*step, min(step, most))
	}
	return lines
}
