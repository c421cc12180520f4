package dist

import (
	"cmp"
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

// owing lists the leases of which others may compute a part again, that which will finish
// last first. All who wait look through one list: among thousands of leases those of
// which somebody computes a part are few.
type owing struct {
	q     *queue
	now   time.Time
	first *debtor
}

// debtor is a lease in the list.
type debtor struct {
	*lease
	left float64 // as left has it
	next *debtor
}

// owing returns the list as it is now. It is good for as long as nothing else happens. q.mu
// is held.
func (q *queue) owing(now time.Time) *owing {
	fastest := 0.0
	for _, r := range q.waiting {
		fastest = max(fastest, r.puller.rate.perSecond())
	}
	var all []*debtor
	for _, l := range q.live {
		d := &debtor{lease: l, left: l.left(now)}
		if cost, ok := d.leastOwed(now); ok && q.mayPay(cost, fastest, d.left) {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b *debtor) int { return cmp.Compare(b.left, a.left) })
	o := &owing{q: q, now: now}
	for _, d := range slices.Backward(all) {
		d.next, o.first = o.first, d
	}
	return o
}

// mayPay reports whether it could pay for one of the pullers that wait, the fastest of
// which has the given rate, to compute what costs so much.
func (q *queue) mayPay(cost, fastest, left float64) bool {
	if !q.fixed {
		fastest = q.helpers.sum
	}
	return math.IsInf(left, 1) || cost/fastest+leastGrain.Seconds() < left
}

// duplicate returns a second lease, for p, on a part of the lease that will
// finish last, or nil if none pays.
func (o *owing) duplicate(p *puller) *lease {
	q := o.q
	for at := &o.first; *at != nil; {
		d := *at
		if d.left <= p.grain().Seconds() {
			return nil // as have those after it
		}
		if _, ok := d.leastOwed(o.now); !ok {
			*at = d.next
			continue
		}
		if pieces := d.owes(p, o.now); len(pieces) > 0 && q.pays(p, d.left, pieces) {
			x := costliest(pieces)
			if !q.fixed {
				want, maxArea := q.want(p, costOf(pieces), q.helpers.sum)
				x = q.cutLeased(x, p.device.grid, want, maxArea)
			}
			return q.grant(p, x, o.now)
		}
		at = &d.next
	}
	return nil
}

// answersFirst reports whether no other holder of x will answer sooner than l.
func (l *lease) answersFirst(x *piece, now time.Time) bool {
	left := l.left(now)
	return !slices.ContainsFunc(x.holders, func(m *lease) bool { return m.left(now) < left })
}

// owes returns the pieces that p may compute again for l: those that no other
// holder will answer sooner, and that p's device neither holds nor has failed.
func (l *lease) owes(p *puller, now time.Time) []*piece {
	var pieces []*piece
	for _, x := range l.pieces {
		if !x.heldBy(p.device) && !x.failedOn(p.device) && l.answersFirst(x, now) {
			pieces = append(pieces, x)
		}
	}
	return pieces
}

// leastOwed returns the least cost of the pieces that anybody may compute again for l, and
// whether there are any.
func (l *lease) leastOwed(now time.Time) (cost float64, ok bool) {
	for _, x := range l.pieces {
		if (!ok || x.cost < cost) && l.answersFirst(x, now) {
			cost, ok = x.cost, true
		}
	}
	return cost, ok
}

// pays reports whether p, with all others that are idle, would have computed
// the pieces before those who have them do, by more than the shortest time worth a tile.
func (q *queue) pays(p *puller, left float64, pieces []*piece) bool {
	if math.IsInf(left, 1) {
		return true
	}
	cost, rate := costOf(pieces), q.helpers.sum
	if q.fixed {
		cost, rate = costliest(pieces).cost, p.rate.perSecond()
	}
	return p.rate.perSecond() > 0 && cost/rate+p.grain().Seconds() < left
}

const (
	// searchFree leases and waiting pullers are few enough to look for duplicates
	// whenever something happens.
	searchFree = 1000

	// searchEach times those beyond is how long the next search waits: with tens of
	// thousands one takes milliseconds, in which nobody can pull, and as many happen
	// in one.
	searchEach = time.Microsecond
)

// searchPause returns how long not to look for duplicates after a search. q.mu is held.
func (q *queue) searchPause() time.Duration {
	return time.Duration(max(0, len(q.live)+len(q.waiting)-searchFree)) * searchEach
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

func costOf(pieces []*piece) (sum float64) {
	for _, x := range pieces {
		sum += x.cost
	}
	return sum
}

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
