package cpu

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
)

// The functions of this file are what the assembly computes, in plain Go. A
// conversion T(…) around a product or a sum keeps the compiler from fusing it
// with its neighbour.

// startGeneric starts orbits of the Mandelbrot set: for every lane,
//
//	x, y, n, mag = 0, 0, 0, 0
//	yy := cy * cy
//	p := cx - 0.25
//	q := fma(p, p, yy)
//	alive = !(q*(q+p) <= 0.25*yy || fma(cx+1, cx+1, yy) <= 0.0625)
//
// and sets l.clock to 0.
func startGeneric[T real](l *lanes[T]) {
	clear(l.x[:])
	clear(l.y[:])
	clear(l.n[:])
	clear(l.mag[:])
	l.alive, l.clock = 0, 0
	for i, cx := range l.cx {
		yy := T(l.cy[i] * l.cy[i])
		p := T(cx - 0.25)
		q := fma(p, p, yy)
		cardioid := T(q*T(q+p)) <= T(0.25*yy)
		if !cardioid && !(fma(T(cx+1), T(cx+1), yy) <= 0.0625) {
			l.alive |= 1 << i
		}
	}
}

// stepGeneric advances the lanes that are alive by up to steps steps: for each,
//
//	for s := 1; s <= steps; s++ {
//		t := fma(-y, y, cx)
//		x, y = fma(x, x, t), fma(x+x, y, cy)
//		if m := fma(x, x, y*y); m > l.r2 {
//			alive, n, mag = false, l.clock+s, float32(m)
//			break
//		}
//	}
//
// and adds steps to l.clock.
func stepGeneric[T real](l *lanes[T], steps int) {
	for alive := l.alive; alive != 0; alive &= alive - 1 {
		i := bits.TrailingZeros64(alive)
		switch l := any(l).(type) {
		case *lanes[float32]:
			iterate32(l, i, steps)
		case *lanes[float64]:
			iterate64(l, i, steps)
		}
	}
	l.clock += int64(steps)
}

// iterate64 advances lane i. It and iterate32 differ in the type alone. One
// function for both would call fma below, which is too large to be inlined, and
// take nearly twice as long for float64.
func iterate64(l *lanes[float64], i, steps int) {
	x, y, cx, cy, r2 := l.x[i], l.y[i], l.cx[i], l.cy[i], l.r2
	for s := 1; s <= steps; s++ {
		t := math.FMA(-y, y, cx)
		x, y = math.FMA(x, x, t), math.FMA(x+x, y, cy)
		if m := math.FMA(x, x, float64(y*y)); m > r2 {
			l.alive &^= 1 << i
			l.n[i], l.mag[i] = uint32(l.clock)+uint32(s), float32(m)
			break
		}
	}
	l.x[i], l.y[i] = x, y
}

// iterate32 advances lane i.
func iterate32(l *lanes[float32], i, steps int) {
	x, y, cx, cy, r2 := l.x[i], l.y[i], l.cx[i], l.cy[i], l.r2
	for s := 1; s <= steps; s++ {
		t := kernels.FMA32(-y, y, cx)
		x, y = kernels.FMA32(x, x, t), kernels.FMA32(x+x, y, cy)
		if m := kernels.FMA32(x, x, float32(y*y)); m > r2 {
			l.alive &^= 1 << i
			l.n[i], l.mag[i] = uint32(l.clock)+uint32(s), m
			break
		}
	}
	l.x[i], l.y[i] = x, y
}

// fma returns x·y+z rounded once.
func fma[T real](x, y, z T) T {
	if unsafe.Sizeof(x) == 4 {
		return T(kernels.FMA32(float32(x), float32(y), float32(z)))
	}
	return T(math.FMA(float64(x), float64(y), float64(z)))
}
