package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// General registers of step beside those of kernel.
var (
	steps   = reg.R8
	clock   = reg.R9  // lanes.clock
	counter = reg.R11 // counts steps down
	bits    = reg.R12
	part    = reg.R13
	scratch = reg.RAX
)

// Vector registers of step. x, y, a, cx, cy, n and mag are for the vectors 0
// to 3 of the chunk; a is a temporary. With AVX2 two vectors fit at a time, with c
// in memory: see pairRuns.
func (k *kernel) x(i int) reg.VecPhysical { return k.v(i) }
func (k *kernel) y(i int) reg.VecPhysical { return k.v(vectors + i) }
func (k *kernel) a(i int) reg.VecPhysical { return k.v(2*vectors + i) }

func (k *kernel) cx(i int) Op {
	if k.isa == avx512 {
		return k.v(3*vectors + i)
	}
	return k.vector("cx", i)
}

func (k *kernel) cy(i int) Op {
	if k.isa == avx512 {
		return k.v(4*vectors + i)
	}
	return k.vector("cy", i)
}

// r2, one and clocks hold the same value in each lane.
func (k *kernel) r2() reg.VecPhysical     { return k.last(0) }
func (k *kernel) one() reg.VecPhysical    { return k.last(1) }
func (k *kernel) clocks() reg.VecPhysical { return k.last(2) }

func (k *kernel) last(i int) reg.VecPhysical {
	if k.isa == avx512 {
		return k.v(31 - i)
	}
	return k.v(15 - i)
}

// step generates the function that advances orbits with a test at every step.
func (k *kernel) step() {
	k.function("step", ", steps int",
		"computes, for every lane that is alive,",
		"",
		"\tfor s := 1; s <= steps; s++ {",
		"\t\tt := fma(-y, y, cx)",
		"\t\tx, y = fma(x, x, t), fma(x+x, y, cy)",
		"\t\tif m := fma(x, x, y*y); m > l.r2 {",
		"\t\t\talive, n, mag = false, l.clock+s, float32(m)",
		"\t\t\tbreak",
		"\t\t}",
		"\t}",
		"",
		"and adds steps, of which there is at least one, to l.clock.")
	if k.isa == avx2 {
		k.frame = k.AllocLocal(vectors * k.isa.bytes)
	}
	k.enter()
	k.Load(k.Param("steps"), steps)
	k.broadcast(k.scalar("r2"), k.r2())
	k.MOVL(U32(1), scratch.As32())
	k.broadcastInt(scratch, k.one())
	k.MOVQ(k.scalar("clock"), clock)

	k.Label("chunk")
	k.loadBits(bits)
	k.TESTQ(bits, bits)
	k.JZ(LabelRef("next"))
	k.splitMasks(bits, part, k.v(0), k.v(1))
	k.loadC()
	k.tested()
	k.storeBits(bits)
	k.Label("next")
	k.leave("chunk", func() { k.ADDQ(steps, k.scalar("clock")) })
}

func (k *kernel) loadC() {
	if k.isa != avx512 {
		return
	}
	for i := range vectors {
		k.move(k.vector("cx", i), k.cx(i))
		k.move(k.vector("cy", i), k.cy(i))
	}
}

// iterate computes one step. The new y is in next, and y holds no value then.
func (k *kernel) iterate(x, y, next reg.VecPhysical, cx, cy Op) {
	k.add(x, x, next)
	k.fma213(cy, y, next)
	k.fnma213(cx, y, y)
	k.fma213(y, x, x)
}

// magnitude computes d = |z|².
func (k *kernel) magnitude(x, y, d reg.VecPhysical) {
	k.mul(y, y, d)
	k.fma231(x, x, d)
}

// testMasks sets the zero flag if all of four masks are 0. It overwrites K5,
// K6 and K7.
func (k *kernel) testMasks(m ...reg.OpmaskPhysical) {
	k.KORW(m[0], m[1], opmask[5])
	k.KORW(m[2], m[3], opmask[6])
	k.KORTESTW(opmask[5], opmask[6])
}
