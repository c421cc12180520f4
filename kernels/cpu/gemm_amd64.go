package cpu

var (
	avx512F32 = simd[float32]{
		variant: AVX512, vl: 16, mr: 14, mc: 2016, kc: 256, nc: 576, perWorker: 3 << 20,
	}
	avx512F64 = simd[float64]{
		variant: AVX512, vl: 8, mr: 14, mc: 2016, kc: 256, nc: 320, perWorker: 3 << 20,
	}
	avx2F32 = simd[float32]{
		variant: AVX2, vl: 8, mr: 6, mc: 2016, kc: 256, nc: 576, perWorker: 3 << 20,
	}
	avx2F64 = simd[float64]{
		variant: AVX2, vl: 4, mr: 6, mc: 2016, kc: 192, nc: 512, perWorker: 3 << 20,
	}
)

// simdOf returns the assembly of v, or nil if it has none.
func simdOf[T real](v Variant) *simd[T] {
	if !v.runs() {
		return nil
	}
	var s any
	switch wide := size[T]() == 8; {
	case v == AVX512 && wide:
		s = &avx512F64
	case v == AVX512:
		s = &avx512F32
	case v == AVX2 && wide:
		s = &avx2F64
	case v == AVX2:
		s = &avx2F32
	default:
		return nil
	}
	return s.(*simd[T])
}

func gemmStrip[T real](s *simd[T], x *strip[T]) {
	switch x := any(x).(type) {
	case *strip[float32]:
		if s.variant == AVX512 {
			gemmStripAVX512F32(x)
		} else {
			gemmStripAVX2F32(x)
		}
	case *strip[float64]:
		if s.variant == AVX512 {
			gemmStripAVX512F64(x)
		} else {
			gemmStripAVX2F64(x)
		}
	}
}

func packRows[T real](s *simd[T], p *packing[T]) {
	switch p := any(p).(type) {
	case *packing[float32]:
		if s.variant == AVX512 {
			packRowsAVX512F32(p)
		} else {
			packRowsAVX2F32(p)
		}
	case *packing[float64]:
		if s.variant == AVX512 {
			packRowsAVX512F64(p)
		} else {
			packRowsAVX2F64(p)
		}
	}
}

func packColumns[T real](s *simd[T], p *packing[T]) {
	switch p := any(p).(type) {
	case *packing[float32]:
		if s.variant == AVX512 {
			packColumnsAVX512F32(p)
		} else {
			packColumnsAVX2F32(p)
		}
	case *packing[float64]:
		if s.variant == AVX512 {
			packColumnsAVX512F64(p)
		} else {
			packColumnsAVX2F64(p)
		}
	}
}

func gemvDots[T real](s *simd[T], d *dots[T]) {
	switch d := any(d).(type) {
	case *dots[float32]:
		if s.variant == AVX512 {
			gemvDotsAVX512F32(d)
		} else {
			gemvDotsAVX2F32(d)
		}
	case *dots[float64]:
		if s.variant == AVX512 {
			gemvDotsAVX512F64(d)
		} else {
			gemvDotsAVX2F64(d)
		}
	}
}

func gemvAxpys[T real](s *simd[T], a *axpys[T]) {
	switch a := any(a).(type) {
	case *axpys[float32]:
		if s.variant == AVX512 {
			gemvAxpysAVX512F32(a)
		} else {
			gemvAxpysAVX2F32(a)
		}
	case *axpys[float64]:
		if s.variant == AVX512 {
			gemvAxpysAVX512F64(a)
		} else {
			gemvAxpysAVX2F64(a)
		}
	}
}
