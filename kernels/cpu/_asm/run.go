package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// runVectors is how many vector registers of lanes run advances together. Four
// would do if the units never waited for one another's results; the more there
// are, the less they do.
const runVectors = 6

// General registers of run.
var (
	runBase  = reg.RDI
	runLeft  = reg.RSI // blocks still to do
	runEight = reg.RBX // eighths of a block's steps
	runLeast = reg.RDX
	runTurns = reg.RCX
	runClock = reg.R8
	runAlive = reg.R9 // how many lanes are alive, or their bits
	runWord  = reg.RAX
	runSteps = reg.R10 // of a block
)

// runCode generates what differs between instruction sets.
type runCode interface {
	// load loads z, and c if there are registers for it.
	load()

	// loadMask loads the mask of the lanes of vector i that are alive.
	loadMask(i int)

	// advance computes step s of a block for vector i.
	advance(s, i int)

	// drop takes the lanes of vector i from its mask that are outside the disc,
	// stores the others with clocks, which is now in every lane, and takes those
	// from the mask whose end has come.
	drop(i int)

	// dropSame takes the lanes from the mask of vector i whose z is that of pastX
	// and pastY, and stores clocks as their end.
	dropSame(i int)

	// maskBits loads the mask of vector i into runWord.
	maskBits(i int)

	// storeBits stores the masks of all vectors.
	storeBits()

	// r2 and clocks hold the same value in each lane.
	r2() reg.VecPhysical
	clocks() reg.VecPhysical
}

func (k *kernel) runCode() runCode {
	if k.isa == avx512 {
		return wideRun{k}
	}
	return &narrowRun{kernel: k}
}

// run generates the function that advances orbits that last.
func (k *kernel) run() {
	r := k.runCode()
	k.open("run", fmt.Sprintf("func(l *runners[%s], blocks, eights, least int)", k.goName),
		"advances every lane by blocks of 8·eights steps, until so many blocks",
		"are done or fewer than least lanes are alive, and adds the steps done to now.",
		"After each block, it takes the lanes from alive that are outside the disc, whose",
		"x, y and clock stay as they were before the block, and those whose end has come.")
	k.Load(k.Param("l"), runBase)
	k.Load(k.Param("blocks"), runLeft)
	k.Load(k.Param("eights"), runEight)
	k.Load(k.Param("least"), runLeast)
	k.MOVQ(k.ofRunners("now"), runClock)
	k.MOVQ(runEight, runSteps)
	k.SHLQ(Imm(3), runSteps)
	for i := range runVectors {
		r.loadMask(i)
	}
	r.load()
	k.broadcast(k.ofRunners("r2"), r.r2())

	k.Label("block")
	k.MOVQ(runEight, runTurns)
	k.ADDQ(runSteps, runClock)
	k.Label("eight")
	for s := range 8 {
		for i := range runVectors {
			r.advance(s, i)
		}
	}
	k.DECQ(runTurns)
	k.JNZ(LabelRef("eight"))

	k.broadcastInt(runClock, r.clocks())
	for i := range runVectors {
		r.drop(i)
	}
	k.XORL(runAlive.As32(), runAlive.As32())
	for i := range runVectors {
		r.maskBits(i)
		k.POPCNTL(runWord.As32(), runWord.As32())
		k.ADDQ(runWord, runAlive)
	}
	k.CMPQ(runAlive, runLeast)
	k.JLT(LabelRef("done"))
	k.DECQ(runLeft)
	k.JNZ(LabelRef("block"))

	k.Label("done")
	k.MOVQ(runClock, k.ofRunners("now"))
	r.storeBits()
	k.VZEROUPPER()
	k.RET()
}

// cycle generates the function that finds orbits that repeat themselves.
func (k *kernel) cycle() {
	r := k.runCode()
	k.open("cycle", fmt.Sprintf("func(l *runners[%s])", k.goName),
		"takes the lanes from alive whose z is that of pastX and pastY,",
		"and lets their end be now.")
	k.Load(k.Param("l"), runBase)
	k.MOVQ(k.ofRunners("now"), runClock)
	for i := range runVectors {
		r.loadMask(i)
	}
	k.broadcastInt(runClock, r.clocks())
	for i := range runVectors {
		r.dropSame(i)
	}
	r.storeBits()
	k.VZEROUPPER()
	k.RET()
}

// ofRunners returns the memory of a field of runners.
func (k *kernel) ofRunners(field string) Mem {
	return Mem{Base: runBase, Disp: k.offsetIn("runners", field)}
}

// ofRun returns the memory of vector i of an array of T of runners.
func (k *kernel) ofRun(field string, i int) Mem {
	return k.ofRunners(field).Offset(i * k.isa.bytes)
}

// runBits returns the memory of the bits of the lanes of runners from vector i on.
func (k *kernel) runBits(field string, i int) Mem {
	return k.ofRunners(field).Offset(i * k.lanes / 8)
}
