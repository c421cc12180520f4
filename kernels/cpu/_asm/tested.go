package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectorRun holds the registers of one vector while it is stepped.
type vectorRun struct {
	i                       int // the vector's place in the chunk
	x, y, a, n, mag, escape reg.VecPhysical
	alive                   reg.Physical // an opmask with AVX-512, else a vector
}

// tested generates the steps of a chunk. It leaves the lanes that are alive after
// them in bits.
func (k *kernel) tested() {
	if k.isa == avx512 {
		k.testedVectors("steps", k.wideRuns())
		k.joinMasks(bits, part, k.v(0))
		return
	}
	// Two vectors at a time have room in the registers.
	for i := 0; i < vectors; i += 2 {
		k.testedVectors(fmt.Sprintf("steps%d", i), k.pairRuns(i))
	}
	k.joinMasks(bits, part, k.v(0))
}

func (k *kernel) wideRuns() []vectorRun {
	var runs []vectorRun
	for i := range vectors {
		runs = append(runs, vectorRun{
			i: i, x: k.x(i), y: k.y(i), a: k.a(i), n: k.v(5*vectors + i), mag: k.v(6*vectors + i),
			alive: opmask[1+i],
		})
	}
	return runs
}

func (k *kernel) pairRuns(first int) []vectorRun {
	var runs []vectorRun
	for j := range 2 {
		runs = append(runs, vectorRun{
			i: first + j, x: k.v(j), y: k.v(2 + j), a: k.v(4 + j), n: k.v(6 + j), mag: k.v(8 + j),
			alive: k.v(10 + j), escape: k.v(12),
		})
	}
	return runs
}

// testedVectors generates the steps of some vectors; label is free for it to use.
// x and y are in memory before and after them.
func (k *kernel) testedVectors(label string, runs []vectorRun) {
	for _, r := range runs {
		k.move(k.vector("x", r.i), r.x)
		k.move(k.vector("y", r.i), r.y)
		k.loadResults(r.i, r.n, r.mag)
		if k.isa == avx2 {
			k.move(k.aliveMem(r.i), r.alive)
		}
	}
	k.broadcastInt(clock, k.clocks())
	k.MOVQ(steps, counter)

	k.Label(label)
	k.addInt(k.one(), k.clocks(), k.clocks())
	for _, r := range runs {
		k.iterate(r.x, r.y, r.a, k.cx(r.i), k.cy(r.i))
		k.VMOVAPS(r.a, r.y)
		k.magnitude(r.x, r.y, r.a)
		k.record(r)
	}
	k.testAlive(runs)
	k.JZ(LabelRef(label + "done"))
	k.DECQ(counter)
	k.JNZ(LabelRef(label))

	k.Label(label + "done")
	for _, r := range runs {
		k.move(r.x, k.vector("x", r.i))
		k.move(r.y, k.vector("y", r.i))
		k.storeRun(r)
	}
}

// record notes the step and |z|² of the lanes that were alive until now, then
// drops those that have escaped from the mask. What it has noted is final for
// them; storeRun clears it for the others.
func (k *kernel) record(r vectorRun) {
	if k.isa == avx512 {
		k.mergeMasked(k.clocks(), r.alive, r.n)
		k.mergeMasked(r.a, r.alive, r.mag)
		k.compare(notGreater, k.r2(), r.a, r.alive, r.alive)
		return
	}
	k.blend(r.alive, k.clocks(), r.n)
	k.blend(r.alive, r.a, r.mag)
	k.compare(notGreater, k.r2(), r.a, r.escape)
	k.VANDPS(r.escape, r.alive, r.alive)
}

// storeRun clears what record noted for lanes that are still alive, and stores
// the results.
func (k *kernel) storeRun(r vectorRun) {
	if k.isa == avx512 {
		k.KNOTW(r.alive, opmask[5])
		k.keepMasked(opmask[5], r.n)
		k.keepMasked(opmask[5], r.mag)
	} else {
		k.VANDNPS(r.n, r.alive, r.n)
		k.VANDNPS(r.mag, r.alive, r.mag)
		k.move(r.alive, k.aliveMem(r.i))
	}
	k.storeResults(r.i, r.n, r.mag, r.a)
}

// testAlive sets the zero flag if no lane of runs is alive.
func (k *kernel) testAlive(runs []vectorRun) {
	if k.isa == avx512 {
		k.testMasks(opmask[1:5]...)
		return
	}
	k.VORPS(runs[1].alive, runs[0].alive, runs[0].escape)
	k.signs(runs[0].escape, part)
	k.TESTL(part.As32(), part.As32())
}
