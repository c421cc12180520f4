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

	// High is the height up to which higher tiles are better than square ones. It is 0
	// where square ones are best.
	High int
}

// leastSteps is how many steps wide a tile is at least that is higher than wide.
const leastSteps = 6

// Cut is CutByCost for a device that has to fetch as many rows and columns of its
// operands as a tile has: the head is about square, or up to High if that is more, and
// lies on the grid. It costs about want and has at most about maxArea elements, or one step of
// the grid. The rest, of any
// number of parts, is such that later heads can be alike.
func (g Grid) Cut(t kernels.Tile, cost Cost, want float64, maxArea int) (head kernels.Tile, rest []kernels.Tile) {
	area := float64(max(1, maxArea))
	if whole := cost.Cost(t); whole > 0 {
		area = max(1, min(area, want/whole*float64(t.Area())))
	}
	mostW, mostH := limit(t.W, g.MaxW), limit(t.H, g.MaxH)
	high := min(float64(g.High), area/float64(leastSteps*max(1, g.StepX)))
	h := min(float64(mostH), max(math.Sqrt(area), high))
	w := min(float64(mostW), area/h)
	h = min(float64(mostH), area/w)
	across, down := newSpacing(w, mostW, g.StepX), newSpacing(h, mostH, g.StepY)
	for {
		columns, rows := across.parts(t.W), down.parts(t.H)
		keepW, keepH := columns/2, rows/2
		if g.MaxW > 0 {
			keepW, keepH = 1, 1 // what lies near is of no use, and parts of parts are more
		}
		var other kernels.Tile
		switch {
		case columns <= 1 && rows <= 1:
			return t, rest
		case columns > rows || rows <= 1:
			t, other = t.SplitX(across.lines(t.W, columns, keepW))
		default:
			t, other = t.SplitY(down.lines(t.H, rows, keepH))
		}
		rest = append(rest, other)
	}
}

func limit(n, most int) int {
	if most <= 0 {
		return n
	}
	return min(n, most)
}

// spacing is how a side of a tile is cut.
type spacing struct {
	most int // lines of one part
	step int // what parts are multiples of
}

// newSpacing returns the spacing where about want lines are wanted of each part, and at
// most most may be.
func newSpacing(want float64, most, step int) spacing {
	step = max(1, step)
	return spacing{max(1, min(step, most), int(min(want*(1+sliver/2), float64(most)))), step}
}

// parts returns in how many parts n lines are to be cut.
func (s spacing) parts(n int) int {
	if n <= s.most {
		return 1
	}
	return (n-1)/s.part() + 1
}

// part returns the lines of the largest part that is cut off.
func (s spacing) part() int { return max(s.most/s.step*s.step, min(s.step, s.most)) }

// lines returns how many of n lines, which are so many parts, cut all alike, count parts
// are.
func (s spacing) lines(n, parts, count int) int {
	one := min((n+parts-1)/parts+s.step-1, s.part()+s.step-1) / s.step * s.step
	if lines := count * one; one <= s.most && lines > 0 && lines < n {
		return lines
	}
	return min(s.part(), n-1)
}
