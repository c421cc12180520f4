package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

// productShapes are sizes of products, m×n by way of k: some smaller than any
// block, some a little larger, some of several.
var productShapes = []struct{ m, n, k int }{
	{1, 1, 1}, {7, 3, 5}, {5, 9, 0}, {1, 517, 33}, {517, 1, 31}, {33, 17, 65}, {31, 130, 129}, {129, 65, 1}, {257, 131, 70}, {130, 129, 517},
}

// testProducts computes products of every shape, plain and with transposes, of
// numbers that are usual and that are not.
func testProducts[T float32 | float64](t *testing.T, d device.Device) {
	if !exact(d, &kernels.MatMul[T]{}) {
		t.Skipf("%s does not compute in this type exactly", d.ID())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	scales := []T{1, 0, -1, 0.5, 1.1}
	for i, s := range productShapes {
		for trans := range 4 {
			p := newProduct[T](rng, s.m, s.n, s.k, trans&1 != 0, trans&2 != 0, i%2 == 1)
			p.Alpha, p.Beta = scales[(i+trans)%len(scales)], scales[(2*i+trans)%len(scales)]
			if trans == 0 {
				p.Alpha = 1 // with Alpha 0 nothing is multiplied
			}
			name := fmt.Sprintf("%dx%dx%d α=%v β=%v %v %v", s.m, s.n, s.k, p.Alpha, p.Beta, p.TransA, p.TransB)
			t.Run(name, func(t *testing.T) {
				want := referenceProduct(p)
				for _, tile := range []kernels.Tile{p.Bounds(), randomTile(rng, p.Bounds())} {
					compareProduct(t, tile, kernels.Elements[T](compute(t, d, p, tile).Planes[0]), want, p.LDC)
				}
			})
		}
	}
}

// newProduct returns a product of random matrices with gaps between their rows.
// strange ones have numbers that arithmetic trips over.
func newProduct[T float32 | float64](rng *rand.Rand, m, n, k int, transA, transB, strange bool) *kernels.MatMul[T] {
	stranger := []float64{
		0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(),
		5e-324, -1e-310, 1e-45, -1e-40, 3e38, 1e308, // denormals, and what overflows, in one of the types
	}
	matrix := func(rows, cols int, trans bool) ([]T, int) {
		if trans {
			rows, cols = cols, rows
		}
		x := make([]T, max(rows*(cols+3), 1))
		for i := range x {
			x[i] = T(rng.NormFloat64())
			if strange && rng.IntN(50) == 0 {
				x[i] = T(stranger[rng.IntN(len(stranger))])
			}
		}
		return x, cols + 3
	}
	p := &kernels.MatMul[T]{TransA: transA, TransB: transB, M: m, N: n, K: k}
	p.A, p.LDA = matrix(m, k, transA)
	p.B, p.LDB = matrix(k, n, transB)
	p.C, p.LDC = matrix(m, n, false)
	return p
}

// referenceProduct returns C as plain Go computes it, with the stride of p's.
func referenceProduct[T float32 | float64](p *kernels.MatMul[T]) []T {
	var stop atomic.Bool
	c := append([]T(nil), p.C...)
	switch q := any(p).(type) {
	case *kernels.MatMul[float32]:
		cpu.Generic.Gemm32(q.TransA, q.TransB, q.M, q.N, q.K, q.Alpha, q.A, q.LDA, q.B, q.LDB, q.Beta, any(c).([]float32), q.LDC, 1, &stop)
	case *kernels.MatMul[float64]:
		cpu.Generic.Gemm64(q.TransA, q.TransB, q.M, q.N, q.K, q.Alpha, q.A, q.LDA, q.B, q.LDB, q.Beta, any(c).([]float64), q.LDC, 1, &stop)
	}
	return c
}

// compareProduct reports where got, the result of tile, differs from want. Any NaN
// is the same as any other; zeros have signs.
func compareProduct[T float32 | float64](t *testing.T, tile kernels.Tile, got, want []T, stride int) {
	t.Helper()
	differ := 0
	for i, x := range got {
		row, col := tile.Y+i/tile.W, tile.X+i%tile.W
		y := want[row*stride+col]
		if x != x && y != y || x == y && math.Signbit(float64(x)) == math.Signbit(float64(y)) {
			continue
		}
		if differ++; differ <= 3 {
			t.Errorf("tile %v, element (%d, %d): %v, want %v", tile, row, col, x, y)
		}
	}
	if differ > 3 {
		t.Errorf("%d elements of %d differ", differ, tile.Area())
	}
}
