package dist

import (
	"slices"
	"time"
)

// busyTime is how long at least one of some intervals lasts. They come about in the
// order of their ends, so the early ones are only kept as a sum. It is exact for as
// long as none reaches back to before what is in the sum.
type busyTime struct {
	before time.Duration // which the sum is of
	sum    time.Duration
	recent []interval // after that, disjoint, in order
}

type interval struct{ from, to time.Duration }

// recentIntervals bounds the intervals that are kept: some for each tile that a device
// has at a time at most.
const recentIntervals = 4 * deepest

// add adds an interval.
func (b *busyTime) add(from, to time.Duration) {
	from = max(from, b.before)
	if to <= from {
		return
	}
	// Those that it touches are one with it.
	last := len(b.recent)
	for last > 0 && b.recent[last-1].from > to {
		last--
	}
	first := last
	for first > 0 && b.recent[first-1].to >= from {
		first--
		from, to = min(from, b.recent[first].from), max(to, b.recent[first].to)
	}
	b.recent = slices.Replace(b.recent, first, last, interval{from, to})
	if len(b.recent) > recentIntervals {
		b.fold(recentIntervals / 2)
	}
}

// fold puts the first n intervals into the sum.
func (b *busyTime) fold(n int) {
	for _, i := range b.recent[:n] {
		b.sum += i.to - i.from
	}
	b.before = b.recent[n-1].to
	b.recent = slices.Delete(b.recent, 0, n)
}

// total returns the time.
func (b *busyTime) total() time.Duration {
	sum := b.sum
	for _, i := range b.recent {
		sum += i.to - i.from
	}
	return sum
}
