package gpurun

import "gonum.org/v1/gonum/blas"

// Dtrsm solves op(A)·X = α·B, or X·op(A) = α·B, where A is triangular, and
// puts X in the place of B.
func (g *BLAS) Dtrsm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float64, a []float64, lda int, b []float64, ldb int) {
	if t, order, ok := cutTriangle(level3[float64](double{g}), s, ul, tA, d, m, n, a, lda, b, ldb); ok && alpha != 0 {
		t.solve(order, alpha, a, b)
		return
	}
	g.others.Dtrsm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

// Dtrmm computes B = α·op(A)·B, or B = α·B·op(A), where A is triangular.
func (g *BLAS) Dtrmm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float64, a []float64, lda int, b []float64, ldb int) {
	if t, order, ok := cutTriangle(level3[float64](double{g}), s, ul, tA, d, m, n, a, lda, b, ldb); ok && alpha != 0 {
		t.multiply(order, alpha, a, b)
		return
	}
	g.others.Dtrmm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

// Dsyrk computes the upper or lower triangle of C = α·A·Aᵀ + β·C, or of
// C = α·Aᵀ·A + β·C.
func (g *BLAS) Dsyrk(ul blas.Uplo, tA blas.Transpose, n, k int, alpha float64, a []float64, lda int, beta float64, c []float64, ldc int) {
	if cutSyrk(ul, tA, n, k, a, lda, c, ldc) {
		syrk(level3[float64](double{g}), ul, tA, n, k, alpha, a, lda, beta, c, ldc)
		return
	}
	g.others.Dsyrk(ul, tA, n, k, alpha, a, lda, beta, c, ldc)
}

// Strsm solves op(A)·X = α·B, or X·op(A) = α·B, where A is triangular, and
// puts X in the place of B.
func (g *BLAS) Strsm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float32, a []float32, lda int, b []float32, ldb int) {
	if t, order, ok := cutTriangle(level3[float32](single{g}), s, ul, tA, d, m, n, a, lda, b, ldb); ok && alpha != 0 {
		t.solve(order, alpha, a, b)
		return
	}
	g.others.Strsm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

// Strmm computes B = α·op(A)·B, or B = α·B·op(A), where A is triangular.
func (g *BLAS) Strmm(s blas.Side, ul blas.Uplo, tA blas.Transpose, d blas.Diag, m, n int, alpha float32, a []float32, lda int, b []float32, ldb int) {
	if t, order, ok := cutTriangle(level3[float32](single{g}), s, ul, tA, d, m, n, a, lda, b, ldb); ok && alpha != 0 {
		t.multiply(order, alpha, a, b)
		return
	}
	g.others.Strmm(s, ul, tA, d, m, n, alpha, a, lda, b, ldb)
}

// Ssyrk computes the upper or lower triangle of C = α·A·Aᵀ + β·C, or of
// C = α·Aᵀ·A + β·C.
func (g *BLAS) Ssyrk(ul blas.Uplo, tA blas.Transpose, n, k int, alpha float32, a []float32, lda int, beta float32, c []float32, ldc int) {
	if cutSyrk(ul, tA, n, k, a, lda, c, ldc) {
		syrk(level3[float32](single{g}), ul, tA, n, k, alpha, a, lda, beta, c, ldc)
		return
	}
	g.others.Ssyrk(ul, tA, n, k, alpha, a, lda, beta, c, ldc)
}
