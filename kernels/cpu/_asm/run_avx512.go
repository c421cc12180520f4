package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// wideRun has registers for x, y, c and a temporary of each vector, and the opmasks
// 1 to 6 for their masks.
type wideRun struct{ *kernel }

func (r wideRun) x(i int) reg.VecPhysical  { return r.v(i) }
func (r wideRun) y(i int) reg.VecPhysical  { return r.v(runVectors + i) }
func (r wideRun) a(i int) reg.VecPhysical  { return r.v(2*runVectors + i) }
func (r wideRun) cx(i int) reg.VecPhysical { return r.v(3*runVectors + i) }
func (r wideRun) cy(i int) reg.VecPhysical { return r.v(4*runVectors + i) }
func (r wideRun) r2() reg.VecPhysical      { return r.v(31) }
func (r wideRun) clocks() reg.VecPhysical  { return r.v(30) }

func (r wideRun) mask(i int) reg.OpmaskPhysical { return opmask[1+i] }

func (r wideRun) load() {
	for i := range runVectors {
		r.move(r.ofRun("x", i), r.x(i))
		r.move(r.ofRun("y", i), r.y(i))
		r.move(r.ofRun("cx", i), r.cx(i))
		r.move(r.ofRun("cy", i), r.cy(i))
	}
}

func (r wideRun) loadMask(i int) {
	if r.element == f32 {
		r.KMOVW(r.runBits("alive", i), r.mask(i))
		return
	}
	// The other eight bits of the mask stay 0.
	r.MOVBLZX(r.runBits("alive", i), runWord.As32())
	r.KMOVW(runWord.As32(), r.mask(i))
}

func (r wideRun) advance(s, i int) {
	y, a := r.y(i), r.a(i)
	if s%2 != 0 {
		y, a = a, y
	}
	r.iterate(r.x(i), y, a, r.cx(i), r.cy(i))
}

func (r wideRun) drop(i int) {
	m := r.mask(i)
	r.magnitude(r.x(i), r.y(i), r.a(i))
	r.compare(lessEqual, r.r2(), r.a(i), m, m)
	r.storeMasked(r.x(i), m, r.ofRun("x", i))
	r.storeMasked(r.y(i), m, r.ofRun("y", i))
	r.storeMasked(r.clocks(), m, r.ofRun("clock", i))
	r.compareInt(lessThan, r.ofRun("end", i), r.clocks(), m, m)
}

func (r wideRun) dropSame(i int) {
	m, same := r.mask(i), opmask[7]
	r.move(r.ofRun("x", i), r.x(i))
	r.move(r.ofRun("y", i), r.y(i))
	r.compare(equal, r.ofRun("pastX", i), r.x(i), m, same)
	r.compare(equal, r.ofRun("pastY", i), r.y(i), same, same)
	r.storeMasked(r.clocks(), same, r.ofRun("end", i))
	r.KANDNW(m, same, m)
}

func (r wideRun) maskBits(i int) { r.KMOVW(r.mask(i), runWord.As32()) }

func (r wideRun) storeBits() {
	for i := range runVectors {
		r.maskBits(i)
		r.storeWord(runWord, r.runBits("alive", i))
	}
}

// storeMasked stores the lanes of v that mask names.
func (r wideRun) storeMasked(v, mask, to Op) {
	if r.element == f64 {
		r.VMOVUPD(v, mask, to)
	} else {
		r.VMOVUPS(v, mask, to)
	}
}

// loadWord loads the bits of a vector's lanes.
func (r wideRun) loadWord(from Mem, to reg.GPPhysical) {
	if r.lanes == 8 {
		r.MOVBLZX(from, to.As32())
	} else {
		r.MOVWLZX(from, to.As32())
	}
}

// storeWord is the inverse of loadWord.
func (r wideRun) storeWord(from reg.GPPhysical, to Mem) {
	if r.lanes == 8 {
		r.MOVB(from.As8(), to)
	} else {
		r.MOVW(from.As16(), to)
	}
}
