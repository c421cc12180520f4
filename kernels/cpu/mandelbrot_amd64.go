package cpu

import "github.com/klauspost/cpuid/v2"

var (
	hasAVX512 = cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512VL, cpuid.AVX2, cpuid.FMA3)
	hasAVX2   = cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3)
)

// supported reports whether this processor can run the assembly of v.
func (v Variant) supported() bool {
	return v == AVX512 && hasAVX512 || v == AVX2 && hasAVX2
}

// start does what startGeneric does, by variant v.
func start[T real](v Variant, l *lanes[T]) {
	switch l := any(l).(type) {
	case *lanes[float32]:
		if v == AVX512 {
			startAVX512F32(l)
			return
		}
		if v == AVX2 {
			startAVX2F32(l)
			return
		}
	case *lanes[float64]:
		if v == AVX512 {
			startAVX512F64(l)
			return
		}
		if v == AVX2 {
			startAVX2F64(l)
			return
		}
	}
	startGeneric(l)
}

// step does what stepGeneric does, by variant v. The variants in assembly test
// only the first checked steps one by one; the others they test in blocks,
// which finds every escape if |c| of the lanes that are then alive is at most
// kernels.MonotoneLimit(l.r2).
func step[T real](v Variant, l *lanes[T], steps, checked int) {
	switch l := any(l).(type) {
	case *lanes[float32]:
		if v == AVX512 {
			stepAVX512F32(l, steps, checked)
			return
		}
		if v == AVX2 {
			stepAVX2F32(l, steps, checked)
			return
		}
	case *lanes[float64]:
		if v == AVX512 {
			stepAVX512F64(l, steps, checked)
			return
		}
		if v == AVX2 {
			stepAVX2F64(l, steps, checked)
			return
		}
	}
	stepGeneric(l, steps)
}
