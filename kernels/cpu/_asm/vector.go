package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Vector instructions, chosen by the type of the elements. Operands are in Go's
// order: the destination is last.

// Predicates of compare: the first two are true, the others are false, for NaN.
const (
	notLessEqual = 0x16
	notGreater   = 0x1a
	lessEqual    = 0x12
	equal        = 0x00
	greater      = 0x1e
)

// add computes d = a + b.
func (k *kernel) add(b, a, d Op) {
	if k.element == f64 {
		k.VADDPD(b, a, d)
	} else {
		k.VADDPS(b, a, d)
	}
}

// mul computes d = a·b.
func (k *kernel) mul(b, a, d Op) {
	if k.element == f64 {
		k.VMULPD(b, a, d)
	} else {
		k.VMULPS(b, a, d)
	}
}

// fma213 computes d = a·d + b.
func (k *kernel) fma213(b, a, d Op) {
	if k.element == f64 {
		k.VFMADD213PD(b, a, d)
	} else {
		k.VFMADD213PS(b, a, d)
	}
}

// fnma213 computes d = −a·d + b.
func (k *kernel) fnma213(b, a, d Op) {
	if k.element == f64 {
		k.VFNMADD213PD(b, a, d)
	} else {
		k.VFNMADD213PS(b, a, d)
	}
}

// fma231 computes d = a·b + d.
func (k *kernel) fma231(b, a, d Op) {
	if k.element == f64 {
		k.VFMADD231PD(b, a, d)
	} else {
		k.VFMADD231PS(b, a, d)
	}
}

// fnma231 computes d = −a·b + d.
func (k *kernel) fnma231(b, a, d Op) {
	if k.element == f64 {
		k.VFNMADD231PD(b, a, d)
	} else {
		k.VFNMADD231PS(b, a, d)
	}
}

// compare computes a ? b into the last operand of d; the one before it, if
// any, is the mask of the lanes that may be set.
func (k *kernel) compare(predicate uint64, b, a Op, d ...Op) {
	ops := append([]Op{Imm(predicate), b, a}, d...)
	if k.element == f64 {
		k.VCMPPD(ops...)
	} else {
		k.VCMPPS(ops...)
	}
}

// lessThan is a predicate of compareInt.
const lessThan = 1

// compareInt computes a ? b on signed integers as wide as the lane into the last
// operand of d; the one before it, if any, is the mask of the lanes that may be set
// (AVX-512).
func (k *kernel) compareInt(predicate uint64, b, a Op, d ...Op) {
	ops := append([]Op{Imm(predicate), b, a}, d...)
	if k.element == f64 {
		k.VPCMPQ(ops...)
	} else {
		k.VPCMPD(ops...)
	}
}

// greaterInt computes d = a > b on signed integers as wide as the lane (AVX2).
func (k *kernel) greaterInt(b, a, d Op) {
	if k.element == f64 {
		k.VPCMPGTQ(b, a, d)
	} else {
		k.VPCMPGTD(b, a, d)
	}
}

// move copies a whole vector to, from or between registers.
func (k *kernel) move(from, to Op) { k.VMOVUPS(from, to) }

// broadcast copies one T into every lane.
func (k *kernel) broadcast(from, to Op) {
	if k.element == f64 {
		k.VBROADCASTSD(from, to)
	} else {
		k.VBROADCASTSS(from, to)
	}
}

// broadcastInt copies an integer into every lane, as wide as the lane.
func (k *kernel) broadcastInt(from reg.GPPhysical, to reg.VecPhysical) {
	switch {
	case k.isa == avx512 && k.element == f64:
		k.VPBROADCASTQ(from.As64(), to)
	case k.isa == avx512:
		k.VPBROADCASTD(from.As32(), to)
	case k.element == f64:
		k.VMOVQ(from.As64(), to.AsX())
		k.VPBROADCASTQ(to.AsX(), to)
	default:
		k.VMOVD(from.As32(), to.AsX())
		k.VPBROADCASTD(to.AsX(), to)
	}
}

// addInt computes d = a + b on integers as wide as the lane.
func (k *kernel) addInt(b, a, d Op) {
	if k.element == f64 {
		k.VPADDQ(b, a, d)
	} else {
		k.VPADDD(b, a, d)
	}
}

// loadResults fills n and mag from 4-byte elements.
func (k *kernel) loadResults(i int, n, mag reg.VecPhysical) {
	if k.element == f32 {
		k.move(k.half("n", i), n)
		k.move(k.half("mag", i), mag)
		return
	}
	k.VPMOVSXDQ(k.half("n", i), n)
	k.VCVTPS2PD(k.half("mag", i), mag)
}

// storeResults is the inverse of loadResults; mag is rounded to float32. It
// overwrites the registers, and tmp.
func (k *kernel) storeResults(i int, n, mag, tmp reg.VecPhysical) {
	switch {
	case k.element == f32:
		k.move(n, k.half("n", i))
		k.move(mag, k.half("mag", i))
	case k.isa == avx512:
		k.VPMOVQD(n, k.half("n", i))
		k.VCVTPD2PS(mag, mag.AsY())
		k.VMOVUPS(mag.AsY(), k.half("mag", i))
	default:
		k.VEXTRACTF128(Imm(1), n, tmp.AsX())
		k.VSHUFPS(Imm(0x88), tmp.AsX(), n.AsX(), n.AsX())
		k.VMOVUPS(n.AsX(), k.half("n", i))
		k.VCVTPD2PSY(mag, mag.AsX())
		k.VMOVUPS(mag.AsX(), k.half("mag", i))
	}
}

// constant copies value into every lane; it overwrites RAX.
func (k *kernel) constant(value float64, to reg.VecPhysical) {
	if k.element == f64 {
		k.MOVQ(U64(math.Float64bits(value)), reg.RAX)
	} else {
		k.MOVL(U32(math.Float32bits(float32(value))), reg.EAX)
	}
	k.broadcastInt(reg.RAX, to)
}

// mergeMasked copies the lanes of from that mask names (AVX-512).
func (k *kernel) mergeMasked(from, mask, to Op) {
	if k.element == f64 {
		k.VMOVAPD(from, mask, to)
	} else {
		k.VMOVAPS(from, mask, to)
	}
}

// keepMasked clears the lanes that mask does not name (AVX-512).
func (k *kernel) keepMasked(mask, v Op) {
	if k.element == f64 {
		k.VMOVAPD_Z(v, mask, v)
	} else {
		k.VMOVAPS_Z(v, mask, v)
	}
}

// blend copies the lanes of from that mask, a vector, names (AVX2).
func (k *kernel) blend(mask, from, to Op) {
	if k.element == f64 {
		k.VBLENDVPD(mask, from, to, to)
	} else {
		k.VBLENDVPS(mask, from, to, to)
	}
}

// narrowPart returns the part of v that holds as many 4-byte elements as v has
// lanes.
func (k *kernel) narrowPart(v reg.VecPhysical) reg.VecPhysical {
	switch {
	case k.element == f32:
		return v
	case k.isa == avx512:
		return v.AsY().(reg.VecPhysical)
	}
	return v.AsX().(reg.VecPhysical)
}

// compress packs the lanes of from that mask names (AVX-512).
func (k *kernel) compress(from, mask, to Op) {
	if k.element == f64 {
		k.VCOMPRESSPD(from, mask, to)
	} else {
		k.VCOMPRESSPS(from, mask, to)
	}
}

// expand puts successive elements of from into the lanes of to that mask names
// (AVX-512).
func (k *kernel) expand(from, mask, to Op) {
	if k.element == f64 {
		k.VEXPANDPD(from, mask, to)
	} else {
		k.VEXPANDPS(from, mask, to)
	}
}
