package gpurun

import (
	"sync/atomic"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
)

// BLAS is gonum's BLAS with matrix products that are gpurun's: Dgemm, Dgemv with a
// large matrix, and Dtrsm, Dtrmm and Dsyrk, most of which are products too; and
// the same in float32. All else is gonum's own implementation, the complex types
// included.
//
//	blas64.Use(eng.BLAS())
//	blas32.Use(eng.BLAS())
//
// and all of gonum, such as mat and lapack, multiplies with it. Its methods take
// what gonum's take, and panic over what gonum's panic over, with the same words.
// They are safe for concurrent use. A small product runs on the calling goroutine
// and allocates nothing; where the engine has GPUs to choose from, that is one of
// less than 2¹⁷ operations, and where it has hosts but no GPUs, of less than 2²⁴. How
// many threads others take is said at Gemm64.
//
// The arithmetic of Dgemm and Sgemm is that of Gemm64. What is partly gonum's still
// gives the same bits for any number of threads, and with any of gpurun's kernels,
// but not on processors for which gonum has other kernels. gonum leaves out
// multiplications by zero now and then, and gpurun does not, which shows where a
// zero meets an infinity or NaN.
type BLAS struct {
	others
	eng *Engine
	cpu device.Multiplier
}

type others = gonum.Implementation

var _ interface {
	blas.Float32
	blas.Float64
	blas.Complex64
	blas.Complex128
} = (*BLAS)(nil)

// BLAS returns an implementation of gonum's BLAS interfaces. Dgemm and Sgemm choose
// devices as Gemm64 does, but for one thing: what does not pay to be sent to hosts is
// not, also where Config.Devices is "none". The rest multiplies on the CPU, which also
// steps in where other devices fail, and when e has been closed. It leaves no reports.
func (e *Engine) BLAS() *BLAS { return &BLAS{eng: e, cpu: e.spare} }

// onward never stops a product: BLAS has no contexts.
var onward atomic.Bool

// Dgemm computes C = α·op(A)·op(B) + β·C. See Gemm64 for the arithmetic.
func (g *BLAS) Dgemm(tA, tB blas.Transpose, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	p := kernels.MatMul[float64]{M: m, N: n, K: k, Alpha: alpha, A: a, LDA: lda, B: b, LDB: ldb, Beta: beta, C: c, LDC: ldc}
	if checkGemm(tA, tB, &p) {
		if g.eng.inPlaceForBLAS(p.Flops()) || !spreadQuietly(g.eng, p) {
			g.cpu.MatMul64(p, &onward)
		}
		return
	}
	g.others.Dgemm(tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

// Sgemm computes C = α·op(A)·op(B) + β·C. See Gemm32 for the arithmetic.
func (g *BLAS) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	p := kernels.MatMul[float32]{M: m, N: n, K: k, Alpha: alpha, A: a, LDA: lda, B: b, LDB: ldb, Beta: beta, C: c, LDC: ldc}
	if checkGemm(tA, tB, &p) {
		if g.eng.inPlaceForBLAS(p.Flops()) || !spreadQuietly(g.eng, p) {
			g.cpu.MatMul32(p, &onward)
		}
		return
	}
	g.others.Sgemm(tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

// largeVector is how many elements a matrix has at least whose product with a
// vector is computed here. Such a product takes as long as reading the matrix
// does: beyond the caches several cores read faster than one, which is all that
// gonum uses; below, gonum is no slower.
const largeVector = 1 << 20

// Dgemv computes y = α·op(A)·x + β·y: where A has 2²⁰ elements or more and no
// increment is negative by the arithmetic of Gemm64, for which a vector is a
// matrix of one column, and else as gonum does.
func (g *BLAS) Dgemv(tA blas.Transpose, m, n int, alpha float64, a []float64, lda int, x []float64, incX int, beta float64, y []float64, incY int) {
	p := kernels.MatMul[float64]{M: m, N: 1, K: n, Alpha: alpha, A: a, LDA: lda, B: x, LDB: incX, Beta: beta, C: y, LDC: incY}
	if checkGemv(tA, &p) {
		g.cpu.MatMul64(p, &onward)
		return
	}
	g.others.Dgemv(tA, m, n, alpha, a, lda, x, incX, beta, y, incY)
}

// Sgemv is Dgemv in float32.
func (g *BLAS) Sgemv(tA blas.Transpose, m, n int, alpha float32, a []float32, lda int, x []float32, incX int, beta float32, y []float32, incY int) {
	p := kernels.MatMul[float32]{M: m, N: 1, K: n, Alpha: alpha, A: a, LDA: lda, B: x, LDB: incX, Beta: beta, C: y, LDC: incY}
	if checkGemv(tA, &p) {
		g.cpu.MatMul32(p, &onward)
		return
	}
	g.others.Sgemv(tA, m, n, alpha, a, lda, x, incX, beta, y, incY)
}

// The checks below do not repeat gonum's panics: what they refuse is handed to
// gonum, which does nothing where there is nothing to do, and panics otherwise.

// checkGemm reports whether p is to be computed here, and sets what is transposed
// and the strides of matrices of one row.
func checkGemm[T float32 | float64](tA, tB blas.Transpose, p *kernels.MatMul[T]) bool {
	if p.M <= 0 || p.N <= 0 || p.K < 0 || !known(tA) || !known(tB) {
		return false
	}
	p.TransA, p.TransB = tA != blas.NoTrans, tB != blas.NoTrans
	rowsA, colsA := p.M, p.K
	if p.TransA {
		rowsA, colsA = colsA, rowsA
	}
	rowsB, colsB := p.K, p.N
	if p.TransB {
		rowsB, colsB = colsB, rowsB
	}
	ok := p.LDA >= max(1, colsA) && p.LDB >= max(1, colsB) && p.LDC >= p.N &&
		reaches(p.A, rowsA, colsA, p.LDA) && reaches(p.B, rowsB, colsB, p.LDB) && reaches(p.C, p.M, p.N, p.LDC)
	p.LDA, p.LDB, p.LDC = usedStride(rowsA, colsA, p.LDA), usedStride(rowsB, colsB, p.LDB), usedStride(p.M, p.N, p.LDC)
	return ok
}

// checkGemv reports whether p, a product of a matrix and a vector, is to be
// computed here. It comes as if the matrix were not transposed, and leaves as what
// is to be computed.
func checkGemv[T float32 | float64](tA blas.Transpose, p *kernels.MatMul[T]) bool {
	rows, cols := p.M, p.K
	if p.TransA = tA != blas.NoTrans; p.TransA {
		p.M, p.K = cols, rows
	}
	ok := known(tA) && rows > 0 && cols >= ceil(largeVector, rows) && p.LDA >= cols && p.LDB > 0 && p.LDC > 0 &&
		reaches(p.A, rows, cols, p.LDA) && reaches(p.B, p.K, 1, p.LDB) && reaches(p.C, p.M, 1, p.LDC)
	p.LDA, p.LDB, p.LDC = usedStride(rows, cols, p.LDA), usedStride(p.K, 1, p.LDB), usedStride(p.M, 1, p.LDC)
	return ok
}

func known(t blas.Transpose) bool { return t == blas.NoTrans || t == blas.Trans || t == blas.ConjTrans }

// ceil returns a ÷ b, rounded up.
func ceil(a, b int) int { return (a-1)/b + 1 }
