package cpu

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
)

//go:generate sh -c "cd _asm && GOWORK=off go run . .."

const (
	// firstSteps is how many steps of every orbit are tested one by one: most
	// pixels outside the set escape within them.
	firstSteps = 16

	// burst bounds the steps of one call of step, during which a goroutine
	// can neither be preempted nor notice that it is to stop.
	burst = 1 << 14

	// genericBurst is burst for the generic variant, whose steps take about
	// a hundred times as long.
	genericBurst = 1 << 8
)

// Mandelbrot computes the pixels [from, to) of tile t of job, counted row by
// row within the tile, into r, on the calling goroutine. r must come from
// kernels.NewResult(job, t); other pixels of it are neither read nor written,
// so that several goroutines may share it. It returns false, with those pixels
// undefined, if stop became true before they were done.
//
// The arithmetic is that of kernels.Mandelbrot, to the bit, for every variant.
// A variant that this processor cannot run computes as Generic does.
func (v Variant) Mandelbrot(job *kernels.Mandelbrot, t kernels.Tile, r *kernels.Result, from, to int, stop *atomic.Bool) bool {
	if from >= to {
		return true
	}
	if !v.runs() {
		v = Generic
	}
	if job.T == kernels.Float32 {
		return newOrbits[float32](v, job, t, from, to).compute(r, from, to, stop)
	}
	return newOrbits[float64](v, job, t, from, to).compute(r, from, to, stop)
}

// orbits walks the pixels of one call in groups and iterates them.
type orbits[T real] struct {
	v     Variant
	l     *lanes[T]
	julia bool
	burst int

	maxIter int
	// limit2 is the square of the |c| up to which blocks may be tested as a
	// whole, and safe says that no lane can be above it once it has survived
	// firstSteps.
	limit2 float64
	safe   bool

	// cols holds the real parts of the columns that the call touches, starting
	// with column first of the tile; rows the imaginary parts of all its rows.
	cols  []T
	first int
	rows  []float64

	// The next pixel to be placed is in column i and row j of the tile, which
	// has width columns. If j is inLanes then its imaginary part is in all
	// lanes already.
	i, j, width, inLanes int
}

func newOrbits[T real](v Variant, job *kernels.Mandelbrot, t kernels.Tile, from, to int) *orbits[T] {
	o := &orbits[T]{
		v: v, l: newLanes[T](), julia: job.Julia, burst: burst, maxIter: job.MaxIter,
		i: from % t.W, j: from / t.W, width: t.W, inLanes: -1,
		rows: job.CY[t.Y : t.Y+t.H],
	}
	if v == Generic {
		o.burst = genericBurst
	}
	o.l.r2 = T(job.R2)
	if job.Julia {
		for k := range o.l.cx {
			o.l.cx[k], o.l.cy[k] = T(job.CRe), T(job.CIm)
		}
	}
	o.setLimit(job)

	last := t.W - 1
	if j := (to - 1) / t.W; j == o.j {
		o.first, last = o.i, (to-1)%t.W
	}
	o.cols = make([]T, last-o.first+1)
	for k, x := range job.CX[t.X+o.first : t.X+last+1] {
		o.cols[k] = T(x)
	}
	return o
}

// setLimit sets limit2 and safe. The square of |c| is rounded at most three
// times in float64, which the margin of MonotoneLimit covers many times over.
func (o *orbits[T]) setLimit(job *kernels.Mandelbrot) {
	limit := kernels.MonotoneLimit(job.R2)
	o.limit2 = limit * limit
	if job.Julia {
		o.safe = job.CRe*job.CRe+job.CIm*job.CIm <= o.limit2
		return
	}
	// The first step of an orbit that starts at 0 leads to c, so |c| ≤ R up
	// to the rounding of r2 if it survived.
	o.safe = job.R2*(1+1.0/(1<<18)) <= o.limit2
}

// newLanes returns a value that starts at a multiple of 64 bytes.
func newLanes[T real]() *lanes[T] {
	const line = 64
	// One element has room for the shift, and lanes holds no pointers.
	buf := make([]byte, unsafe.Sizeof(lanes[T]{})+line)
	shift := -uintptr(unsafe.Pointer(&buf[0])) % line
	return (*lanes[T])(unsafe.Pointer(&buf[shift]))
}

// compute iterates the pixels [from, to) and stores what came out.
func (o *orbits[T]) compute(r *kernels.Result, from, to int, stop *atomic.Bool) bool {
	counts := kernels.Elements[uint32](r.Planes[0])
	var mags []float32
	if len(r.Planes) > 1 {
		mags = kernels.Elements[float32](r.Planes[1])
	}
	for p := from; p < to; p += group {
		end := min(p+group, to)
		o.place(end - p)
		if stop.Load() || !o.iterate(stop) {
			return false
		}
		copy(counts[p:end], o.l.n[:])
		if mags != nil {
			copy(mags[p:end], o.l.mag[:])
		}
	}
	return true
}

// place starts the next n ≤ group pixels in the first n lanes. The others are
// not alive.
func (o *orbits[T]) place(n int) {
	l := o.l
	px, py := &l.cx, &l.cy
	if o.julia {
		px, py = &l.x, &l.y
		o.inLanes = -1
	}
	for k := 0; k < n; {
		run := min(n-k, o.width-o.i)
		copy(px[k:k+run], o.cols[o.i-o.first:])
		if o.j != o.inLanes {
			y := T(o.rows[o.j])
			row := py[k : k+run]
			for m := range row {
				row[m] = y
			}
		}
		if run == group {
			o.inLanes = o.j
		}
		k += run
		if o.i += run; o.i == o.width {
			o.i = 0
			o.j++
		}
	}
	if o.julia {
		clear(l.n[:])
		clear(l.mag[:])
		l.alive, l.clock = ^uint64(0), 0
	} else {
		start(o.v, l)
	}
	l.alive &= ^uint64(0) >> (group - n)
}

// iterate advances the lanes until none is alive or MaxIter steps are done.
func (o *orbits[T]) iterate(stop *atomic.Bool) bool {
	l := o.l
	steps, checked := min(o.maxIter, o.burst), firstSteps
	if !o.safe {
		steps = min(o.maxIter, firstSteps)
	}
	for left := o.maxIter; l.alive != 0; {
		step(o.v, l, steps, checked)
		if left -= steps; left == 0 {
			break
		}
		if stop.Load() {
			return false
		}
		steps, checked = min(left, o.burst), 0
		if !o.safe && o.beyond() {
			checked = steps
		}
	}
	return true
}

// beyond reports whether |c| of a lane that is alive is above the limit.
func (o *orbits[T]) beyond() bool {
	for alive := o.l.alive; alive != 0; alive &= alive - 1 {
		i := bits.TrailingZeros64(alive)
		cx, cy := float64(o.l.cx[i]), float64(o.l.cy[i])
		if cx*cx+cy*cy > o.limit2 {
			return true
		}
	}
	return false
}
