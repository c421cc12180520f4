package cpu

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
)

//go:generate sh -c "cd _asm && GOWORK=off go run . .."

const (
	// firstSteps is how many steps of every orbit are tested one by one, in
	// groups that stay together: most pixels outside the set escape within them.
	firstSteps = 20

	// burst bounds the steps of one call of step or run, during which a goroutine
	// can neither be preempted nor notice that it is to stop.
	burst = 1 << 14

	// genericBurst is burst for the generic variant, whose steps take about
	// a hundred times as long.
	genericBurst = 1 << 8
)

// Mandelbrot computes pixels of tile t of job, which has fewer than 2³², into r, on
// the calling goroutine.
// pull says which, and is called whenever the last are under way: pixels from …
// to−1, counted row by row within the tile, or from = to when there are no more.
// r must come from kernels.NewResult(job, t); other pixels of it are neither read
// nor written, so that several goroutines may share it, and it is told of
// progress. Mandelbrot returns false, with the pixels that it pulled undefined, if
// stop became true before they were done.
//
// The arithmetic is that of kernels.Mandelbrot, to the bit, for every variant.
// A variant that this processor cannot run computes as Generic does.
func (v Variant) Mandelbrot(job *kernels.Mandelbrot, t kernels.Tile, r *kernels.Result, pull func() (from, to int), stop *atomic.Bool) bool {
	if !v.runs() {
		v = Generic
	}
	if job.T == kernels.Float32 {
		return newOrbits[float32](v, job, t, r, pull).compute(stop)
	}
	return newOrbits[float64](v, job, t, r, pull).compute(stop)
}

// Once returns a pull that hands out the pixels from … to−1 at once.
func Once(from, to int) func() (int, int) {
	return func() (int, int) {
		f := from
		from = to
		return f, to
	}
}

// orbits begins the orbits of the pixels of one call in groups, and hands those
// that last over to relay.
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
	inRow  bool // there is a kernel for groups within a row

	// cols holds the real parts of the tile's columns, rows the imaginary parts
	// of its rows.
	cols []T
	rows []float64
	row  int // that all lanes of l are in, or −1

	result *kernels.Result
	counts []uint32
	mags   []float32 // nil without magnitudes

	pull     func() (from, to int)
	from, to int // pixels that are pulled but not begun
	i, j     int // column and row of the next

	relay *relay[T]
}

func newOrbits[T real](v Variant, job *kernels.Mandelbrot, t kernels.Tile, r *kernels.Result, pull func() (from, to int)) *orbits[T] {
	o := &orbits[T]{
		v: v, l: aligned[lanes[T]](), julia: job.Julia, burst: burst, maxIter: job.MaxIter, row: -1,
		cols: make([]T, t.W), rows: job.CY[t.Y : t.Y+t.H],
		result: r, counts: kernels.Elements[uint32](r.Planes[0]), pull: pull,
	}
	if len(r.Planes) > 1 {
		o.mags = kernels.Elements[float32](r.Planes[1])
	}
	for k, x := range job.CX[t.X : t.X+t.W] {
		o.cols[k] = T(x)
	}
	if v == Generic {
		o.burst = genericBurst
	} else {
		o.relay = newRelay(o, T(job.R2))
	}
	o.l.r2 = T(job.R2)
	if job.Julia {
		for k := range o.l.cx {
			o.l.cx[k], o.l.cy[k] = T(job.CRe), T(job.CIm)
		}
	}
	o.setLimit(job)
	o.inRow = v == AVX512 && o.safe && !job.Julia
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

// aligned returns a value that starts at a multiple of 64 bytes. It must hold no
// pointers.
func aligned[V any]() *V {
	const line = 64
	var v V
	buf := make([]byte, unsafe.Sizeof(v)+line)
	shift := -uintptr(unsafe.Pointer(&buf[0])) % line
	return (*V)(unsafe.Pointer(&buf[shift]))
}

// compute iterates the pixels that it pulls until there are no more.
func (o *orbits[T]) compute(stop *atomic.Bool) bool {
	for !stop.Load() {
		for o.relay.room() && o.more() {
			if stop.Load() || !o.begin(stop) {
				return false
			}
		}
		if !o.relay.advance() {
			return true
		}
	}
	return false
}

// more reports whether there are pixels to begin.
func (o *orbits[T]) more() bool {
	if o.from == o.to && o.pull != nil {
		if o.from, o.to = o.pull(); o.from == o.to {
			o.pull = nil
		}
		o.i, o.j = o.from%len(o.cols), o.from/len(o.cols)
		o.result.Advance()
	}
	return o.from < o.to
}

// begin does the first steps of the next pixels, up to a group of them.
func (o *orbits[T]) begin(stop *atomic.Bool) bool {
	p, n := o.from, min(o.to-o.from, group)
	o.from += n
	steps := min(o.maxIter, firstSteps)
	if o.inRow && n == group && o.i+group <= len(o.cols) {
		o.beginRow(p, steps)
		return true
	}
	o.place(n)
	step(o.v, o.l, steps)
	if steps == o.maxIter {
		o.l.alive = 0
	}
	var last uint64 // those for the relay
	switch {
	case o.relay != nil && o.safe:
		last = o.l.alive
	case o.relay != nil:
		last = o.l.alive &^ o.beyond()
	}
	if last != 0 {
		// Now: z of lanes that are not alive is anything after the next step.
		admit(o.v, o.l, last, p, o.relay.waiting)
	}
	if o.l.alive &^= last; o.l.alive != 0 && !o.iterate(o.maxIter-steps, stop) {
		return false
	}
	o.store(p, n)
	return true
}

// beginRow begins the next group of pixels, which are neighbours in a row.
func (o *orbits[T]) beginRow(p, steps int) {
	mags := &o.l.mag[0]
	if o.mags != nil {
		mags = &o.mags[p : p+group][0]
	}
	cols, y := o.cols[o.i:o.i+group], T(o.rows[o.j])
	if o.i += group; o.i == len(o.cols) {
		o.i, o.j = 0, o.j+1
	}
	o.l.alive, o.row = 0, -1
	first(o.l, &cols[0], &y, &o.counts[p : p+group][0], mags, steps)
	if o.l.alive != 0 && steps < o.maxIter {
		admit(o.v, o.l, o.l.alive, p, o.relay.waiting)
	}
}

// store stores what the first n lanes have found, for the pixels from p on.
func (o *orbits[T]) store(p, n int) {
	if n == group {
		// Arrays are copied at once, without a call.
		*(*[group]uint32)(o.counts[p:]) = o.l.n
		if o.mags != nil {
			*(*[group]float32)(o.mags[p:]) = o.l.mag
		}
		return
	}
	copy(o.counts[p:p+n], o.l.n[:])
	if o.mags != nil {
		copy(o.mags[p:p+n], o.l.mag[:])
	}
}

// place starts the next n ≤ group pixels in the first n lanes. The others are not
// alive.
func (o *orbits[T]) place(n int) {
	l := o.l
	px, py := &l.cx, &l.cy
	if o.julia {
		px, py = &l.x, &l.y
		o.row = -1 // y changes
	}
	for k := 0; k < n; {
		run := min(n-k, len(o.cols)-o.i)
		copy(px[k:k+run], o.cols[o.i:])
		if o.j != o.row {
			y, row := T(o.rows[o.j]), py[k:k+run]
			for m := range row {
				row[m] = y
			}
			o.row = -1
			if run == group {
				o.row = o.j
			}
		}
		k += run
		if o.i += run; o.i == len(o.cols) {
			o.i, o.j = 0, o.j+1
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

// iterate advances the lanes, with a test at each step, until none is alive or
// left steps are done. An orbit that is exactly where it was after some burst will
// be there again and again, and is ended: it never leaves.
func (o *orbits[T]) iterate(left int, stop *atomic.Bool) bool {
	l := o.l
	var keptX, keptY [group]T
	for bursts, renew := 0, 0; l.alive != 0 && left > 0; bursts++ {
		if bursts == renew {
			keptX, keptY, renew = l.x, l.y, 2*renew+1
		}
		if stop.Load() {
			return false
		}
		steps := min(left, o.burst)
		step(o.v, l, steps)
		o.result.Advance()
		left -= steps
		for alive := l.alive; alive != 0; alive &= alive - 1 {
			if i := bits.TrailingZeros64(alive); l.x[i] == keptX[i] && l.y[i] == keptY[i] {
				l.alive &^= alive & -alive
			}
		}
	}
	return true
}

// beyond returns the lanes that are alive and whose |c| is above the limit.
func (o *orbits[T]) beyond() (lanes uint64) {
	for alive := o.l.alive; alive != 0; alive &= alive - 1 {
		i := bits.TrailingZeros64(alive)
		cx, cy := float64(o.l.cx[i]), float64(o.l.cy[i])
		if cx*cx+cy*cy > o.limit2 {
			lanes |= 1 << i
		}
	}
	return lanes
}
