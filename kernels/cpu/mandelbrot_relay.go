package cpu

import (
	"math"
	"math/bits"
	"unsafe"
)

const (
	// queueLength is how many orbits may wait for a lane, a power of two.
	queueLength = 4 * group

	// nowStart is where the clock of a relay starts, and starts again when it
	// reaches 0, so that it and the ends of orbits fit in 32 bits.
	nowStart = math.MinInt32
)

// relay iterates the orbits that outlast their first steps. Its lanes do not wait
// for one another: they are advanced in blocks of steps that are tested as a
// whole, and a lane whose orbit has left the disc, or has done all its steps, is
// given to an orbit that waits. The block in which an orbit left is done again
// later, step by step, together with those of others.
type relay[T real] struct {
	o     *orbits[T]
	l     *runners[T]
	width int // lanes

	// taken has the lanes that have an orbit, and pixel is where its result
	// belongs.
	taken [maxRunners / 64]uint64
	pixel [maxRunners]uint32

	waiting orbitQueue[T]

	// left holds orbits that have left the disc or done all their steps. The first
	// stand at the start of the block in which they left, which has leftSteps steps
	// or fewer, after so many steps as leftAt says.
	left                 *lanes[T]
	leftAt, leftPixel    [group]uint32
	leftCount, leftSteps int

	eights int // steps of a block ÷ 8
	idle   int // how many lanes without an orbit are worth the work of finding them one
	pace   pace
	done   int64 // steps of every lane, with an orbit or without
	told   int64 // done when the result was told of progress last
}

// orbitQueue holds orbits after firstSteps steps that have no lane yet.
type orbitQueue[T real] struct {
	x, y, cx, cy [queueLength]T
	pixel        [queueLength]uint32
	n            int
}

func newRelay[T real](o *orbits[T], r2 T) *relay[T] {
	r := &relay[T]{
		o: o, l: aligned[runners[T]](), width: runWidth[T](o.v), left: aligned[lanes[T]](),
		eights: 1, idle: 1, leftSteps: 8,
	}
	r.l.now, r.l.r2, r.left.r2 = nowStart, r2, r2
	return r
}

// room reports whether another group may be added.
func (r *relay[T]) room() bool { return r == nil || r.waiting.n <= queueLength-group }

// add takes over the lanes of l that which has, whose pixels begin with p, after
// firstSteps steps.
func (r *relay[T]) add(l *lanes[T], which uint64, p int) {
	q := &r.waiting
	n := q.n
	for ; which != 0; which &= which - 1 {
		i, k := bits.TrailingZeros64(which)&(group-1), n&(queueLength-1)
		q.x[k], q.y[k], q.cx[k], q.cy[k] = l.x[i], l.y[i], l.cx[i], l.cy[i]
		q.pixel[k] = uint32(p + i)
		n++
	}
	q.n = n
}

// advance does some steps of the orbits that it has. It returns false when all are
// done.
func (r *relay[T]) advance() bool {
	if r == nil {
		return false
	}
	if r.l.now >= 0 {
		r.rebase()
	}
	live := r.exchange()
	if live == 0 {
		r.replay()
		return false
	}
	r.adapt()
	least := live - r.idle + 1
	if r.waiting.n == 0 {
		least = 1
	}
	before := r.l.now
	run(r.o.v, r.l, burst/(8*r.eights), r.eights, max(least, 1))
	steps := r.l.now - before
	if r.done += steps; r.done-r.told >= burst {
		r.told = r.done
		r.o.result.Advance()
	}
	r.pace.steps += steps * int64(live)
	return true
}

// exchange takes the orbits that are done out of their lanes, gives the lanes to
// those that wait, and returns how many lanes have an orbit.
func (r *relay[T]) exchange() (live int) {
	now := fromWord[T](r.l.now)
	end := fromWord[T](r.l.now + int64(r.o.maxIter-firstSteps))
	for w := range r.l.alive {
		full := ^uint64(0)
		if r.width < 64*(w+1) {
			full = 1<<max(r.width-64*w, 0) - 1
		}
		for free := full &^ r.l.alive[w]; free != 0; free &= free - 1 {
			i := (64*w + bits.TrailingZeros64(free)) & (maxRunners - 1)
			bit := free & -free
			if r.taken[w]&bit != 0 {
				r.retire(i)
				r.taken[w] &^= bit
			}
			if r.waiting.n == 0 {
				continue
			}
			r.waiting.n--
			l, q, k := r.l, &r.waiting, r.waiting.n&(queueLength-1)
			l.x[i], l.y[i], l.cx[i], l.cy[i] = q.x[k], q.y[k], q.cx[k], q.cy[k]
			l.clock[i], l.end[i] = now, end
			r.pixel[i] = q.pixel[k]
			r.l.alive[w] |= bit
			r.taken[w] |= bit
		}
		live += bits.OnesCount64(r.taken[w])
	}
	return live
}

// retire puts the orbit of lane i aside.
func (r *relay[T]) retire(i int) {
	l, k := r.l, r.leftCount&(group-1)
	r.left.x[k], r.left.y[k], r.left.cx[k], r.left.cy[k] = l.x[i], l.y[i], l.cx[i], l.cy[i]
	r.leftAt[k] = uint32(r.o.maxIter) - (toWord(l.end[i]) - toWord(l.clock[i]))
	r.leftPixel[k] = r.pixel[i]
	if r.leftCount++; r.leftCount == group {
		r.replay()
	}
}

// replay finds the steps at which the orbits that were put aside left, and stores
// them.
func (r *relay[T]) replay() {
	l := r.left
	clear(l.n[:])
	clear(l.mag[:])
	l.alive, l.clock = ^uint64(0)>>(group-r.leftCount), 0
	step(r.o.v, l, r.leftSteps)
	for k := range r.leftCount {
		// An orbit that has become NaN has not left, and never will.
		n, mag := r.leftAt[k]+l.n[k], l.mag[k]
		if l.n[k] == 0 || int(n) > r.o.maxIter {
			n, mag = 0, 0
		}
		r.o.counts[r.leftPixel[k]] = n
		if r.o.mags != nil {
			r.o.mags[r.leftPixel[k]] = mag
		}
	}
	r.pace.left += r.leftCount
	r.leftCount, r.leftSteps = 0, 8*r.eights
}

// rebase starts the clock again.
func (r *relay[T]) rebase() {
	back := r.l.now - nowStart
	for i := range r.width {
		r.l.clock[i] = fromWord[T](int64(int32(toWord(r.l.clock[i]))) - back)
		r.l.end[i] = fromWord[T](int64(int32(toWord(r.l.end[i]))) - back)
	}
	r.l.now = nowStart
}

// pace measures how long orbits last.
type pace struct {
	steps int64 // of all lanes
	left  int   // orbits
}

// adapt chooses the length of blocks and how many lanes may idle. All lanes that
// have an orbit must be alive, so that none is in the midst of a longer block.
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
		r.eights = 4
	}
	r.leftSteps = max(r.leftSteps, 8*r.eights)
	r.idle = max(1, min(int(float64(r.width)*3.65/math.Sqrt(life)), r.width/4))
}

// fromWord returns the T whose bits are the low ones of w.
func fromWord[T real](w int64) (x T) {
	if unsafe.Sizeof(x) == 4 {
		return T(math.Float32frombits(uint32(w)))
	}
	return T(math.Float64frombits(uint64(w)))
}

// toWord returns the low bits of x.
func toWord[T real](x T) uint32 {
	if unsafe.Sizeof(x) == 4 {
		return math.Float32bits(float32(x))
	}
	return uint32(math.Float64bits(float64(x)))
}
