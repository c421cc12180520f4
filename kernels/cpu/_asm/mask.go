package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The lanes of the chunk that are alive are bits in memory (lanes.alive). In
// step they are four masks: the registers K1 to K4 with AVX-512, and with AVX2
// vectors of all-ones and all-zeros lanes on the stack.

// chunkBits returns how many bits of lanes.alive belong to a chunk.
func (k *kernel) chunkBits() int { return vectors * k.lanes }

// loadBits loads the chunk's part of lanes.alive.
func (k *kernel) loadBits(to reg.GPPhysical) {
	from := Mem{Base: k.mask, Disp: k.offset("alive")}
	switch k.chunkBits() {
	case 16:
		k.MOVWLZX(from, to.As32())
	case 32:
		k.MOVL(from, to.As32())
	default:
		k.MOVQ(from, to)
	}
}

// storeBits is the inverse of loadBits.
func (k *kernel) storeBits(from reg.GPPhysical) {
	to := Mem{Base: k.mask, Disp: k.offset("alive")}
	switch k.chunkBits() {
	case 16:
		k.MOVW(from.As16(), to)
	case 32:
		k.MOVL(from.As32(), to)
	default:
		k.MOVQ(from, to)
	}
}

// join adds the bits of vector i to those of the chunk. It overwrites part.
func (k *kernel) join(part reg.GPPhysical, i int, bits reg.GPPhysical) {
	if i > 0 {
		k.SHLQ(Imm(uint64(i*k.lanes)), part)
	}
	k.ORQ(part, bits)
}

// signs sets dst to the sign bit of each lane.
func (k *kernel) signs(from reg.VecPhysical, dst reg.GPPhysical) {
	if k.element == f64 {
		k.VMOVMSKPD(from, dst.As32())
	} else {
		k.VMOVMSKPS(from, dst.As32())
	}
}

// splitMasks turns bits into the masks of the chunk. It overwrites bits and
// the registers given.
func (k *kernel) splitMasks(bits, tmp reg.GPPhysical, v0, v1 reg.VecPhysical) {
	for i := range vectors {
		if i > 0 {
			k.SHRQ(Imm(uint64(k.lanes)), bits)
		}
		switch {
		case k.isa == avx512 && k.element == f64:
			// The other eight bits of the mask stay 0, as KORTESTW wants them.
			k.MOVBLZX(bits.As8(), tmp.As32())
			k.KMOVW(tmp.As32(), opmask[1+i])
		case k.isa == avx512:
			k.KMOVW(bits.As32(), opmask[1+i])
		default:
			k.move(k.laneBits, v1)
			k.broadcastInt(bits, v0)
			k.VANDPS(v1, v0, v0)
			k.equalInt(v1, v0, v0)
			k.move(v0, k.aliveMem(i))
		}
	}
}

// joinMasks is the inverse of splitMasks.
func (k *kernel) joinMasks(bits, tmp reg.GPPhysical, v0 reg.VecPhysical) {
	k.XORQ(bits, bits)
	for i := range vectors {
		if k.isa == avx512 {
			k.KMOVW(opmask[1+i], tmp.As32())
		} else {
			k.move(k.aliveMem(i), v0)
			k.signs(v0, tmp)
		}
		k.join(tmp, i, bits)
	}
}

// aliveMem is where AVX2 code keeps the mask of vector i.
func (k *kernel) aliveMem(i int) Mem { return k.frame.Offset(i * k.isa.bytes) }

// equalInt sets d to all ones in the lanes where the integers a and b agree.
func (k *kernel) equalInt(b, a, d Op) {
	if k.element == f64 {
		k.VPCMPEQQ(b, a, d)
	} else {
		k.VPCMPEQD(b, a, d)
	}
}

// laneBitTable declares a vector in which lane i holds the integer 1<<i.
func (k *kernel) laneBitTable() Mem {
	table := k.StaticGlobal("laneBits" + k.element.name)
	k.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range k.lanes {
		if k.element == f64 {
			k.AppendDatum(U64(1 << i))
		} else {
			k.AppendDatum(U32(1 << i))
		}
	}
	return table
}
