package cpu

import (
	"math"
	"math/bits"
	"unsafe"
)

// exchangeGeneric moves the orbits of the first width lanes of l that are not alive
// to out, and the last orbits of in, which have done so many steps of maxIter, to
// lanes that are then free. It returns how many lanes have an orbit. out must have
// room for as many as there are lanes.
func exchangeGeneric[T real](l *runners[T], width int, in, out *orbitList[T], maxIter, done int) (live int) {
	now, end, nan := fromWord[T](l.now), fromWord[T](l.now+int64(maxIter-done)), T(math.NaN())
	for w := range l.alive {
		full := ^uint64(0)
		if width < 64*(w+1) {
			full = 1<<max(width-64*w, 0) - 1
		}
		for free := full &^ l.alive[w]; free != 0; free &= free - 1 {
			i := (64*w + bits.TrailingZeros64(free)) & (maxRunners - 1)
			bit := free & -free
			if l.taken[w]&bit != 0 {
				k := out.n
				out.x[k], out.y[k], out.cx[k], out.cy[k] = l.x[i], l.y[i], l.cx[i], l.cy[i]
				out.steps[k] = uint32(maxIter) - (toWord(l.end[i]) - toWord(l.clock[i]))
				out.pixel[k] = l.pixel[i]
				out.n++
			}
			l.taken[w] &^= bit
			if in.n == 0 {
				continue
			}
			in.n--
			k := in.n
			l.x[i], l.y[i], l.cx[i], l.cy[i] = in.x[k], in.y[k], in.cx[k], in.cy[k]
			l.clock[i], l.end[i], l.pastX[i] = now, end, nan
			l.pixel[i] = in.pixel[k]
			l.alive[w] |= bit
			l.taken[w] |= bit
		}
		live += bits.OnesCount64(l.taken[w])
	}
	return live
}

// admitGeneric appends the lanes of l that which has to in. Their pixels begin with
// pixel.
func admitGeneric[T real](l *lanes[T], which uint64, pixel int, in *orbitList[T]) {
	k := in.n
	for ; which != 0; which &= which - 1 {
		i := bits.TrailingZeros64(which)
		in.x[k], in.y[k], in.cx[k], in.cy[k] = l.x[i], l.y[i], l.cx[i], l.cy[i]
		in.pixel[k] = uint32(pixel + i)
		k++
	}
	in.n = k
}

// unfinishedGeneric has the bits of those orbits, of a group at most, that have done
// fewer steps than maxIter.
func unfinishedGeneric(steps []uint32, maxIter int) (lanes uint64) {
	for k, n := range steps {
		lanes |= uint64(int64(n)-int64(maxIter)) >> 63 << (k % 64)
	}
	return lanes
}

// settleGeneric stores, for each orbit of a group or less, what it has come to: it
// had done so many steps before those that l.n counts, and left then, unless that is
// 0 or the sum is above maxIter. mags may be nil.
func settleGeneric[T real](counts []uint32, mags []float32, pixel, steps []uint32, l *lanes[T], maxIter int) {
	for k, p := range pixel {
		// An orbit that has become NaN has not left, and never will.
		left := int64(l.n[k])
		count := int64(steps[k]) + left
		in := -left >> 63 & (count - int64(maxIter) - 1) >> 63 // all ones if left > 0 and count ≤ maxIter
		counts[p] = uint32(count & in)
		if mags != nil {
			mags[p] = math.Float32frombits(math.Float32bits(l.mag[k]) & uint32(in))
		}
	}
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
