package dist

import (
	"math"
	"sync"
	"time"
)

// hostClock is what a coordinator knows of a host's clock: bounds for the host's time
// less its own. What was sent was read later, which is an upper bound; what was received
// had been written before, which is a lower one. With every delay at least 0 the true
// offset lies between them, however different the delays of the two directions are.
//
// The clocks may drift apart, so a bound gets looser as it gets older, and a newer one
// takes its place when it is the tighter of the two. Where two bounds contradict each
// other a clock has jumped, or the host lies, and the older one is forgotten.
//
// Its methods may be called by several goroutines.
type hostClock struct {
	mu           sync.Mutex
	lower, upper clockBound
}

// clockBound is a bound as it was at a time of the coordinator's.
type clockBound struct {
	known     bool
	value, at time.Duration
}

const (
	// mostDrift is how much quicker one clock may be than the other: a part in so
	// many, which is 100 ppm.
	mostDrift = 10_000

	// mostTime bounds what is believed of a host's times, so that sums of a few do
	// not overflow. It is 36 years.
	mostTime = time.Duration(math.MaxInt64 / 8)
)

// drifted returns how far clocks may have drifted apart in a time. What is placed last
// need not have come last, so it may be negative.
func drifted(in time.Duration) time.Duration { return in.Abs()/mostDrift + 1 }

// atLeast notes that the offset was value or more at a time.
func (c *hostClock) atLeast(value, at time.Duration) {
	if c.lower.known && value < c.lower.value-drifted(at-c.lower.at) {
		return
	}
	c.lower = clockBound{true, value, at}
	if c.upper.known && value > c.upper.value+drifted(at-c.upper.at) {
		c.upper.known = false
	}
}

// atMost notes that the offset was value or less at a time.
func (c *hostClock) atMost(value, at time.Duration) {
	if c.upper.known && value > c.upper.value+drifted(at-c.upper.at) {
		return
	}
	c.upper = clockBound{true, value, at}
	if c.lower.known && value < c.lower.value-drifted(at-c.lower.at) {
		c.lower.known = false
	}
}

// heard notes what the host's clock said in a message that was received.
func (c *hostClock) heard(said, received time.Duration) {
	if said <= 0 || said > mostTime {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.atLeast(said-received, received)
}

// hostTimes are the times of a lease, in the order in which they come. The first and
// the last are of the coordinator's clock; those of the host follow from the three
// between.
type hostTimes struct {
	sent               time.Duration
	read, waited, busy time.Duration
	received           time.Duration
}

// placed is a stretch of computing on the coordinator's clock. It began, and ended, at
// most within later or earlier.
type placed struct{ from, to, within time.Duration }

// place notes what the times of a lease say of the host's clock, and returns when the
// host computed. That is never before the lease was sent, nor after the result came,
// whatever the host says.
func (c *hostClock) place(t hostTimes) placed {
	whole := max(0, t.received-t.sent)
	read := min(max(t.read, -mostTime), mostTime)
	busy := min(max(t.busy, 0), whole)
	waited := min(max(t.waited, 0), whole-busy)

	c.mu.Lock()
	defer c.mu.Unlock()
	lower, upper := read+waited+busy-t.received, read-t.sent
	c.atLeast(lower, t.received)
	c.atMost(upper, t.sent)
	c.atLeast(lower, t.received) // if it has been forgotten for another
	low := c.lower.value - drifted(t.received-c.lower.at)
	high := c.upper.value + drifted(t.received-c.upper.at)
	offset := low + (high-low)/2
	from := min(max(read+waited-offset, t.sent), t.received-busy)
	within := max(0, high-low)/2 + drifted(whole) + 1
	return placed{from, from + busy, min(within, whole)}
}
