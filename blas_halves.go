package gpurun

import (
	"gonum.org/v1/gonum/blas"

	"github.com/gpurun/gpurun/kernels"
)

// Where a matrix is triangular or symmetric gonum's routines do not use Dgemm, and
// much of what Solve, LU, QR and Cholesky do is in them. Here such a matrix of
// order n is cut in halves, again and again: two small ones of its kind on the
// diagonal, which are left to gonum, and a square beside them, which is a matter
// for a product on the CPU: many of them are too small to be a job. See E. Elmroth,
// F. Gustavson, I. Jonsson, B. Kågström, "Recursive blocked algorithms and hybrid
// data structures for dense matrix library software", 2004.

const (
	// leafOrder is up to which order a matrix is not cut.
	leafOrder = 64
	// leastOther is how long the other side of the operand must be for that to pay.
	leastOther = 8
)

// level3 is the routines of one type: a product on the CPU, and what gonum does.
type level3[T float32 | float64] interface {
	gemm(tA, tB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int)
	trsm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha T, a []T, lda int, b []T, ldb int)
	trmm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha T, a []T, lda int, b []T, ldb int)
	syrk(ul blas.Uplo, tA blas.Transpose, n, k int, alpha T, a []T, lda int, beta T, c []T, ldc int)
}

// triangle is a triangular matrix A that stands on one side of a matrix B with
// other rows or columns.
type triangle[T float32 | float64] struct {
	impl  level3[T]
	side  blas.Side
	ul    blas.Uplo
	tA    blas.Transpose
	d     blas.Diag
	other int
	lda   int
	ldb   int
}

// cutTriangle returns A as a triangle with its order, and whether it is to be cut:
// not where an argument is wrong, which gonum is to say.
func cutTriangle[T float32 | float64](impl level3[T], s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int,
	a []T, lda int, b []T, ldb int) (t triangle[T], order int, ok bool) {
	order, other := m, n
	if s == blas.Right {
		order, other = n, m
	}
	t = triangle[T]{impl, s, ul, tA, d, other, lda, ldb}
	return t, order, order > leafOrder && other >= leastOther && (s == blas.Left || s == blas.Right) &&
		(ul == blas.Lower || ul == blas.Upper) && known(tA) && (d == blas.Unit || d == blas.NonUnit) &&
		lda >= order && ldb >= n && reaches(a, order, order, lda) && reaches(b, m, n, ldb)
}

// half returns the order of the first half of a matrix.
func half(order int) int { return (order/2 + leafOrder/2 - 1) / (leafOrder / 2) * (leafOrder / 2) }

// parts returns the parts of A and B where A is cut at h: the square beside the
// diagonal, the second triangle, and what of B stands at that.
func (t *triangle[T]) parts(h int, a, b []T) (square, a2, b2 []T) {
	square, b2 = a[h:], b[h:]
	if t.ul == blas.Lower {
		square = a[h*t.lda:]
	}
	if t.side == blas.Left {
		b2 = b[h*t.ldb:]
	}
	return square, a[h*t.lda+h:], b2
}

// add adds alpha times the product of op(square) and a half of B, which is rows
// or columns long, to beta times the other half, to, which is of length n.
func (t *triangle[T]) add(n, k int, alpha T, square, half []T, beta T, to []T) {
	if t.side == blas.Left {
		t.impl.gemm(t.tA, blas.NoTrans, n, t.other, k, alpha, square, t.lda, half, t.ldb, beta, to, t.ldb)
		return
	}
	t.impl.gemm(blas.NoTrans, t.tA, t.other, n, k, alpha, half, t.ldb, square, t.lda, beta, to, t.ldb)
}

// firstFeedsSecond reports whether the first half of B, multiplied by the square,
// belongs to the second.
func (t *triangle[T]) firstFeedsSecond() bool {
	lower := (t.ul == blas.Lower) == (t.tA == blas.NoTrans)
	return lower == (t.side == blas.Left)
}

// sides returns the rows and columns of the part of B at a triangle of this order.
func (t *triangle[T]) sides(order int) (m, n int) {
	if t.side == blas.Left {
		return order, t.other
	}
	return t.other, order
}

// solve computes B = α·op(A)⁻¹·B, or B = α·B·op(A)⁻¹.
func (t *triangle[T]) solve(order int, alpha T, a, b []T) {
	if order <= leafOrder {
		m, n := t.sides(order)
		t.impl.trsm(t.side, t.ul, t.tA, t.d, m, n, alpha, a, t.lda, b, t.ldb)
		return
	}
	h := half(order)
	square, a2, b2 := t.parts(h, a, b)
	if t.firstFeedsSecond() {
		t.solve(h, alpha, a, b)
		t.add(order-h, h, -1, square, b, alpha, b2)
		t.solve(order-h, 1, a2, b2)
		return
	}
	t.solve(order-h, alpha, a2, b2)
	t.add(h, order-h, -1, square, b2, alpha, b)
	t.solve(h, 1, a, b)
}

// multiply computes B = α·op(A)·B, or B = α·B·op(A).
func (t *triangle[T]) multiply(order int, alpha T, a, b []T) {
	if order <= leafOrder {
		m, n := t.sides(order)
		t.impl.trmm(t.side, t.ul, t.tA, t.d, m, n, alpha, a, t.lda, b, t.ldb)
		return
	}
	h := half(order)
	square, a2, b2 := t.parts(h, a, b)
	if t.firstFeedsSecond() {
		t.multiply(order-h, alpha, a2, b2)
		t.add(order-h, h, alpha, square, b, 1, b2)
		t.multiply(h, alpha, a, b)
		return
	}
	t.multiply(h, alpha, a, b)
	t.add(h, order-h, alpha, square, b2, 1, b)
	t.multiply(order-h, alpha, a2, b2)
}

// cutSyrk reports whether C can be cut.
func cutSyrk[T float32 | float64](ul blas.Uplo, tA blas.Transpose, n, k int, a []T, lda int, c []T, ldc int) bool {
	rows, cols := n, k
	if tA != blas.NoTrans {
		rows, cols = k, n
	}
	return n > leafOrder && k >= leastOther && (ul == blas.Lower || ul == blas.Upper) && known(tA) &&
		lda >= cols && ldc >= n && reaches(a, rows, cols, lda) && reaches(c, n, n, ldc)
}

// syrk computes the triangle of C = α·A·Aᵀ + β·C, or C = α·Aᵀ·A + β·C.
func syrk[T float32 | float64](impl level3[T], ul blas.Uplo, tA blas.Transpose, n, k int, alpha T, a []T, lda int, beta T, c []T, ldc int) {
	if n <= leafOrder {
		impl.syrk(ul, tA, n, k, alpha, a, lda, beta, c, ldc)
		return
	}
	h := half(n)
	at, tB := h*lda, blas.Trans
	if tA != blas.NoTrans {
		at, tB = h, blas.NoTrans
	}
	a2 := a[at:]
	syrk(impl, ul, tA, h, k, alpha, a, lda, beta, c, ldc)
	if ul == blas.Lower {
		impl.gemm(tA, tB, n-h, h, k, alpha, a2, lda, a, lda, beta, c[h*ldc:], ldc)
	} else {
		impl.gemm(tA, tB, h, n-h, k, alpha, a, lda, a2, lda, beta, c[h:], ldc)
	}
	syrk(impl, ul, tA, n-h, k, alpha, a2, lda, beta, c[h*ldc+h:], ldc)
}

// double and single are the two types' routines.
type (
	double struct{ g *BLAS }
	single struct{ g *BLAS }
)

func (x double) gemm(tA, tB blas.Transpose, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	x.g.cpu.MatMul64(kernels.MatMul[float64]{
		TransA: tA != blas.NoTrans, TransB: tB != blas.NoTrans, M: m, N: n, K: k,
		Alpha: alpha, A: a, LDA: lda, B: b, LDB: ldb, Beta: beta, C: c, LDC: ldc,
	}, &onward)
}

func (x double) trsm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float64, a []float64, lda int, b []float64, ldb int) {
	x.g.others.Dtrsm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

func (x double) trmm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float64, a []float64, lda int, b []float64, ldb int) {
	x.g.others.Dtrmm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

func (x double) syrk(ul blas.Uplo, tA blas.Transpose, n, k int, alpha float64, a []float64, lda int, beta float64, c []float64, ldc int) {
	x.g.others.Dsyrk(ul, tA, n, k, alpha, a, lda, beta, c, ldc)
}

func (x single) gemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	x.g.cpu.MatMul32(kernels.MatMul[float32]{
		TransA: tA != blas.NoTrans, TransB: tB != blas.NoTrans, M: m, N: n, K: k,
		Alpha: alpha, A: a, LDA: lda, B: b, LDB: ldb, Beta: beta, C: c, LDC: ldc,
	}, &onward)
}

func (x single) trsm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float32, a []float32, lda int, b []float32, ldb int) {
	x.g.others.Strsm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

func (x single) trmm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float32, a []float32, lda int, b []float32, ldb int) {
	x.g.others.Strmm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

func (x single) syrk(ul blas.Uplo, tA blas.Transpose, n, k int, alpha float32, a []float32, lda int, beta float32, c []float32, ldc int) {
	x.g.others.Ssyrk(ul, tA, n, k, alpha, a, lda, beta, c, ldc)
}
