package cpu

import (
	"math"
	"math/bits"
)

// nowStart is where the clock of a relay starts, and starts again when it reaches
// 0, so that it and the ends of orbits fit in 32 bits.
const nowStart = math.MinInt32

// longestBlock is how many steps a block has at most: longer ones would be tested
// hardly less, and take longer to do again.
const longestBlock = 32

// relay iterates the orbits that outlast their first steps. Its lanes do not wait
// for one another: they are advanced in blocks of steps that are tested as a
// whole, and a lane whose orbit has left the disc, or has done all its steps, is
// given to an orbit that waits. The block in which an orbit left is done again
// later, step by step, together with those of others.
type relay[T real] struct {
	o     *orbits[T]
	l     *runners[T]
	width int // lanes

	// waiting holds orbits after firstSteps steps, and left those that have left
	// the disc or done all their steps. The first of these stand at the start of
	// the block in which they left.
	waiting, left *orbitList[T]
	again         *lanes[T] // for replay

	eights int // steps of a block ÷ 8, a power of two
	idle   int // how many lanes without an orbit are worth the work of finding them one
	pace   pace

	// look is how many steps lie between two looks for cycles, or 0; the next look
	// is due when now is next, and orbits' places are kept when it is renew, for
	// the time numbered spans. The last looks have found so many orbits.
	look         int
	next, renew  int64
	spans        uint
	looks, found int

	done int64 // steps of every lane, with an orbit or without
	told int64 // done when the result was told of progress last
}

func newRelay[T real](o *orbits[T], r2 T) *relay[T] {
	r := &relay[T]{
		o: o, l: aligned[runners[T]](), width: runWidth[T](o.v), again: aligned[lanes[T]](),
		waiting: aligned[orbitList[T]](), left: aligned[orbitList[T]](),
		eights: 1, idle: 1,
		look: lookEvery(o.maxIter), next: nowStart, renew: nowStart,
	}
	r.l.now, r.l.r2, r.again.r2 = nowStart, r2, r2
	return r
}

// room reports whether another group may wait.
func (r *relay[T]) room() bool { return r == nil || r.waiting.n <= listLength-listMargin-group }

// advance does some steps of the orbits that it has. It returns false when all are
// done.
func (r *relay[T]) advance() bool {
	if r == nil {
		return false
	}
	if r.l.now >= 0 {
		r.rebase()
	}
	live := exchange(r.o.v, r.l, r.width, r.waiting, r.left, r.o.maxIter, firstSteps)
	for r.left.n >= group || live == 0 && r.left.n > 0 {
		r.replay()
	}
	if live == 0 {
		return false
	}
	r.adapt()
	least := 1
	if r.waiting.n > 0 {
		least = max(live-r.idle+1, 1)
	}
	before := r.l.now
	for steps := int64(0); steps < burst && r.lanes(&r.l.alive) >= least; steps = r.l.now - before {
		r.run(burst-steps, least)
	}
	steps := r.l.now - before
	r.pace.steps += steps * int64(live)
	if r.done += steps; r.done-r.told >= burst {
		r.told = r.done
		r.o.result.Advance()
	}
	return true
}

// run does up to so many steps, or a few more, and no more than until the next look
// for cycles, which it then takes.
func (r *relay[T]) run(steps int64, least int) {
	if r.look > 0 {
		steps = max(min(steps, r.next-r.l.now), 1)
	}
	blocks := (steps-1)>>bits.TrailingZeros(uint(8*r.eights)) + 1 // a division would take as long as a block
	run(r.o.v, r.l, int(blocks), r.eights, least)
	if r.look > 0 && r.l.now >= r.next {
		r.findCycles()
	}
}

// replay finds the steps at which the last group of orbits left, and stores them.
func (r *relay[T]) replay() {
	l, o := r.again, r.left
	first := max(o.n-group, 0)
	n := o.n - first
	copy(l.x[:], o.x[first:o.n])
	copy(l.y[:], o.y[first:o.n])
	copy(l.cx[:], o.cx[first:o.n])
	copy(l.cy[:], o.cy[first:o.n])
	clear(l.n[:])
	clear(l.mag[:])
	l.clock = 0
	steps, pixel := o.steps[first:o.n], o.pixel[first:o.n]
	l.alive = unfinished(r.o.v, steps, r.o.maxIter)
	step(r.o.v, l, longestBlock)
	settle(r.o.v, r.o.counts, r.o.mags, pixel, steps, l, r.o.maxIter)
	o.n = first
	r.pace.left += n
}

// rebase starts the clock again.
func (r *relay[T]) rebase() {
	back := r.l.now - nowStart
	for i := range r.width {
		r.l.clock[i] = fromWord[T](int64(int32(toWord(r.l.clock[i]))) - back)
		r.l.end[i] = fromWord[T](int64(int32(toWord(r.l.end[i]))) - back)
	}
	r.l.now = nowStart
	r.next -= back
	r.renew -= back
}

// findCycles ends the orbits that are exactly where they were before: they will be
// there again and again, and never leave.
//
// One place of each orbit is kept. A cycle of p steps is found if p divides some
// multiple of look that lies between two renewals of that place. Most have a short
// period, but reach it at any time, so most of those spans are short; every second
// is twice as long, every fourth four times, and so on. Looks become rarer where they
// find too little.
func (r *relay[T]) findCycles() {
	before := r.lanes(&r.l.alive)
	cycle(r.o.v, r.l)
	r.found += before - r.lanes(&r.l.alive)
	if r.looks++; r.looks == 16 {
		// A look takes about as long as 8 steps of all lanes, and saves about half of
		// the steps of the orbits that it ends.
		if gain, cost := r.found*r.o.maxIter/2, r.looks*8*r.width; gain > 2*cost {
			r.look = lookEvery(r.o.maxIter)
		} else {
			r.look = min(2*r.look, max(r.o.maxIter/4, r.look), 2048)
		}
		r.looks, r.found = 0, 0
	}
	r.next = r.l.now + int64(r.look)
	if r.l.now < r.renew {
		return
	}
	r.l.pastX, r.l.pastY = r.l.x, r.l.y
	r.spans++
	span := int64(4*r.look) << bits.TrailingZeros(r.spans)
	r.renew = r.l.now + min(span, int64(max(r.o.maxIter/2, 4*r.look)))
}

// lanes returns how many lanes set has.
func (r *relay[T]) lanes(set *[maxRunners / 64]uint64) (n int) {
	for _, word := range set {
		n += bits.OnesCount64(word)
	}
	return n
}

// lookEvery returns after how many steps to look for orbits that repeat themselves, at
// least. 0 says never: by the time that a cycle is found, few steps remain.
func lookEvery(maxIter int) int {
	if maxIter < 512 {
		return 0
	}
	return 64
}

// pace measures how long orbits last.
type pace struct {
	steps int64 // of all lanes
	left  int   // orbits
}

// adapt chooses the length of blocks and how many lanes may idle.
func (r *relay[T]) adapt() {
	if r.pace.left < group && r.pace.steps < int64(r.width)*burst {
		return
	}
	life := float64(r.pace.steps) / float64(r.pace.left+1)
	r.pace = pace{}
	switch {
	case life < 400:
		r.eights = 1
	case life < 1600:
		r.eights = 2
	default:
		r.eights = longestBlock / 8
	}
	r.idle = max(1, min(int(float64(r.width)*4.5/math.Sqrt(life)), r.width/4))
}
