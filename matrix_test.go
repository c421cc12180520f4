package gpurun

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun/kernels"
)

// TestCopyMatrix copies between strides, and stops.
func TestCopyMatrix(t *testing.T) {
	from := matrix[float32]{5, 1 << 20, 1<<20 + 3, make([]float32, 5*(1<<20+3))}
	for i := range from.data {
		from.data[i] = float32(i % 1001)
	}
	to := matrix[float32]{5, 1 << 20, 1 << 20, make([]float32, 5<<20)}
	if err := copyMatrix(t.Context(), to, from); err != nil {
		t.Fatal(err)
	}
	for i := range to.rows {
		if !slices.Equal(to.data[i*to.stride:][:to.cols], from.data[i*from.stride:][:from.cols]) {
			t.Errorf("row %d is another", i)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	long := matrix[float32]{1, 5 << 20, 5 << 20, make([]float32, 5<<20)}
	for _, to := range []matrix[float32]{{5, 1 << 20, 1 << 20, make([]float32, 5<<20)}, {1, 5 << 20, 5 << 20, make([]float32, 5<<20)}} {
		from := from
		if to.rows == 1 {
			from = long
			long.data[len(long.data)-1] = 1
		}
		if err := copyMatrix(ctx, to, from); !errors.Is(err, context.Canceled) || to.data[len(to.data)-1] != 0 {
			t.Errorf("%d rows: after the end of ctx the error is %v, and the last element %v", to.rows, err, to.data[len(to.data)-1])
		}
	}
}

// TestTightStrides checks that no kernel or device sees the stride of a matrix of one
// row, or of a vector of one element, which may be any number.
func TestTightStrides(t *testing.T) {
	row := func(cols int) matrix[float64] { return matrix[float64]{1, cols, math.MaxInt, make([]float64, cols)} }
	p, err := product(blas.NoTrans, blas.NoTrans, 1, row(1), row(5), 1, row(5))
	if err != nil || p.LDA != 1 || p.LDB != 5 || p.LDC != 5 {
		t.Errorf("product: strides %d, %d and %d, error %v", p.LDA, p.LDB, p.LDC, err)
	}
	var dense mat.Dense
	dense.SetRawMatrix(blas64.General{Rows: 1, Cols: 5, Stride: math.MaxInt, Data: make([]float64, 5)})
	if x, _, err := operand(t.Context(), "a", &dense); err != nil || x.stride != 5 {
		t.Errorf("operand: stride %d, error %v", x.stride, err)
	}
	if to, _, err := destination(&dense, 1, 5, row(1), row(5)); err != nil || to.stride != 5 {
		t.Errorf("destination: stride %d, error %v", to.stride, err)
	}
	of := func() kernels.MatMul[float64] {
		return kernels.MatMul[float64]{M: 1, N: 5, K: 1, LDA: math.MaxInt, LDB: math.MaxInt, LDC: math.MaxInt,
			A: make([]float64, 1<<20), B: make([]float64, 5), C: make([]float64, 5)}
	}
	if p = of(); !checkGemm(blas.NoTrans, blas.NoTrans, &p) || p.LDA != 1 || p.LDB != 5 || p.LDC != 5 {
		t.Errorf("checkGemm: strides %d, %d and %d", p.LDA, p.LDB, p.LDC)
	}
	p = of()
	if p.N, p.K, p.LDB, p.B = 1, 1<<20, 1, p.A; !checkGemv(blas.NoTrans, &p) || p.LDA != 1<<20 || p.LDC != 1 {
		t.Errorf("checkGemv of a row: strides %d and %d", p.LDA, p.LDC)
	}
	p = of()
	if p.N, p.K, p.LDC, p.C = 1, 1<<20, 1, p.A; !checkGemv(blas.Trans, &p) || p.LDA != 1<<20 || p.LDB != 1 {
		t.Errorf("checkGemv of a column: strides %d and %d", p.LDA, p.LDB)
	}
}
