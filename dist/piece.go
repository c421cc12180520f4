package dist

import (
	"container/heap"
	"slices"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// piece is a rectangle of the output for which the queue keeps one account.
// The pieces that are pending, leased and answered cover the output exactly
// and never overlap; the first whole answer for a piece wins.
//
// A piece is pending if it is in queue.pending, leased if it has holders, and
// answered once it has left both for good.
type piece struct {
	tile     kernels.Tile
	cost     float64
	holders  []*lease  // the live leases that would answer it
	failures []failure // on distinct devices: none gets it twice

	// home is the device that has computed others around it, and so has operands of it,
	// if such devices have.
	home *deviceUse
}

// failure is a device that failed on a piece, and how.
type failure struct {
	device *deviceUse
	err    *DeviceError
}

// part returns the account for t, a part of x, with all that is known of x.
func (q *queue) part(x *piece, t kernels.Tile) *piece {
	return &piece{tile: t, cost: q.cost.Cost(t), holders: slices.Clone(x.holders), failures: slices.Clone(x.failures), home: x.home}
}

// cut divides x in parts, of which the first costs about want
// and has at most maxArea elements, or about so many on a grid. There may be one part: x
// itself.
func (q *queue) cut(x *piece, grid *tiler.Grid, want float64, maxArea int) (head *piece, rest []*piece) {
	var tile kernels.Tile
	var others []kernels.Tile
	if q.rows {
		row, _ := x.tile.SplitY(1)
		want, maxArea = max(want, q.cost.Cost(row)), max(maxArea, x.tile.W)
	}
	if grid != nil {
		tile, others = grid.Cut(x.tile, q.cost, want, maxArea)
	} else {
		tile, others = tiler.CutByCost(x.tile, q.cost, want, maxArea)
	}
	if len(others) == 0 {
		return x, nil
	}
	for _, t := range others {
		rest = append(rest, q.part(x, t))
	}
	return q.part(x, tile), rest
}

func (x *piece) failedOn(d *deviceUse) bool {
	return slices.ContainsFunc(x.failures, func(f failure) bool { return f.device == d })
}

func (x *piece) heldBy(d *deviceUse) bool {
	return slices.ContainsFunc(x.holders, func(l *lease) bool { return l.puller.device == d })
}

// pendingPieces is a heap: first what has failed somewhere, so that a tile
// that fails everywhere ends the job early, then the costliest.
type pendingPieces struct {
	pieces []*piece
	cost   float64 // of all
}

func (h *pendingPieces) Len() int      { return len(h.pieces) }
func (h *pendingPieces) Swap(i, j int) { h.pieces[i], h.pieces[j] = h.pieces[j], h.pieces[i] }

func (h *pendingPieces) Less(i, j int) bool { return h.pieces[i].before(h.pieces[j]) }

// before reports whether a is to be leased before b.
func (a *piece) before(b *piece) bool {
	if len(a.failures) != len(b.failures) {
		return len(a.failures) > len(b.failures)
	}
	if a.cost != b.cost {
		return a.cost > b.cost
	}
	if a.tile.Y != b.tile.Y {
		return a.tile.Y < b.tile.Y
	}
	return a.tile.X < b.tile.X
}

// Push is for package heap alone.
func (h *pendingPieces) Push(x any) {
	h.pieces = append(h.pieces, x.(*piece))
	h.cost += x.(*piece).cost
}

// Pop is for package heap alone.
func (h *pendingPieces) Pop() any {
	last := len(h.pieces) - 1
	x := h.pieces[last]
	h.pieces[last] = nil
	h.pieces = h.pieces[:last]
	if h.cost -= x.cost; last == 0 || h.cost < 0 {
		h.cost = 0 // what is left are rounding errors
	}
	return x
}

// take removes and returns the first piece that has not failed on d, or nil.
func (h *pendingPieces) take(d *deviceUse) *piece {
	var found *piece
	var passed []*piece
	for found == nil && h.Len() > 0 {
		x := heap.Pop(h).(*piece)
		if x.failedOn(d) {
			passed = append(passed, x)
		} else {
			found = x
		}
	}
	for _, x := range passed {
		heap.Push(h, x)
	}
	return found
}
