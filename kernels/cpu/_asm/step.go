package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// General registers of step beside those of kernel.
var (
	remaining = reg.R8  // steps still to do for the chunk
	clock     = reg.R9  // lanes.clock plus the steps done
	tested    = reg.R10 // steps of the next tested run
	counter   = reg.R11 // counts tested down
	bits      = reg.R12
	part      = reg.R13
	scratch   = reg.RAX
)

// Vector registers of step. x, y, a, cx, cy, n and mag are for the vectors 0
// to 3 of the chunk; a is a temporary. With AVX2 only x, y and a of all four
// fit: c is read from memory, and tested runs have registers of their own.
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

// step generates the function that advances orbits.
//
// Between chunks and between blocks x and y in memory are those after the
// steps done, so a block that has to be done again needs no copy of its own.
func (k *kernel) step() {
	k.function("step", ", steps, checked int",
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
		"and adds steps to l.clock. It tests the first checked steps one by one and",
		fmt.Sprintf("the others in blocks of %d, which finds every escape if |c| of the lanes that", block),
		"are then alive is at most kernels.MonotoneLimit(l.r2).")
	if k.isa == avx2 {
		k.frame = k.AllocLocal(vectors * k.isa.bytes)
	}
	k.enter()
	k.broadcast(k.scalar("r2"), k.r2())
	k.MOVL(U32(1), scratch.As32())
	k.broadcastInt(scratch, k.one())

	k.Label("chunk")
	k.loadBits(bits)
	k.TESTQ(bits, bits)
	k.JZ(LabelRef("next"))
	k.splitMasks(bits, part, k.v(0), k.v(1))
	k.loadC()
	k.Load(k.Param("steps"), remaining)
	k.MOVQ(k.scalar("clock"), clock)
	k.Load(k.Param("checked"), tested)
	k.CMPQ(tested, remaining)
	k.CMOVQGT(remaining, tested)
	k.TESTQ(tested, tested)
	k.JNZ(LabelRef("test"))

	k.blocks()

	k.Label("test")
	k.testedRun()
	k.JNZ(LabelRef("resume"))
	k.Label("store")
	k.joinMasks(bits, part, k.v(0))
	k.storeBits(bits)
	k.Label("next")
	k.leave("chunk", func() {
		k.Load(k.Param("steps"), remaining)
		k.ADDQ(remaining, k.scalar("clock"))
	})
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

// blocks generates the part that tests once a block. It leaves to store when
// no steps remain, and to test with the number of steps to do there when fewer
// than a block remain or when a lane escaped in a block, at whose start x and
// y in memory then are.
func (k *kernel) blocks() {
	k.Label("resume")
	k.MOVQ(remaining, tested)
	k.TESTQ(remaining, remaining)
	k.JZ(LabelRef("store"))
	k.CMPQ(remaining, Imm(block))
	k.JLT(LabelRef("test"))
	for i := range vectors {
		k.move(k.vector("x", i), k.x(i))
		k.move(k.vector("y", i), k.y(i))
	}

	k.Label("block")
	for s := range block {
		y, a := k.y, k.a
		if s%2 != 0 {
			y, a = a, y
		}
		for i := range vectors {
			k.iterate(k.x(i), y(i), a(i), k.cx(i), k.cy(i))
		}
	}
	k.testBlock()
	k.JNZ(LabelRef("again"))
	for i := range vectors {
		k.move(k.x(i), k.vector("x", i))
		k.move(k.y(i), k.vector("y", i))
	}
	k.SUBQ(Imm(block), remaining)
	k.ADDQ(Imm(block), clock)
	k.CMPQ(remaining, Imm(block))
	k.JGE(LabelRef("block"))
	k.JMP(LabelRef("resume"))

	k.Label("again")
	k.MOVQ(U32(block), tested)
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

// testBlock clears the zero flag if a lane that is alive is outside the disc.
func (k *kernel) testBlock() {
	for i := range vectors {
		k.magnitude(k.x(i), k.y(i), k.a(i))
	}
	if k.isa == avx512 {
		free := []reg.OpmaskPhysical{opmask[0], opmask[5], opmask[6], opmask[7]}
		for i := range vectors {
			k.compare(notLessEqual, k.r2(), k.a(i), opmask[1+i], free[i])
		}
		k.testMasks(free...)
		return
	}
	for i := range vectors {
		k.compare(notLessEqual, k.r2(), k.a(i), k.a(i))
		k.VANDPS(k.aliveMem(i), k.a(i), k.a(i))
	}
	k.VORPS(k.a(1), k.a(0), k.a(0))
	k.VORPS(k.a(3), k.a(2), k.a(2))
	k.VORPS(k.a(2), k.a(0), k.a(0))
	k.signs(k.a(0), scratch)
	k.TESTL(scratch.As32(), scratch.As32())
}

// testMasks sets the zero flag if all of four masks are 0. It overwrites K5,
// K6 and K7.
func (k *kernel) testMasks(m ...reg.OpmaskPhysical) {
	k.KORW(m[0], m[1], opmask[5])
	k.KORW(m[2], m[3], opmask[6])
	k.KORTESTW(opmask[5], opmask[6])
}
