package cpu

import (
	"slices"
	"sync/atomic"
	"unsafe"
)

// Gemm32 computes C = α·op(A)·op(B) + β·C in float32, where op(A) is m×k, op(B)
// is k×n, C is m×n, and op(X) is X, or its transpose if transX. All are stored
// row by row: element (i, j) of X is x[i*ldx+j].
//
// For each element of C, acc = β·c, or 0 where β = 0, and c itself where β = 1;
// then for p = 0, 1, … k−1
//
//	acc = fma(α·a[i,p], b[p,j], acc)
//
// with α·a rounded to float32, and a itself where α = 1. So every variant, and
// any number of threads, gives the same bits; only which NaN a NaN is may differ.
// Where β = 0, C is not read; where α = 0 or k = 0, A and B are not read, and C
// is multiplied by β. No multiplication by 0 is left out: 0·∞ is NaN.
//
// The caller sees to it that m, n and k are not negative, that a row of X as it is
// stored is no longer than ldx, and that x reaches to the last element at least:
// (rows−1)·ldx + columns elements. What lies between the rows is not touched. C
// must not overlap A or B; these two may overlap. Calls may be concurrent, also
// with the same A and B.
//
// Up to threads goroutines compute, the calling one among them; fewer where the
// product is small. All are done when Gemm32 returns. It returns false, with C
// undefined, if stop became true before C was done; that takes up to a few
// milliseconds.
//
// The algorithm is that of K. Goto, R. van de Geijn, "Anatomy of high-performance
// matrix multiplication", 2008, with the micro-kernels of F. Van Zee, R. van de
// Geijn, "BLIS: a framework for rapidly instantiating BLAS functionality", 2015.
func (v Variant) Gemm32(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int,
	beta float32, c []float32, ldc int, threads int, stop *atomic.Bool) bool {
	return gemm(v, &operands[float32]{transA, transB, m, n, k, alpha, beta, a, b, c, lda, ldb, ldc}, threads, stop)
}

// Gemm64 is Gemm32 in float64.
func (v Variant) Gemm64(transA, transB bool, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int,
	beta float64, c []float64, ldc int, threads int, stop *atomic.Bool) bool {
	return gemm(v, &operands[float64]{transA, transB, m, n, k, alpha, beta, a, b, c, lda, ldb, ldc}, threads, stop)
}

// operands are the arguments of Gemm32 or Gemm64.
type operands[T real] struct {
	transA, transB bool
	m, n, k        int
	alpha, beta    T
	a, b, c        []T
	lda, ldb, ldc  int
}

// flops returns the operations that the product takes.
func (o *operands[T]) flops() float64 { return 2 * float64(o.m) * float64(o.n) * float64(o.k) }

// simd is one variant's assembly for one type: what suits it. The names are
// those of the literature: tiles have up to MR rows and NR columns, and a block
// of A has MC×KC elements, one of B KC×NC.
type simd[T real] struct {
	variant Variant

	// vl is the elements of a vector, mr is MR, and NR is nrVectors of them.
	vl, mr int

	// mc, kc and nc are the most of MC, KC and NC.
	mc, kc, nc int

	// perWorker is how many operations are worth another goroutine: the first time
	// it comes tens of microseconds late.
	perWorker float64
}

// nrVectors is how many vectors wide a tile is at most.
const nrVectors = 2

func (s *simd[T]) nr() int { return nrVectors * s.vl }

func gemm[T real](v Variant, o *operands[T], threads int, stop *atomic.Bool) bool {
	if o.m == 0 || o.n == 0 {
		return true
	}
	if stop.Load() {
		return false
	}
	s := simdOf[T](v)
	if s != nil && o.alpha != 0 && o.k > 0 && o.m > 1 && o.n > 1 && o.flops() <= s.mostDirect(threads) && direct(s, o) {
		return true
	}
	pool := poolOf[T]()
	j := pool.get()
	j.operands, j.simd, j.stop = *o, s, stop
	switch {
	case o.alpha == 0 || o.k == 0:
		j.scale()
	case s == nil:
		j.generic(threads)
	case o.m == 1 || o.n == 1:
		j.gemv(threads)
	default:
		j.blocked(threads)
	}
	pool.leave(j)
	return !stop.Load()
}

// betweenStops is how many elements are worked on at most before stop is looked at.
const betweenStops = 1 << 14

// scale multiplies C by β.
func (j *job[T]) scale() {
	for i := range j.m {
		row := j.c[i*j.ldc:][:j.n]
		for part := range slices.Chunk(row, betweenStops) {
			if j.stop.Load() {
				return
			}
			scaled(part, j.beta)
		}
	}
}

// scaled multiplies the elements of C in row by β.
func scaled[T real](row []T, beta T) {
	switch beta {
	case 0:
		clear(row)
	case 1:
	default:
		for x := range row {
			row[x] *= beta
		}
	}
}

// at returns the address of x[i], without a bounds check: of panels, addresses
// are needed where nothing is read.
func at[T real](x []T, i int) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(x)), i*size[T]()))
}

// size returns the bytes of a T.
func size[T real]() int { return int(unsafe.Sizeof(T(0))) }
