package cpu

import (
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

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

// step does what stepGeneric does, by variant v.
func step[T real](v Variant, l *lanes[T], steps int) {
	switch l := any(l).(type) {
	case *lanes[float32]:
		if v == AVX512 {
			stepAVX512F32(l, steps)
			return
		}
		if v == AVX2 {
			stepAVX2F32(l, steps)
			return
		}
	case *lanes[float64]:
		if v == AVX512 {
			stepAVX512F64(l, steps)
			return
		}
		if v == AVX2 {
			stepAVX2F64(l, steps)
			return
		}
	}
	stepGeneric(l, steps)
}

// runWidth returns how many lanes run advances together.
func runWidth[T real](v Variant) int {
	var t T
	size := int(unsafe.Sizeof(t))
	if v == AVX512 {
		return 6 * 64 / size
	}
	return 4 * 32 / size
}

func run[T real](v Variant, l *runners[T], blocks, eights, least int) {
	switch l := any(l).(type) {
	case *runners[float32]:
		if v == AVX512 {
			runAVX512F32(l, blocks, eights, least)
			return
		}
		runAVX2F32(l, blocks, eights, least)
	case *runners[float64]:
		if v == AVX512 {
			runAVX512F64(l, blocks, eights, least)
			return
		}
		runAVX2F64(l, blocks, eights, least)
	}
}
