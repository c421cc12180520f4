package cpu

import (
	"math"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

var (
	hasAVX512 = hasAVX2 && cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512VL, cpuid.BMI2)
	hasAVX2   = cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.POPCNT)
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

// first begins a group of neighbours, as the assembly says. It needs AVX-512.
func first[T real](l *lanes[T], cols, cy *T, counts *uint32, mags *float32, steps int) {
	switch l := any(l).(type) {
	case *lanes[float32]:
		firstAVX512F32(l, any(cols).(*float32), any(cy).(*float32), counts, mags, steps)
	case *lanes[float64]:
		firstAVX512F64(l, any(cols).(*float64), any(cy).(*float64), counts, mags, steps)
	}
}

// runWidth returns how many lanes run advances together: those of six vector
// registers.
func runWidth[T real](v Variant) int {
	var t T
	if v == AVX512 {
		return 6 * 64 / int(unsafe.Sizeof(t))
	}
	return 6 * 32 / int(unsafe.Sizeof(t))
}

// run advances the lanes of l by blocks of 8·eights steps, as the assembly says.
func run[T real](v Variant, l *runners[T], blocks, eights, least int) {
	switch l := any(l).(type) {
	case *runners[float32]:
		if v == AVX512 {
			runAVX512F32(l, blocks, eights, least)
		} else {
			runAVX2F32(l, blocks, eights, least)
		}
	case *runners[float64]:
		if v == AVX512 {
			runAVX512F64(l, blocks, eights, least)
		} else {
			runAVX2F64(l, blocks, eights, least)
		}
	}
}

// cycle ends the lanes of l that are where they were, as the assembly says.
func cycle[T real](v Variant, l *runners[T]) {
	switch l := any(l).(type) {
	case *runners[float32]:
		if v == AVX512 {
			cycleAVX512F32(l)
		} else {
			cycleAVX2F32(l)
		}
	case *runners[float64]:
		if v == AVX512 {
			cycleAVX512F64(l)
		} else {
			cycleAVX2F64(l)
		}
	}
}

// exchange does what exchangeGeneric does, by variant v.
func exchange[T real](v Variant, l *runners[T], width int, in, out *orbitList[T], maxIter, done int) (live int) {
	if v == AVX512 {
		switch l := any(l).(type) {
		case *runners[float32]:
			return exchangeAVX512F32(l, any(in).(*orbitList[float32]), any(out).(*orbitList[float32]), maxIter, done)
		case *runners[float64]:
			return exchangeAVX512F64(l, any(in).(*orbitList[float64]), any(out).(*orbitList[float64]), maxIter, done)
		}
	}
	return exchangeGeneric(l, width, in, out, maxIter, done)
}

// admit does what admitGeneric does, by variant v.
func admit[T real](v Variant, l *lanes[T], which uint64, pixel int, in *orbitList[T]) {
	if v == AVX512 {
		switch l := any(l).(type) {
		case *lanes[float32]:
			admitAVX512F32(l, which, pixel, any(in).(*orbitList[float32]))
			return
		case *lanes[float64]:
			admitAVX512F64(l, which, pixel, any(in).(*orbitList[float64]))
			return
		}
	}
	admitGeneric(l, which, pixel, in)
}

// unfinished does what unfinishedGeneric does, by variant v.
func unfinished(v Variant, steps []uint32, maxIter int) (lanes uint64) {
	if v == AVX512 && len(steps) == group {
		return unfinishedAVX512(&steps[0], maxIter)
	}
	return unfinishedGeneric(steps, maxIter)
}

// settle does what settleGeneric does, by variant v.
func settle[T real](v Variant, counts []uint32, mags []float32, pixel, steps []uint32, l *lanes[T], maxIter int) {
	if v == AVX512 && len(steps) == group && len(counts) <= math.MaxInt32 {
		// Its indices are signed, and of 32 bits.
		settleAVX512(&counts[0], unsafe.SliceData(mags), &pixel[0], &steps[0], &l.n[0], &l.mag[0], maxIter)
		return
	}
	settleGeneric(counts, mags, pixel, steps, l, maxIter)
}
