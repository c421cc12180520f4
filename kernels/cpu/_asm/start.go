package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// start generates the function that prepares orbits of the Mandelbrot set.
func (k *kernel) start() {
	k.function("start", "",
		"computes, for every lane,",
		"",
		"\tx, y, n, mag = 0, 0, 0, 0",
		"\tyy := cy * cy",
		"\tp := cx - 0.25",
		"\tq := fma(p, p, yy)",
		"\talive = !(q*(q+p) <= 0.25*yy || fma(cx+1, cx+1, yy) <= 0.0625)",
		"",
		"and sets l.clock to 0.")
	var (
		bits, part                            = reg.R8, reg.R9
		x, yy, p, q, s                        = k.v(0), k.v(1), k.v(2), k.v(3), k.v(4)
		zero                                  = k.v(11)
		minusQuarter, quarter, one, sixteenth = k.v(12), k.v(13), k.v(14), k.v(15)
	)
	k.enter()
	k.constant(-0.25, minusQuarter)
	k.constant(0.25, quarter)
	k.constant(1, one)
	k.constant(0.0625, sixteenth)
	k.constant(0, zero)

	k.Label("chunk")
	k.XORQ(bits, bits)
	for i := range vectors {
		k.move(k.vector("cx", i), x)
		k.move(k.vector("cy", i), yy)
		k.mul(yy, yy, yy)
		k.add(minusQuarter, x, p)
		k.move(p, q)
		k.fma213(yy, p, q)
		k.add(p, q, s)
		k.mul(s, q, s)
		k.mul(quarter, yy, q)
		k.add(one, x, x)
		k.fma213(yy, x, x)
		k.outside(s, q, x, sixteenth, part)
		k.join(part, i, bits)
		k.move(zero, k.vector("x", i))
		k.move(zero, k.vector("y", i))
		k.move(k.narrowPart(zero), k.half("n", i))
		k.move(k.narrowPart(zero), k.half("mag", i))
	}
	k.storeBits(bits)
	k.leave("chunk", func() { k.MOVQ(U32(0), k.scalar("clock")) })
}

// outside sets dst to a bit for each lane where neither a ≤ b nor c ≤ d. It
// overwrites a and c.
func (k *kernel) outside(a, b, c, d reg.VecPhysical, dst reg.GPPhysical) {
	if k.isa == avx512 {
		k.compare(notLessEqual, b, a, opmask[1])
		k.compare(notLessEqual, d, c, opmask[1], opmask[1])
		k.KMOVW(opmask[1], dst.As32())
		return
	}
	k.compare(notLessEqual, b, a, a)
	k.compare(notLessEqual, d, c, c)
	k.VANDPS(c, a, a)
	k.signs(a, dst)
}
