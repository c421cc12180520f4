package gpurun_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/gpurun/gpurun"
)

// This file checks products against their definition in docs/arithmetic.md,
// written down once more with math.FMA and math/big.

type float interface{ float32 | float64 }

// fma returns x·y+z rounded once to T.
func fma[T float](x, y, z T) T {
	if _, wide := any(x).(float64); wide {
		return T(math.FMA(float64(x), float64(y), float64(z)))
	}
	// The first rounding, to float64, only spoils the second, to float32, where it
	// ends in the middle between two float32, or among denormals.
	sum := math.FMA(float64(x), float64(y), float64(z))
	const middle, below = 1 << 28, 1<<29 - 1
	if math.Float64bits(sum)&below != middle && (sum == 0 || math.Abs(sum) > 0x1p-125) || special(sum) {
		return T(sum)
	}
	return T(arithmetics[gpurun.Float32].fma(float64(x), float64(y), float64(z)))
}

// dense is a matrix in the middle of a larger slice. What is not an element is a
// NaN that no operation makes.
type dense[T float] struct {
	rows, cols, stride int
	all                []T
}

const margin = 13

func sentinel[T float]() T {
	var x T
	switch p := any(&x).(type) {
	case *float32:
		*p = math.Float32frombits(0x7fdeadbe)
	case *float64:
		*p = math.Float64frombits(0x7ffdeadbeefdead0)
	}
	return x
}

func bitsOf[T float](x T) uint64 {
	switch x := any(x).(type) {
	case float32:
		return uint64(math.Float32bits(x))
	case float64:
		return math.Float64bits(x)
	}
	panic("unreachable")
}

func newDense[T float](rows, cols, gap int, element func() T) dense[T] {
	d := dense[T]{rows, cols, max(1, cols+gap), nil}
	n := 0
	if rows > 0 && cols > 0 {
		n = (rows-1)*d.stride + cols
	}
	d.all = make([]T, n+2*margin)
	for i := range d.all {
		d.all[i] = sentinel[T]()
	}
	for i := range rows {
		for j := range cols {
			*d.at(i, j) = element()
		}
	}
	return d
}

func (d dense[T]) at(i, j int) *T { return &d.all[margin+i*d.stride+j] }

func (d dense[T]) op(trans bool, i, j int) T {
	if trans {
		i, j = j, i
	}
	return *d.at(i, j)
}

// data returns the elements up to the last, and no more.
func (d dense[T]) data() []T { return d.all[margin : len(d.all)-margin : len(d.all)-margin] }

func (d dense[T]) clone() dense[T] {
	d.all = append([]T(nil), d.all...)
	return d
}

// same fails the test if d and want differ in a bit, in the gaps and around them
// too; any NaN of the definition equals any other.
func (d dense[T]) same(t *testing.T, want dense[T], what string) {
	t.Helper()
	untouched := bitsOf(sentinel[T]())
	for x := range want.all {
		g, w := d.all[x], want.all[x]
		if bitsOf(g) != bitsOf(w) && (g == g || w == w || bitsOf(w) == untouched) {
			t.Fatalf("%s: element %d,%d is %v (%#x), want %v (%#x)", what,
				(x-margin)/want.stride, (x-margin)%want.stride, g, bitsOf(g), w, bitsOf(w))
		}
	}
}

// problem is one product.
type problem[T float] struct {
	tA, tB      blas.Transpose
	alpha, beta T
	m, n, k     int
	a, b, c     dense[T]
}

func newProblem[T float](rng *rand.Rand, m, n, k int) *problem[T] {
	transposes := []blas.Transpose{blas.NoTrans, blas.Trans, blas.ConjTrans}
	scalars := []T{0, 1, 1, -1, 0.5, T(1) / 3}
	p := &problem[T]{
		tA: transposes[rng.IntN(3)], tB: transposes[rng.IntN(3)], m: m, n: n, k: k,
		alpha: scalars[rng.IntN(6)], beta: scalars[rng.IntN(6)],
	}
	element := func() T { return T(rng.NormFloat64()) }
	if rng.IntN(2) == 0 {
		element = func() T { return oddElement[T](rng) }
	}
	stored := func(t blas.Transpose, rows, cols int) dense[T] {
		if t != blas.NoTrans {
			rows, cols = cols, rows
		}
		return newDense(rows, cols, rng.IntN(2)*rng.IntN(6), element)
	}
	p.a, p.b = stored(p.tA, m, k), stored(p.tB, k, n)
	if p.beta == 0 {
		element = sentinel[T]
	}
	p.c = newDense(m, n, rng.IntN(2)*rng.IntN(6), element)
	return p
}

func oddElement[T float](rng *rand.Rand) T {
	tiny, huge := T(math.SmallestNonzeroFloat32), T(math.MaxFloat32)
	if _, wide := any(tiny).(float64); wide {
		x, y := math.SmallestNonzeroFloat64, math.MaxFloat64
		tiny, huge = T(x), T(y)
	}
	values := []T{0, T(math.Copysign(0, -1)), tiny, -3 * tiny, 1e-20, huge, -huge, T(math.Inf(1)), T(math.Inf(-1)), T(math.NaN())}
	if i := rng.IntN(60); i < len(values) {
		return values[i]
	}
	return T(rng.NormFloat64())
}

func (p *problem[T]) String() string {
	return fmt.Sprintf("%T: %d×%d×%d, %c%c, alpha %v, beta %v, strides %d %d %d", p.alpha, p.m, p.n, p.k, p.tA, p.tB,
		p.alpha, p.beta, p.a.stride, p.b.stride, p.c.stride)
}

// want computes the product by its definition.
func (p *problem[T]) want() dense[T] {
	c := p.c.clone()
	for i := range p.m {
		for j := range p.n {
			acc := *c.at(i, j)
			switch p.beta {
			case 0:
				acc = 0
			case 1:
			default:
				acc = T(p.beta * acc)
			}
			for q := 0; q < p.k && p.alpha != 0; q++ {
				x := p.a.op(p.tA != blas.NoTrans, i, q)
				if p.alpha != 1 {
					x = T(p.alpha * x)
				}
				acc = fma(x, p.b.op(p.tB != blas.NoTrans, q, j), acc)
			}
			*c.at(i, j) = acc
		}
	}
	return c
}

func general64(d dense[float64]) blas64.General {
	return blas64.General{Rows: d.rows, Cols: d.cols, Stride: d.stride, Data: d.data()}
}

func general32(d dense[float32]) blas32.General {
	return blas32.General{Rows: d.rows, Cols: d.cols, Stride: d.stride, Data: d.data()}
}

// gemm has eng compute p.
func (p *problem[T]) gemm(ctx context.Context, eng *gpurun.Engine) (dense[T], error) {
	out := p.c.clone()
	switch p := any(p).(type) {
	case *problem[float32]:
		return out, eng.Gemm32(ctx, p.tA, p.tB, p.alpha, general32(p.a), general32(p.b), p.beta, general32(any(out).(dense[float32])))
	case *problem[float64]:
		return out, eng.Gemm64(ctx, p.tA, p.tB, p.alpha, general64(p.a), general64(p.b), p.beta, general64(any(out).(dense[float64])))
	}
	panic("unreachable")
}

// blas has impl compute p.
func (p *problem[T]) blas(impl *gpurun.BLAS) dense[T] {
	out := p.c.clone()
	if p.k == 0 {
		// gonum wants to see rows without elements.
		q := *p
		q.a.all = make([]T, 2*margin+(p.m+1)*p.a.stride)
		q.b.all = make([]T, 2*margin+(p.n+1)*p.b.stride)
		p = &q
	}
	switch p := any(p).(type) {
	case *problem[float32]:
		impl.Sgemm(p.tA, p.tB, p.m, p.n, p.k, p.alpha, p.a.data(), p.a.stride, p.b.data(), p.b.stride, p.beta, any(out).(dense[float32]).data(), out.stride)
	case *problem[float64]:
		impl.Dgemm(p.tA, p.tB, p.m, p.n, p.k, p.alpha, p.a.data(), p.a.stride, p.b.data(), p.b.stride, p.beta, any(out).(dense[float64]).data(), out.stride)
	}
	return out
}
