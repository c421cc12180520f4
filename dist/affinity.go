package dist

import (
	"container/heap"

	"github.com/gpurun/gpurun/kernels"
)

// Tiles of a product in the same rows share a part of A, those in the same columns one
// of B. A device that fetches and keeps them so gets tiles that lie near each
// other: each has a home, a rectangle of which it takes one tile after the other, and
// when it has none left about half of another's.

// operandLines are the rows and the columns in which a device has computed tiles, in
// units of several.
type operandLines struct {
	bounds        kernels.Tile
	rows, columns []bool // nil if the device has no grid
}

// mostLineUnits is how many units of rows, and of columns, are told apart.
const mostLineUnits = 1024

func newOperandLines(bounds kernels.Tile) operandLines {
	return operandLines{bounds, make([]bool, min(bounds.H, mostLineUnits)), make([]bool, min(bounds.W, mostLineUnits))}
}

// units returns those of the units that n lines from first on lie in.
func units(of []bool, all, first, n int) []bool {
	unit := (all + len(of) - 1) / max(1, len(of))
	return of[first/unit : min((first+n+unit-1)/unit, len(of))]
}

// add notes that the device has t.
func (l *operandLines) add(t kernels.Tile) {
	if l.rows == nil {
		return
	}
	for _, have := range [][]bool{units(l.rows, l.bounds.H, t.Y, t.H), units(l.columns, l.bounds.W, t.X, t.W)} {
		for i := range have {
			have[i] = true
		}
	}
}

// lacks returns the part of all rows and columns that the device would have to fetch
// for t, at most 2.
func (l *operandLines) lacks(t kernels.Tile) float64 {
	missing := func(of []bool, all, first, n int) float64 {
		count := 0
		for _, have := range units(of, all, first, n) {
			if !have {
				count++
			}
		}
		return float64(count) / float64(len(of))
	}
	return missing(l.rows, l.bounds.H, t.Y, t.H) + missing(l.columns, l.bounds.W, t.X, t.W)
}

// next removes and returns the pending piece that d should go on with, or nil: what has
// failed elsewhere first; then, if d keeps operands, what is near; then the costliest.
func (q *queue) next(d *deviceUse) *piece {
	if !d.keeps() {
		return q.pending.take(d)
	}
	best, lacks := -1, 0.
	for i, x := range q.pending.pieces {
		if x.failedOn(d) {
			continue
		}
		if l := d.lines.lacks(x.tile) / max(x.cost, 1e-300); best < 0 || x.nearer(q.pending.pieces[best], d, l, lacks) {
			best, lacks = i, l
		}
	}
	if best < 0 {
		return nil
	}
	return heap.Remove(&q.pending, best).(*piece)
}

// nearer reports whether d is to lease a before b, where it lacks so much of them for
// each cost.
func (a *piece) nearer(b *piece, d *deviceUse, lacksA, lacksB float64) bool {
	switch {
	case len(a.failures) != len(b.failures):
		return len(a.failures) > len(b.failures)
	case (a.home == d) != (b.home == d):
		return a.home == d
	case a.home == d && a.cost != b.cost:
		return a.cost < b.cost // it lies beside the last tile, and what is left stays whole
	case lacksA != lacksB:
		return lacksA < lacksB
	}
	return a.before(b)
}

// mostOfHome is the part of another device's home that one takes at most.
const mostOfHome = 0.6

// settleOn makes x, which was pending, the home of d; or half of it, if it is most of
// another device's and worth more than one tile that costs want. q.mu is held.
func (q *queue) settleOn(x *piece, d *deviceUse, want float64) *piece {
	if x.home != nil && x.home != d && x.home.inUse() && x.cost > max(2*want, mostOfHome*(x.cost+q.homeCost(x.home))) {
		t := x.tile
		near, far := t.SplitY(min(roundTo(t.H/2, d.grid.StepY), t.H))
		if t.W > t.H {
			near, far = t.SplitX(min(roundTo(t.W/2, d.grid.StepX), t.W))
		}
		if d.lines.lacks(near) < d.lines.lacks(far) {
			near, far = far, near
		}
		if !near.Empty() && !far.Empty() {
			heap.Push(&q.pending, q.part(x, near))
			x = q.part(x, far)
		}
	}
	x.home = d
	return x
}

// homeCost returns the cost of the pending pieces whose home is d's.
func (q *queue) homeCost(d *deviceUse) (sum float64) {
	for _, x := range q.pending.pieces {
		if x.home == d {
			sum += x.cost
		}
	}
	return sum
}

// roundTo returns about n, a multiple of step.
func roundTo(n, step int) int {
	step = max(step, 1)
	return (n + step/2) / step * step
}
