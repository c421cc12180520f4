package kernels

import "math"

// FMA32 returns x·y+z rounded once to float32.
//
// The product of two float32 is exact in float64. The sum is rounded to odd
// there, which keeps enough of what was cut off for the second rounding, to
// float32, to be right: S. Boldo, G. Melquiond, "Emulation of a FMA and
// correctly rounded sums: proved algorithms using rounding to odd", 2008.
func FMA32(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := float64(p + c)
	// The error of the sum, exactly: D. Knuth's TwoSum.
	b := float64(s - p)
	e := float64(p-float64(s-b)) + float64(c-b)
	if e == 0 || e != e {
		return float32(s)
	}
	// Rounding to odd: s is the neighbour of the exact sum nearer to it. An
	// even s gives way to the neighbour on the other side of the exact sum.
	bits := math.Float64bits(s)
	if bits&1 == 0 {
		if (e > 0) == (s > 0) {
			bits++
		} else {
			bits--
		}
	}
	return float32(math.Float64frombits(bits))
}

// The conversions around products and sums keep the compiler from fusing them.

func interior64(cx, cy float64) bool {
	yy := float64(cy * cy)
	p := cx - 0.25
	q := math.FMA(p, p, yy)
	if float64(q*float64(q+p)) <= float64(0.25*yy) {
		return true
	}
	return math.FMA(cx+1, cx+1, yy) <= 0.0625
}

func interior32(cx, cy float32) bool {
	yy := float32(cy * cy)
	p := cx - 0.25
	q := FMA32(p, p, yy)
	if float32(q*float32(q+p)) <= float32(0.25*yy) {
		return true
	}
	return FMA32(cx+1, cx+1, yy) <= 0.0625
}
