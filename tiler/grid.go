package tiler

import (
	"math"

	"github.com/gpurun/gpurun/kernels"
)

// Grid says which tiles suit a device.
type Grid struct {
	// StepX and StepY are what widths and heights of tiles are best multiples of.
	StepX, StepY int

	// MaxW and MaxH are the sides of the largest tile that it computes in one go. Both
	// are 0 where a larger one is as good.
	MaxW, MaxH int

	// High is the height up to which higher tiles are better than square ones. It is 0
	// where square ones are best.
	High int
}

// leastSteps is how many steps wide a tile is at least that is higher than wide.
const leastSteps = 6

// Cut is CutByCost for a device that has to fetch as many rows and columns of its
// operands as a tile has. The head lies on the grid, costs about want and has at most
// about maxArea elements, or one step of the grid. The rest, of any number of parts, is
// such that later heads can be alike.
//
// Where MaxW and MaxH are 0, the head is about square, or up to High if that is more.
// Where they are not, what a device has read is of no use for its next tile, and what
// counts is how long the lines are along which all of t is cut: then the head is one of
// as few and as square tiles as there can be or, if less is wanted, a strip across it.
func (g Grid) Cut(t kernels.Tile, cost Cost, want float64, maxArea int) (head kernels.Tile, rest []kernels.Tile) {
	wanted := func(t kernels.Tile) float64 {
		area := float64(max(1, maxArea))
		if whole := cost.Cost(t); whole > 0 {
			area = max(1, min(area, want/whole*float64(t.Area())))
		}
		return area
	}
	if g.MaxW > 0 {
		block, rest := g.block(t, float64(max(1, maxArea)))
		head, other := g.strip(block, wanted(block))
		return head, append(rest, nonEmpty(other)...)
	}
	return g.near(t, wanted(t))
}

// near cuts off t about area. It cuts by halves, so that the parts of what remains that
// lie near the head are as large as they can be.
func (g Grid) near(t kernels.Tile, area float64) (head kernels.Tile, rest []kernels.Tile) {
	high := min(float64(g.High), area/float64(leastSteps*max(1, g.StepX)))
	h := min(float64(t.H), max(math.Sqrt(area), high))
	w := min(float64(t.W), area/h)
	h = min(float64(t.H), area/w)
	across, down := newSpacing(w, t.W, g.StepX), newSpacing(h, t.H, g.StepY)
	for {
		columns, rows := across.parts(t.W), down.parts(t.H)
		var other kernels.Tile
		switch {
		case columns <= 1 && rows <= 1:
			return t, rest
		case columns > rows || rows <= 1:
			t, other = t.SplitX(across.lines(t.W, columns, columns/2))
		default:
			t, other = t.SplitY(down.lines(t.H, rows, rows/2))
		}
		rest = append(rest, other)
	}
}

// block cuts off t one of the tiles, all about alike, of at most MaxW by MaxH and of at
// most about area or a step, into which t is cut along the shortest lines. It looks at as
// many ways to cut as there are such tiles.
func (g Grid) block(t kernels.Tile, area float64) (head kernels.Tile, rest []kernels.Tile) {
	across, down := newSpacing(float64(g.MaxW), g.MaxW, g.StepX), newSpacing(float64(g.MaxH), g.MaxH, g.StepY)
	count := float64(t.Area())/area - sliver
	columns, rows, shortest := 0, 0, math.Inf(1)
	for c := across.parts(t.W); c <= across.steps(t.W) && float64(c)*float64(t.H) < shortest; c++ {
		r := min(max(down.parts(t.H), int(math.Ceil(count/float64(c)))), down.steps(t.H))
		if lines := float64(c)*float64(t.H) + float64(r)*float64(t.W); lines < shortest {
			columns, rows, shortest = c, r, lines
		}
		if r == down.parts(t.H) {
			break // there cannot be fewer
		}
	}
	var other kernels.Tile
	if columns > 1 {
		t, other = t.SplitX(across.lines(t.W, columns, 1))
		rest = append(rest, other)
	}
	if rows > 1 {
		t, other = t.SplitY(down.lines(t.H, rows, 1))
		rest = append(rest, other)
	}
	return t, rest
}

// strip cuts off t about area across its shorter side, or returns all of it if little
// would be left.
func (g Grid) strip(t kernels.Tile, area float64) (head, rest kernels.Tile) {
	cut, long, short, step := kernels.Tile.SplitY, t.H, t.W, max(1, min(g.StepY, g.MaxH))
	if t.W > t.H {
		cut, long, short, step = kernels.Tile.SplitX, t.W, t.H, max(1, min(g.StepX, g.MaxW))
	}
	lines := max(step, int(min(area/float64(max(1, short)), float64(long))+float64(step)/2)/step*step)
	if float64(lines)*(1+sliver/2) >= float64(long) {
		return t, kernels.Tile{}
	}
	return cut(t, lines)
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

// steps returns in how many parts n lines can be cut.
func (s spacing) steps(n int) int { return (n-1)/min(s.step, s.most) + 1 }

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
