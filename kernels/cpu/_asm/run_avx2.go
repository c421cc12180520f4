package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// narrowRun has registers for x and y of each vector. c is read from memory, and the
// masks are vectors on the stack.
type narrowRun struct {
	*kernel
	frame Mem
}

func (r *narrowRun) x(i int) reg.VecPhysical { return r.v(i) }
func (r *narrowRun) y(i int) reg.VecPhysical { return r.v(runVectors + i) }

// a and t are temporaries of whichever vector is at work.
func (r *narrowRun) a() reg.VecPhysical      { return r.v(12) }
func (r *narrowRun) t() reg.VecPhysical      { return r.v(13) }
func (r *narrowRun) clocks() reg.VecPhysical { return r.v(14) }
func (r *narrowRun) r2() reg.VecPhysical     { return r.v(15) }

func (r *narrowRun) mask(i int) Mem {
	if r.frame.Base == nil {
		r.frame = r.AllocLocal(runVectors * r.isa.bytes)
	}
	return r.frame.Offset(i * r.isa.bytes)
}

func (r *narrowRun) load() {
	for i := range runVectors {
		r.move(r.ofRun("x", i), r.x(i))
		r.move(r.ofRun("y", i), r.y(i))
	}
}

func (r *narrowRun) loadMask(i int) {
	r.MOVQ(r.runBits("alive", 0), runWord)
	if i > 0 {
		r.SHRQ(Imm(uint64(i*r.lanes)), runWord)
	}
	r.broadcastInt(runWord, r.a())
	r.move(r.laneBits, r.t())
	r.VANDPS(r.t(), r.a(), r.a())
	r.equalInt(r.t(), r.a(), r.a())
	r.move(r.a(), r.mask(i))
}

func (r *narrowRun) advance(_, i int) {
	r.add(r.x(i), r.x(i), r.a())
	r.move(r.ofRun("cx", i), r.t())
	r.fnma231(r.y(i), r.y(i), r.t())
	r.fma213(r.ofRun("cy", i), r.a(), r.y(i))
	r.fma213(r.t(), r.x(i), r.x(i))
}

func (r *narrowRun) drop(i int) {
	r.magnitude(r.x(i), r.y(i), r.a())
	r.compare(lessEqual, r.r2(), r.a(), r.a())
	r.VANDPS(r.mask(i), r.a(), r.a())
	r.storeMasked(r.x(i), r.a(), r.ofRun("x", i))
	r.storeMasked(r.y(i), r.a(), r.ofRun("y", i))
	r.storeMasked(r.clocks(), r.a(), r.ofRun("clock", i))
	r.move(r.ofRun("end", i), r.t())
	r.greaterInt(r.clocks(), r.t(), r.t())
	r.VANDPS(r.t(), r.a(), r.a())
	r.move(r.a(), r.mask(i))
}

func (r *narrowRun) dropSame(i int) {
	r.move(r.ofRun("x", i), r.a())
	r.compare(equal, r.ofRun("pastX", i), r.a(), r.a())
	r.move(r.ofRun("y", i), r.t())
	r.compare(equal, r.ofRun("pastY", i), r.t(), r.t())
	r.VANDPS(r.a(), r.t(), r.t())
	r.move(r.mask(i), r.a())
	r.VANDPS(r.a(), r.t(), r.t())
	r.storeMasked(r.clocks(), r.t(), r.ofRun("end", i))
	r.VANDNPS(r.a(), r.t(), r.a())
	r.move(r.a(), r.mask(i))
}

func (r *narrowRun) maskBits(i int) {
	r.move(r.mask(i), r.a())
	r.signs(r.a(), runWord)
}

func (r *narrowRun) storeBits() {
	r.XORL(runAlive.As32(), runAlive.As32())
	for i := range runVectors {
		r.maskBits(i)
		r.join(runWord, i, runAlive)
	}
	r.MOVQ(runAlive, r.runBits("alive", 0))
}

// storeMasked stores the lanes of v that mask, a vector, names.
func (r *narrowRun) storeMasked(v, mask, to Op) {
	if r.element == f64 {
		r.VMASKMOVPD(v, mask, to)
	} else {
		r.VMASKMOVPS(v, mask, to)
	}
}
