package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// untyped stands for all element types.
var untyped = element{"", "float32", 4}

// settleWidth is how many 4-byte elements a register holds.
const settleWidth = 16

// unfinished generates, for AVX-512, the function that tells which orbits of a group
// have steps left.
func (k *kernel) unfinished() {
	k.open("unfinished", "func(steps *uint32, maxIter int) (lanes uint64)",
		"has the bits of those of a group whose steps are less than maxIter.")
	steps, limit, bits, all := reg.RSI, reg.RDX, reg.RCX, reg.RAX
	k.Load(k.Param("steps"), steps)
	k.Load(k.Param("maxIter"), limit)
	k.VPBROADCASTD(limit.As32(), reg.Z0)
	k.XORL(all.As32(), all.As32())
	for i := range k.groupSize() / settleWidth {
		k.VPCMPUD(Imm(greaterInteger), Mem{Base: steps, Disp: 64 * i}, reg.Z0, reg.K1)
		k.KMOVW(reg.K1, bits.As32())
		if i > 0 {
			k.SHLQ(Imm(uint64(i*settleWidth)), bits)
		}
		k.ORQ(bits, all)
	}
	k.Store(all, k.ReturnIndex(0))
	k.VZEROUPPER()
	k.RET()
}

// settle generates, for AVX-512, the function that stores what a group of orbits has
// come to.
func (k *kernel) settle() {
	k.open("settle", "func(counts *uint32, mags *float32, pixel, steps, n *uint32, mag *float32, maxIter int)",
		"stores, for each orbit of a group, steps + n in counts and mag in mags",
		"where pixel says: 0 in both if n is 0 or the sum is above maxIter. mags may be nil.")
	counts, mags, pixel, steps, n, mag := reg.RDI, reg.RSI, reg.RDX, reg.RCX, reg.R8, reg.R9
	limit := reg.RAX
	k.Load(k.Param("counts"), counts)
	k.Load(k.Param("mags"), mags)
	k.Load(k.Param("pixel"), pixel)
	k.Load(k.Param("steps"), steps)
	k.Load(k.Param("n"), n)
	k.Load(k.Param("mag"), mag)
	k.Load(k.Param("maxIter"), limit)
	k.VPBROADCASTD(limit.As32(), reg.Z0)
	sums := []reg.VecPhysical{reg.Z1, reg.Z2, reg.Z3, reg.Z4}
	places := []reg.VecPhysical{reg.Z5, reg.Z6, reg.Z7, reg.Z8}
	for i := range k.groupSize() / settleWidth {
		at := func(base reg.GPPhysical) Mem { return Mem{Base: base, Disp: 64 * i} }
		k.VMOVDQU32(at(n), sums[i])
		k.VPTESTMD(sums[i], sums[i], opmask[1])
		k.VPADDD(at(steps), sums[i], sums[i])
		k.VPCMPUD(Imm(lessEqualInteger), reg.Z0, sums[i], opmask[1], opmask[2+i])
		k.VMOVDQA32_Z(sums[i], opmask[2+i], sums[i])
		k.VMOVDQU32(at(pixel), places[i])
		k.KXNORW(opmask[7], opmask[7], opmask[7])
		k.VPSCATTERDD(sums[i], opmask[7], Mem{Base: counts, Index: places[i], Scale: 4})
	}
	k.TESTQ(mags, mags)
	k.JZ(LabelRef("done"))
	for i := range k.groupSize() / settleWidth {
		k.VMOVUPS_Z(Mem{Base: mag, Disp: 64 * i}, opmask[2+i], sums[i])
		k.KXNORW(opmask[7], opmask[7], opmask[7])
		k.VSCATTERDPS(sums[i], opmask[7], Mem{Base: mags, Index: places[i], Scale: 4})
	}
	k.Label("done")
	k.VZEROUPPER()
	k.RET()
}

// Predicates of compares of integers.
const (
	lessEqualInteger = 2
	greaterInteger   = 6
)
