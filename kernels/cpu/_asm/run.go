package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// General registers of run.
var (
	runBase  = reg.RDI
	runLeft  = reg.RSI // blocks still to do
	runEight = reg.RBX // eighths of a block's steps
	runLeast = reg.RDX
	runTurns = reg.RCX
	runClock = reg.R8
	runAlive = reg.R9 // lanes inside
	runWord  = reg.RAX
	runSteps = reg.R10 // of a block
)

// runVectors returns how many vector registers of lanes run advances together:
// as many as leave room for x, y, a temporary each and, with AVX-512, c. The more
// there are, the less the units wait for one another's results.
func (k *kernel) runVectors() int {
	if k.isa == avx512 {
		return 6
	}
	return 4
}

// A runner generates run.
type runner struct {
	*kernel
	n     int // vectors
	masks Mem // AVX2 only: the lanes that are inside, as vectors
}

func (r *runner) x(i int) reg.VecPhysical { return r.v(i) }
func (r *runner) y(i int) reg.VecPhysical { return r.v(r.n + i) }
func (r *runner) a(i int) reg.VecPhysical { return r.v(2*r.n + i) }

func (r *runner) cx(i int) Op {
	if r.isa == avx512 {
		return r.v(3*r.n + i)
	}
	return r.field("cx", i)
}

func (r *runner) cy(i int) Op {
	if r.isa == avx512 {
		return r.v(4*r.n + i)
	}
	return r.field("cy", i)
}

func (r *runner) r2() reg.VecPhysical     { return r.last(0) }
func (r *runner) clocks() reg.VecPhysical { return r.last(1) }
func (r *runner) spare() reg.VecPhysical  { return r.last(2) } // AVX2 only

// field returns the memory of vector i of an array of T.
func (r *runner) field(name string, i int) Mem {
	return Mem{Base: runBase, Disp: r.offsetIn("runners", name) + i*r.isa.bytes}
}

// inside returns the memory of the bits of the lanes from vector i on.
func (r *runner) inside(i int) Mem {
	return Mem{Base: runBase, Disp: r.offsetIn("runners", "alive") + i*r.lanes/8}
}

// run generates the function that advances orbits that last.
func (k *kernel) run() {
	r := &runner{kernel: k, n: k.runVectors()}
	r.open("run", fmt.Sprintf("func(l *runners[%s], blocks, eights, least int)", k.goName),
		"advances every lane by blocks of 8·eights steps, until so many blocks",
		"are done or fewer than least lanes are alive, and adds the steps done to now.",
		"After each block, it takes the lanes from alive that are outside the disc, whose",
		"x, y and clock stay as they were before the block, and those whose end has come.")
	if k.isa == avx2 {
		r.masks = k.AllocLocal(r.n * k.isa.bytes)
	}
	k.Load(k.Param("l"), runBase)
	k.Load(k.Param("blocks"), runLeft)
	k.Load(k.Param("eights"), runEight)
	k.Load(k.Param("least"), runLeast)
	k.MOVQ(r.now(), runClock)
	k.MOVQ(runEight, runSteps)
	k.SHLQ(Imm(3), runSteps)
	k.broadcast(Mem{Base: runBase, Disp: k.offsetIn("runners", "r2")}, r.r2())
	r.load()

	k.Label("block")
	k.MOVQ(runEight, runTurns)
	k.ADDQ(runSteps, runClock)
	k.Label("eight")
	for s := range 8 {
		y, a := r.y, r.a
		if s%2 != 0 {
			y, a = a, y
		}
		for i := range r.n {
			k.iterate(r.x(i), y(i), a(i), r.cx(i), r.cy(i))
		}
	}
	k.DECQ(runTurns)
	k.JNZ(LabelRef("eight"))
	r.test()
	k.CMPQ(runAlive, runLeast)
	k.JLT(LabelRef("done"))
	k.DECQ(runLeft)
	k.JNZ(LabelRef("block"))

	k.Label("done")
	k.MOVQ(runClock, r.now())
	r.storeInside()
	k.VZEROUPPER()
	k.RET()
}

func (r *runner) now() Mem { return Mem{Base: runBase, Disp: r.offsetIn("runners", "now")} }

// load loads the lanes and their masks.
func (r *runner) load() {
	for i := range r.n {
		r.move(r.field("x", i), r.x(i))
		r.move(r.field("y", i), r.y(i))
		if r.isa == avx512 {
			r.move(r.field("cx", i), r.cx(i))
			r.move(r.field("cy", i), r.cy(i))
		}
		r.loadMask(i)
		if r.isa == avx2 {
			r.move(r.a(i), r.masks.Offset(i*r.isa.bytes))
		}
	}
}

// loadMask loads the mask of the lanes of vector i that are alive: with AVX2 into a(i).
func (r *runner) loadMask(i int) {
	switch {
	case r.isa == avx512 && r.element == f32:
		r.KMOVW(r.inside(i), opmask[1+i])
	case r.isa == avx512:
		// The other eight bits of the mask stay 0.
		r.MOVBLZX(r.inside(i), runWord.As32())
		r.KMOVW(runWord.As32(), opmask[1+i])
	default:
		r.MOVL(r.inside(0), runWord.As32())
		r.SHRL(Imm(uint64(i*r.lanes)), runWord.As32())
		r.broadcastInt(runWord, r.a(i))
		r.move(r.laneBits, r.spare())
		r.VANDPS(r.spare(), r.a(i), r.a(i))
		r.equalInt(r.spare(), r.a(i), r.a(i))
	}
}

// test drops the lanes that are outside from the masks, stores the others and
// counts them.
func (r *runner) test() {
	r.broadcastInt(runClock, r.clocks())
	for i := range r.n {
		r.magnitude(r.x(i), r.y(i), r.a(i))
	}
	for i := range r.n {
		if r.isa == avx512 {
			k := opmask[1+i]
			r.compare(lessEqual, r.r2(), r.a(i), k, k)
			r.storeMasked(r.x(i), k, r.field("x", i))
			r.storeMasked(r.y(i), k, r.field("y", i))
			r.storeMasked(r.clocks(), k, r.field("clock", i))
			r.compareInt(lessThan, r.field("end", i), r.clocks(), k, k)
			continue
		}
		mask := r.masks.Offset(i * r.isa.bytes)
		r.compare(lessEqual, r.r2(), r.a(i), r.a(i))
		r.VANDPS(mask, r.a(i), r.a(i))
		r.storeMasked(r.x(i), r.a(i), r.field("x", i))
		r.storeMasked(r.y(i), r.a(i), r.field("y", i))
		r.storeMasked(r.clocks(), r.a(i), r.field("clock", i))
		r.move(r.field("end", i), r.spare())
		r.greaterInt(r.clocks(), r.spare(), r.spare())
		r.VANDPS(r.spare(), r.a(i), r.a(i))
		r.move(r.a(i), mask)
	}
	r.XORL(runAlive.As32(), runAlive.As32())
	for i := range r.n {
		r.bits(i)
		r.POPCNTL(runWord.As32(), runWord.As32())
		r.ADDQ(runWord, runAlive)
	}
}

// cycle generates the function that finds orbits that repeat themselves.
func (k *kernel) cycle() {
	r := &runner{kernel: k, n: k.runVectors()}
	r.open("cycle", fmt.Sprintf("func(l *runners[%s])", k.goName),
		"takes the lanes from alive whose z is that of pastX and pastY,",
		"and lets their end be now.")
	k.Load(k.Param("l"), runBase)
	k.MOVQ(r.now(), runClock)
	r.broadcastInt(runClock, r.clocks())
	for i := range r.n {
		r.loadMask(i)
		r.move(r.field("x", i), r.x(0))
		r.move(r.field("y", i), r.y(0))
		if k.isa == avx512 {
			alive, same := opmask[1+i], opmask[7]
			r.compare(equal, r.field("pastX", i), r.x(0), alive, same)
			r.compare(equal, r.field("pastY", i), r.y(0), same, same)
			r.storeMasked(r.clocks(), same, r.field("end", i))
			k.KANDNW(alive, same, alive)
			continue
		}
		r.compare(equal, r.field("pastX", i), r.x(0), r.x(0))
		r.compare(equal, r.field("pastY", i), r.y(0), r.y(0))
		k.VANDPS(r.x(0), r.y(0), r.y(0))
		k.VANDPS(r.a(i), r.y(0), r.y(0))
		r.storeMasked(r.clocks(), r.y(0), r.field("end", i))
		k.VANDNPS(r.a(i), r.y(0), r.a(i))
	}
	r.storeInside()
	k.VZEROUPPER()
	k.RET()
}

// bits puts the bits of the lanes of vector i that are inside into runWord. With AVX2
// the mask has to be in a(i).
func (r *runner) bits(i int) {
	if r.isa == avx512 {
		r.KMOVW(opmask[1+i], runWord.As32())
		return
	}
	r.signs(r.a(i), runWord)
}

// storeInside stores the bits of all lanes.
func (r *runner) storeInside() {
	if r.isa == avx512 {
		for i := range r.n {
			r.bits(i)
			if r.element == f64 {
				r.MOVB(runWord.As8(), r.inside(i))
			} else {
				r.MOVW(runWord.As16(), r.inside(i))
			}
		}
		return
	}
	r.XORL(runAlive.As32(), runAlive.As32())
	for i := range r.n {
		r.bits(i)
		r.join(runWord, i, runAlive)
	}
	if r.element == f64 {
		r.MOVW(runAlive.As16(), r.inside(0))
	} else {
		r.MOVL(runAlive.As32(), r.inside(0))
	}
}

// storeMasked stores the lanes of v that mask names.
func (r *runner) storeMasked(v, mask, to Op) {
	switch {
	case r.isa == avx512 && r.element == f64:
		r.VMOVUPD(v, mask, to)
	case r.isa == avx512:
		r.VMOVUPS(v, mask, to)
	case r.element == f64:
		r.VMASKMOVPD(v, mask, to)
	default:
		r.VMASKMOVPS(v, mask, to)
	}
}
