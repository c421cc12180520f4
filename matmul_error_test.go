package gpurun_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"

	"github.com/gpurun/gpurun"
)

// TestGemmError compares products with exact ones, in math/big: the error of an
// element is at most k·u ÷ (1 − k·u) times the sum of |a|·|b|, where u is half the
// distance from 1 to the next number; see docs/arithmetic.md.
func TestGemmError(t *testing.T) {
	rng := randomSource(t)
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	testGemmError[float32](t, rng, eng, 0x1p-24)
	testGemmError[float64](t, rng, eng, 0x1p-53)
}

func testGemmError[T float](t *testing.T, rng *rand.Rand, eng *gpurun.Engine, u float64) {
	for _, k := range []int{1, 2, 30, 500, 3000} {
		p := &problem[T]{tA: blas.NoTrans, tB: blas.Trans, alpha: 1, m: 5, n: 7, k: k}
		// Of very different sizes and both signs, so that sums cancel.
		element := func() T { return T(rng.NormFloat64() * math.Exp2(float64(rng.IntN(20)))) }
		p.a, p.b, p.c = newDense(5, k, 0, element), newDense(7, k, 0, element), newDense(5, 7, 0, element)
		got, err := p.gemm(t.Context(), eng)
		if err != nil {
			t.Fatal(err)
		}
		largest := 0.0
		for i := range p.m {
			for j := range p.n {
				sum, size := exactDot(p.a, p.b, i, j, k)
				off := new(big.Float).Sub(sum, big.NewFloat(float64(*got.at(i, j))))
				x, _ := off.Quo(off, size).Float64()
				largest = max(largest, math.Abs(x))
			}
		}
		n := float64(k) * u
		if bound := n / (1 - n); largest > bound {
			t.Errorf("%T, k = %d: the error is %g of the sum of |a|·|b|, and the bound %g", *new(T), k, largest, bound)
		} else {
			t.Logf("%T, k = %d: the error is %.2g of the bound", *new(T), k, largest/bound)
		}
	}
}

// exactDot returns the product of row i of a and row j of b, and what it is with
// absolute values. 2,000 bits hold every sum of products of such numbers.
func exactDot[T float](a, b dense[T], i, j, k int) (sum, size *big.Float) {
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(2000).SetFloat64(x) }
	sum, size = number(0), number(0)
	for x := range k {
		y := number(float64(*a.at(i, x)))
		y.Mul(y, number(float64(*b.at(j, x))))
		sum.Add(sum, y)
		size.Add(size, y.Abs(y))
	}
	return sum, size
}
