package cpu

// This file imports nothing: the assembly generator type-checks it alone to
// learn where the fields of lanes are.

// group is how many orbits a lanes value holds: one for each bit of its mask.
// It is a multiple of the lanes of four vector registers on every instruction
// set in use.
const group = 64

// real is a type in which the Mandelbrot kernels compute.
type real interface{ float32 | float64 }

// lanes is a group of orbits of z → z² + c that are advanced together. Lane i
// is element i of each array and bit i of alive.
//
// The assembly moves whole vectors in and out of the arrays, which is fastest
// if the value starts at a multiple of the cache line: see aligned.
type lanes[T real] struct {
	// x and y are z of the lanes that are alive, and anything for the others.
	x, y [group]T

	// cx and cy are c.
	cx, cy [group]T

	// n is the step at which the lane escaped, counted from 1, and mag is |z|²
	// there. Both are 0 for a lane that has not escaped.
	n   [group]uint32
	mag [group]float32

	// alive has the bits of the lanes that are to be advanced: those that have
	// neither escaped nor been found to be interior.
	alive uint64

	// clock is how many steps the lanes that are alive have done, at most
	// math.MaxInt32.
	clock int64

	// r2 is the square of the escape radius.
	r2 T
}

// runners is a set of orbits, each of which leaves when it is done and makes room
// for another. The assembly advances as many of its lanes together as fill some
// vector registers; the others are never alive.
type runners[T real] struct {
	// x and y are z, cx and cy are c.
	x, y, cx, cy [maxRunners]T

	// clock and end hold integers as wide as T: what now was when the lane had
	// this z, and what it will be when the orbit has done all its steps.
	clock, end [maxRunners]T

	// pastX and pastY are a z that the orbit had some steps ago, or NaN.
	pastX, pastY [maxRunners]T

	// pixel is where the orbit's result belongs.
	pixel [maxRunners]uint32

	// alive has the bits of the lanes that are to be advanced, and taken those of
	// the lanes that have an orbit: one that is done, if the lane is not alive.
	alive, taken [maxRunners / 64]uint64

	// now is how many steps have been done since some moment in the past, from
	// −2³¹ on: less than 2³¹.
	now int64

	// r2 is the square of the escape radius.
	r2 T
}

// maxRunners is a power of two: more lanes than any processor's registers hold.
const maxRunners = 128

// orbitList holds n orbits: in one list those that wait for a lane, in another
// those that have left theirs.
type orbitList[T real] struct {
	x, y, cx, cy [listLength]T

	// steps is how many steps an orbit that has left has done, and pixel where its
	// result belongs.
	steps, pixel [listLength]uint32

	n int
}

const (
	// listLength is how many orbits a list has room for: four groups, and a vector of
	// lanes more, since whole ones are stored.
	listLength = 4*group + listMargin
	listMargin = 16
)
