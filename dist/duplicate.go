package dist

import (
	"math"
	"slices"
	"time"

	"github.com/gpurun/gpurun/tiler"
)

// When nothing is pending, an idle puller computes again what the lease that
// will finish last still owes, if that pays. It takes its share as it would
// of pending work, by factoring among all pullers that are idle or already
// busy with duplicates, so that several share a large tile. The bits are the
// same; the first answer for a piece wins.

// lateAt returns when l is past its prediction, beyond what a prediction may
// be off by.
func (l *lease) lateAt() time.Time {
	return l.start.Add(l.predicted + l.predicted/4 + l.puller.grain())
}

// left returns the seconds until l is predicted to be answered; without end
// if it is late, since nothing is known of it any more.
func (l *lease) left(now time.Time) float64 {
	if !now.Before(l.lateAt()) {
		return math.Inf(1)
	}
	return max(0, l.start.Add(l.predicted).Sub(now).Seconds())
}

// nextLate returns when the next lease will be late that is not yet.
func (q *queue) nextLate(now time.Time) (at time.Time, ok bool) {
	for _, l := range q.live {
		if t := l.lateAt(); now.Before(t) && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

// duplicate returns a second lease, for p, on a part of the lease that will
// finish last, or nil if none pays. q.mu is held.
func (q *queue) duplicate(p *puller, now time.Time) *lease {
	var last *lease
	var owed []*piece
	for _, l := range q.live {
		if last != nil && l.left(now) <= last.left(now) {
			continue
		}
		if pieces := l.owes(p, now); len(pieces) > 0 && q.pays(p, l, pieces, now) {
			last, owed = l, pieces
		}
	}
	if last == nil {
		return nil
	}
	x := costliest(owed)
	if !q.fixed {
		want, maxArea := q.want(p, costOf(owed), q.helpersRate())
		x = q.cutLeased(x, p.device.grid, want, maxArea)
	}
	return q.grant(p, x, now)
}

// owes returns the pieces that p may compute again for l: those that no other
// holder will answer sooner, and that p's device neither holds nor has failed.
func (l *lease) owes(p *puller, now time.Time) []*piece {
	var pieces []*piece
	left := l.left(now)
	for _, x := range l.pieces {
		if !x.heldBy(p.device) && !x.failedOn(p.device) &&
			!slices.ContainsFunc(x.holders, func(m *lease) bool { return m.left(now) < left }) {
			pieces = append(pieces, x)
		}
	}
	return pieces
}

// pays reports whether p, with all others that are idle, would have computed
// the pieces before l does, by more than the shortest time worth a tile.
func (q *queue) pays(p *puller, l *lease, pieces []*piece, now time.Time) bool {
	left := l.left(now)
	if math.IsInf(left, 1) {
		return true
	}
	cost, rate := costOf(pieces), q.helpersRate()
	if q.fixed {
		cost, rate = costliest(pieces).cost, p.rate.perSecond()
	}
	return p.rate.perSecond() > 0 && cost/rate+p.grain().Seconds() < left
}

// helpersRate returns the rates, added up, of the pullers that wait or are
// busy with duplicates.
func (q *queue) helpersRate() float64 {
	sum := 0.0
	for _, r := range q.waiting {
		sum += r.puller.rate.perSecond()
	}
	for _, l := range q.live {
		if l.duplicate {
			sum += l.puller.rate.perSecond()
		}
	}
	return sum
}

// cutLeased cuts a leased piece, in the accounts of all who hold it, and
// returns the head.
func (q *queue) cutLeased(x *piece, grid *tiler.Grid, want float64, maxArea int) *piece {
	head, rest := q.cut(x, grid, want, maxArea)
	if head == x {
		return x
	}
	for _, l := range x.holders {
		i := slices.Index(l.pieces, x)
		l.pieces = slices.Replace(l.pieces, i, i+1, append([]*piece{head}, rest...)...)
	}
	return head
}

func costOf(pieces []*piece) float64 { return pendingPieces(pieces).cost() }

func costliest(pieces []*piece) *piece {
	return slices.MaxFunc(pieces, func(a, b *piece) int {
		switch {
		case a.cost < b.cost:
			return -1
		case a.cost > b.cost:
			return 1
		}
		return 0
	})
}
