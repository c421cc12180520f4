package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gpurun/gpurun/kernels"
)

// multiplier multiplies matrices that are stored row by row without gaps, with
// α = 1 and β = 0.
type multiplier interface {
	about() string
	product32(s shape, a, b, c []float32) (product, error)
	product64(s shape, a, b, c []float64) (product, error)
}

// product is c = a·b, ready to be computed.
type product struct {
	times func(n int) error // computes it n times; this is what is timed
	fetch func() error      // brings the result to c, if times does not
	close func()
}

// onHost is a product that f computes n times, in c.
func onHost(f func(n int)) (product, error) {
	nothing := func() error { return nil }
	return product{times: func(n int) error { f(n); return nothing() }, fetch: nothing, close: func() {}}, nil
}

// newProduct prepares a product of random matrices, computes it once, and returns
// with it the largest relative error of those elements that it has looked at.
func newProduct(m multiplier, typ string, s shape) (product, float64, error) {
	if typ == kernels.Float32.String() {
		return checked(s, m.product32)
	}
	return checked(s, m.product64)
}

func checked[T float32 | float64](s shape, prepare func(s shape, a, b, c []T) (product, error)) (product, float64, error) {
	a, b, c := random[T](s.m*s.k, 1), random[T](s.k*s.n, 2), make([]T, s.m*s.n)
	for i := range c {
		c[i] = -1 // which no element of the product is
	}
	p, err := prepare(s, a, b, c)
	if err != nil {
		return product{}, 0, err
	}
	if err = p.times(1); err == nil {
		err = p.fetch()
	}
	if err != nil {
		p.close()
		return product{}, 0, err
	}
	return p, worst(s, a, b, c), nil
}

func random[T float32 | float64](n int, seed uint64) []T {
	rng := rand.New(rand.NewPCG(1, seed))
	out := make([]T, n)
	for i := range out {
		out[i] = T(rng.Float64() + 0.5)
	}
	return out
}

// worst returns the largest relative error of some elements of c, the last one
// among them, against a plain product in float64.
func worst[T float32 | float64](s shape, a, b, c []T) float64 {
	rng := rand.New(rand.NewPCG(3, 4))
	largest := 0.0
	i, j := s.m-1, s.n-1
	for range checkedElements {
		want := 0.0
		for p := range s.k {
			want += float64(a[i*s.k+p]) * float64(b[p*s.n+j])
		}
		e := math.Abs(float64(c[i*s.n+j])-want) / want
		if !(e <= largest) { // NaN too
			largest = e
		}
		i, j = rng.IntN(s.m), rng.IntN(s.n)
	}
	return largest
}

const checkedElements = 17

// checkError returns an error if a relative error is larger than rounding can
// make it: all products are positive, and there are k of them.
func checkError(t kernels.DType, s shape, largest float64) error {
	epsilon := 0x1p-52
	if t == kernels.Float32 {
		epsilon = 0x1p-23
	}
	if limit := float64(s.k+1) * epsilon; !(largest <= limit) {
		return fmt.Errorf("WRONG: it is off by %.1e, and may be by %.1e", largest, limit)
	}
	return nil
}
