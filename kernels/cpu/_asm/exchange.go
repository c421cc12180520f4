package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The functions of this file move orbits between lanes and lists. They need
// AVX-512, which compresses and expands vectors; AVX2 does it in Go.

// General registers of exchange and admit, beside runBase.
var (
	listIn   = reg.RSI // orbits that wait
	listOut  = reg.RDX // orbits that have left
	countIn  = reg.R8  // of listIn
	countOut = reg.R9  // of listOut
	aliveNow = reg.RAX // bits of a vector's lanes
	freeNow  = reg.RCX
	leaving  = reg.RBX
	entering = reg.R10 // how many
	spareGP  = reg.R11
	liveAll  = reg.R12
)

// Opmasks.
var (
	leave = opmask[1]
	enter = opmask[2]
)

// listed returns the memory of a list's array of T, or of 4-byte elements if half,
// from element index on.
func (k *kernel) listed(list, index reg.GPPhysical, field string, half bool) Mem {
	scale := k.element.bytes
	if half {
		scale = 4
	}
	return Mem{Base: list, Index: index, Scale: uint8(scale), Disp: k.offsetIn("orbitList", field)}
}

func (k *kernel) listCount(list reg.GPPhysical) Mem {
	return Mem{Base: list, Disp: k.offsetIn("orbitList", "n")}
}

// exchanger generates exchange.
type exchanger struct{ wideRun }

func (r exchanger) limit() reg.VecPhysical { return r.v(28) } // maxIter
func (r exchanger) ends() reg.VecPhysical  { return r.v(29) } // of those who enter
func (r exchanger) nan() reg.VecPhysical   { return r.v(27) }

// exchange generates the function that gives lanes to others.
func (k *kernel) exchange() {
	r := exchanger{wideRun{k}}
	r.open("exchange", fmt.Sprintf("func(l *runners[%[1]s], in, out *orbitList[%[1]s], maxIter, done int) (live int)", k.goName),
		"moves the orbits of lanes that are not alive to out, and the last",
		"orbits of in, which have done so many steps, to lanes that are then free. It",
		"returns how many lanes have an orbit.")
	k.Load(k.Param("l"), runBase)
	k.Load(k.Param("in"), listIn)
	k.Load(k.Param("out"), listOut)
	k.MOVQ(k.listCount(listIn), countIn)
	k.MOVQ(k.listCount(listOut), countOut)
	k.XORL(liveAll.As32(), liveAll.As32())

	k.Load(k.Param("maxIter"), spareGP)
	r.broadcastInt(spareGP, r.limit())
	k.MOVQ(k.ofRunners("now"), runWord)
	r.broadcastInt(runWord, r.clocks())
	k.ADDQ(spareGP, runWord)
	k.Load(k.Param("done"), spareGP)
	k.SUBQ(spareGP, runWord)
	r.broadcastInt(runWord, r.ends())
	k.VPTERNLOGD(Imm(0xff), r.nan(), r.nan(), r.nan()) // all ones are a NaN
	for i := range runVectors {
		r.exchangeVector(i)
	}
	k.MOVQ(countIn, k.listCount(listIn))
	k.MOVQ(countOut, k.listCount(listOut))
	k.Store(liveAll, k.ReturnIndex(0))
	k.VZEROUPPER()
	k.RET()
}

func (r exchanger) exchangeVector(i int) {
	full, enough := fmt.Sprintf("full%d", i), fmt.Sprintf("enough%d", i)
	r.loadWord(r.runBits("alive", i), aliveNow)
	r.MOVL(aliveNow.As32(), freeNow.As32())
	r.XORL(U32(1<<r.lanes-1), freeNow.As32())
	r.JZ(LabelRef(full))

	r.loadWord(r.runBits("taken", i), leaving)
	r.ANDL(freeNow.As32(), leaving.As32())
	r.KMOVW(leaving.As32(), leave)
	r.POPCNTQ(freeNow, entering)
	r.CMPQ(entering, countIn)
	r.JLE(LabelRef(enough))
	r.MOVQ(I32(-1), spareGP)
	r.BZHIQ(countIn, spareGP, spareGP)
	r.PDEPQ(freeNow, spareGP, freeNow)
	r.MOVQ(countIn, entering)
	r.Label(enough)
	r.KMOVW(freeNow.As32(), enter)
	r.SUBQ(entering, countIn)

	for j, field := range []string{"x", "y", "cx", "cy"} {
		r.swap(field, i, r.v(2*j), r.v(2*j+1))
	}
	r.swapPixels(i, r.v(8), r.v(9))
	r.countSteps(i, r.v(10))
	r.storeMasked(r.clocks(), enter, r.ofRun("clock", i))
	r.storeMasked(r.ends(), enter, r.ofRun("end", i))
	r.storeMasked(r.nan(), enter, r.ofRun("pastX", i))

	r.POPCNTQ(leaving, leaving)
	r.ADDQ(leaving, countOut)
	r.ORL(freeNow.As32(), aliveNow.As32())
	r.storeWord(aliveNow, r.runBits("alive", i))
	r.storeWord(aliveNow, r.runBits("taken", i))
	r.Label(full)
	r.POPCNTQ(aliveNow, aliveNow)
	r.ADDQ(aliveNow, liveAll)
}

// swap moves the leaving lanes of a field to the list, and others into the free
// ones. Whole vectors are stored, beyond what the list then has.
func (r exchanger) swap(field string, i int, v, tmp reg.VecPhysical) {
	r.move(r.ofRun(field, i), v)
	r.compress(v, leave, tmp)
	r.move(tmp, r.listed(listOut, countOut, field, false))
	r.expand(r.listed(listIn, countIn, field, false), enter, v)
	r.move(v, r.ofRun(field, i))
}

func (r exchanger) swapPixels(i int, v, tmp reg.VecPhysical) {
	at := r.ofRunners("pixel").Offset(4 * i * r.lanes)
	v, tmp = r.narrowPart(v), r.narrowPart(tmp)
	r.move(at, v)
	r.VPCOMPRESSD(v, leave, tmp)
	r.move(tmp, r.listed(listOut, countOut, "pixel", true))
	r.VPEXPANDD(r.listed(listIn, countIn, "pixel", true), enter, v)
	r.move(v, at)
}

// countSteps stores how many steps the leaving orbits have done: maxIter less those
// from clock to end.
func (r exchanger) countSteps(i int, v reg.VecPhysical) {
	r.move(r.ofRun("clock", i), v)
	if r.element == f64 {
		r.VPSUBQ(r.ofRun("end", i), v, v)
		r.VPADDQ(r.limit(), v, v)
		r.VPMOVQD(v, r.narrowPart(v))
	} else {
		r.VPSUBD(r.ofRun("end", i), v, v)
		r.VPADDD(r.limit(), v, v)
	}
	v = r.narrowPart(v)
	r.VPCOMPRESSD(v, leave, v)
	r.move(v, r.listed(listOut, countOut, "steps", true))
}

// admit generates the function that puts lanes on a list.
func (k *kernel) admit() {
	k.open("admit", fmt.Sprintf("func(l *lanes[%[1]s], which uint64, pixel int, in *orbitList[%[1]s])", k.goName),
		"appends the lanes that which has to in. Their pixels begin with pixel.")
	iota := k.StaticGlobal("iota" + k.element.name)
	k.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range 16 {
		k.AppendDatum(U32(i))
	}
	k.Load(k.Param("l"), k.wide)
	k.Load(k.Param("in"), listOut)
	k.Load(k.Param("which"), freeNow)
	k.Load(k.Param("pixel"), runWord)
	k.MOVQ(k.listCount(listOut), countOut)
	pixels, places := k.narrowPart(k.v(8)), k.narrowPart(k.v(10))
	k.move(iota, places)
	for i := range k.groupSize() / k.lanes {
		k.KMOVW(freeNow.As32(), leave)
		for j, field := range []string{"x", "y", "cx", "cy"} {
			v := k.v(j)
			k.move(k.vector(field, i), v)
			k.compress(v, leave, v)
			k.move(v, k.listed(listOut, countOut, field, false))
		}
		k.VPBROADCASTD(runWord.As32(), pixels)
		k.VPADDD(places, pixels, pixels)
		k.VPCOMPRESSD(pixels, leave, pixels)
		k.move(pixels, k.listed(listOut, countOut, "pixel", true))
		k.ADDQ(U32(k.lanes), runWord)
		if k.lanes == 8 {
			k.MOVBLZX(freeNow.As8(), entering.As32())
		} else {
			k.MOVWLZX(freeNow.As16(), entering.As32())
		}
		k.POPCNTQ(entering, entering)
		k.ADDQ(entering, countOut)
		k.SHRQ(Imm(uint64(k.lanes)), freeNow)
	}
	k.MOVQ(countOut, k.listCount(listOut))
	k.VZEROUPPER()
	k.RET()
}
