package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// General registers of first, beside those of kernel.
var (
	firstCols   = reg.R8
	firstCounts = reg.R9
	firstMags   = reg.R10
	firstSteps  = reg.R11
	firstLeft   = reg.R12
	firstWord   = reg.RAX
)

// first generates, for AVX-512, the function that does the first steps of a group of
// neighbours in a row of the Mandelbrot set: what start and step do, without going
// through memory, and without noting anything in steps in which no orbit leaves.
func (k *kernel) first() {
	f := firstRun{k}
	k.open("first", fmt.Sprintf("func(l *lanes[%[1]s], cols, cy *%[1]s, counts *uint32, mags *float32, steps int)", k.goName),
		"starts the orbits of the Mandelbrot set for a group of neighbours, whose",
		"real parts begin at cols, and does so many steps of them, at least one. It stores",
		"what start and step leave in n and mag in counts and mags, and the rest in l where",
		"a lane is alive.")
	k.enter()
	k.Load(k.Param("cols"), firstCols)
	k.Load(k.Param("counts"), firstCounts)
	k.Load(k.Param("mags"), firstMags)
	k.Load(k.Param("steps"), firstSteps)
	k.Load(k.Param("cy"), firstWord)
	k.broadcast(Mem{Base: firstWord}, f.cy())
	k.broadcast(k.scalar("r2"), f.r2())
	k.constant(-0.25, f.constantAt(0))
	k.constant(0.25, f.constantAt(1))
	k.constant(1, f.constantAt(2))
	k.constant(0.0625, f.constantAt(3))
	k.MOVL(U32(1), firstWord.As32())
	k.broadcastInt(firstWord, f.one())

	k.Label("chunk")
	f.interior()
	f.testAlive()
	k.JNZ(LabelRef("some"))
	f.testAliveRest()
	k.JZ(LabelRef("store"))
	k.Label("some")
	k.MOVQ(firstSteps, firstLeft)
	k.VPXORD(f.clocks(), f.clocks(), f.clocks())

	k.Label("step")
	k.addInt(f.one(), f.clocks(), f.clocks())
	for i := range vectors {
		k.iterate(f.x(i), f.y(i), f.a(i), f.cx(i), f.cy())
		k.VMOVAPS(f.a(i), f.y(i))
		k.magnitude(f.x(i), f.y(i), f.a(i))
		k.compare(greater, f.r2(), f.a(i), f.alive(i), f.gone(i))
	}
	k.KORTESTW(f.gone(0), f.gone(1))
	k.JNZ(LabelRef("left"))
	k.KORTESTW(f.gone(2), f.gone(3))
	k.JNZ(LabelRef("left"))
	k.Label("stepped")
	k.DECQ(firstLeft)
	k.JNZ(LabelRef("step"))
	f.storeAlive()
	k.JMP(LabelRef("store"))

	k.Label("left")
	f.record()
	f.testAlive()
	k.JNZ(LabelRef("stepped"))
	f.testAliveRest()
	k.JNZ(LabelRef("stepped"))

	k.Label("store")
	f.storeResults()
	k.ADDQ(U32(vectors*k.isa.bytes), firstCols)
	k.ADDQ(U32(vectors*k.lanes*4), firstCounts)
	k.ADDQ(U32(vectors*k.lanes*4), firstMags)
	k.leave("chunk", func() {})
}

// firstRun has the registers of first.
type firstRun struct{ *kernel }

func (f firstRun) x(i int) reg.VecPhysical          { return f.v(i) }
func (f firstRun) y(i int) reg.VecPhysical          { return f.v(vectors + i) }
func (f firstRun) a(i int) reg.VecPhysical          { return f.v(2*vectors + i) }
func (f firstRun) cx(i int) reg.VecPhysical         { return f.v(3*vectors + i) }
func (f firstRun) n(i int) reg.VecPhysical          { return f.v(4*vectors + i) }
func (f firstRun) mag(i int) reg.VecPhysical        { return f.v(5*vectors + i) }
func (f firstRun) constantAt(i int) reg.VecPhysical { return f.v(6*vectors + i) }
func (f firstRun) cy() reg.VecPhysical              { return f.v(31) }
func (f firstRun) r2() reg.VecPhysical              { return f.v(30) }
func (f firstRun) clocks() reg.VecPhysical          { return f.v(29) }
func (f firstRun) one() reg.VecPhysical             { return f.v(28) }

func (f firstRun) alive(i int) reg.OpmaskPhysical { return opmask[1+i] }

// gone has K0 for the last vector, which compares may write but no instruction takes
// for a mask.
func (f firstRun) gone(i int) reg.OpmaskPhysical { return opmask[(5+i)%8] }

// interior loads cx, starts the orbits, and leaves those alive that the interior
// test does not settle.
func (f firstRun) interior() {
	yy, s, t := f.a(0), f.a(1), f.a(2)
	f.mul(f.cy(), f.cy(), yy)
	f.mul(f.constantAt(1), yy, f.a(3)) // 0.25·yy
	for i := range vectors {
		p, q := f.x(i), f.y(i)
		f.move(Mem{Base: firstCols, Disp: i * f.isa.bytes}, f.cx(i))
		f.add(f.constantAt(0), f.cx(i), p)
		f.move(p, q)
		f.fma213(yy, p, q)
		f.add(p, q, s)
		f.mul(s, q, s)
		f.compare(notLessEqual, f.a(3), s, f.alive(i))
		f.add(f.constantAt(2), f.cx(i), t)
		f.fma213(yy, t, t)
		f.compare(notLessEqual, f.constantAt(3), t, f.alive(i), f.alive(i))
	}
	for i := range vectors {
		for _, v := range []reg.VecPhysical{f.x(i), f.y(i), f.n(i), f.mag(i)} {
			f.VPXORD(v, v, v)
		}
	}
}

// testAlive and testAliveRest clear the zero flag if lanes of the first two vectors,
// and of the others, are alive.
func (f firstRun) testAlive()     { f.KORTESTW(f.alive(0), f.alive(1)) }
func (f firstRun) testAliveRest() { f.KORTESTW(f.alive(2), f.alive(3)) }

// record notes the step and |z|² of the lanes that have left, and takes them from
// those that are alive.
func (f firstRun) record() {
	for i := range vectors {
		gone := f.gone(i)
		if i == vectors-1 {
			gone = f.gone(0)
			f.KMOVW(f.gone(i), gone)
		}
		f.mergeMasked(f.clocks(), gone, f.n(i))
		f.mergeMasked(f.a(i), gone, f.mag(i))
		f.KANDNW(f.alive(i), gone, f.alive(i))
	}
}

// storeAlive stores the orbits, and which lanes are alive.
func (f firstRun) storeAlive() {
	f.XORL(part.As32(), part.As32())
	for i := range vectors {
		f.move(f.x(i), f.vector("x", i))
		f.move(f.y(i), f.vector("y", i))
		f.move(f.cx(i), f.vector("cx", i))
		f.move(f.cy(), f.vector("cy", i))
		f.KMOVW(f.alive(i), firstWord.As32())
		f.join(firstWord, i, part)
	}
	f.storeBits(part)
}

// storeResults stores n and mag.
func (f firstRun) storeResults() {
	for i := range vectors {
		counts := Mem{Base: firstCounts, Disp: i * f.lanes * 4}
		mags := Mem{Base: firstMags, Disp: i * f.lanes * 4}
		if f.element == f32 {
			f.move(f.n(i), counts)
			f.move(f.mag(i), mags)
			continue
		}
		f.VPMOVQD(f.n(i), counts)
		f.VCVTPD2PS(f.mag(i), f.narrowPart(f.mag(i)))
		f.move(f.narrowPart(f.mag(i)), mags)
	}
}
