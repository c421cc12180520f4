// Gonum times what gonum does with its own BLAS and with gpurun's: one line of
// code makes the difference, and not everywhere the same.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/blas/gonum"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
)

func main() {
	eng, err := gpurun.Open(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	compare(eng, 500)
}

// operation is something that a user of gonum does with an n×n matrix.
type operation struct {
	name string
	do   func(a, b *mat.Dense) error
}

var operations = []operation{
	{"Mul", func(a, b *mat.Dense) error {
		new(mat.Dense).Mul(a, b)
		return nil
	}},
	{"Mul by a vector", func(a, b *mat.Dense) error {
		new(mat.VecDense).MulVec(a, b.ColView(0))
		return nil
	}},
	{"LU", func(a, b *mat.Dense) error {
		new(mat.LU).Factorize(a)
		return nil
	}},
	{"Solve", func(a, b *mat.Dense) error { return new(mat.Dense).Solve(a, b) }},
	{"Inverse", func(a, b *mat.Dense) error { return new(mat.Dense).Inverse(a) }},
	{"QR", func(a, b *mat.Dense) error {
		new(mat.QR).Factorize(a)
		return nil
	}},
	{"least squares", func(a, b *mat.Dense) error {
		n, _ := a.Dims()
		return new(mat.Dense).Solve(a.Slice(0, n, 0, n/2), b)
	}},
	{"SVD", func(a, b *mat.Dense) error {
		if !new(mat.SVD).Factorize(a, mat.SVDThin) {
			return fmt.Errorf("the singular values were not found")
		}
		return nil
	}},
}

// compare prints how long each operation takes.
func compare(eng *gpurun.Engine, n int) {
	a, b := random(n, 1), random(n, 2)
	fmt.Printf("%d×%d              gonum      gpurun\n", n, n)
	for _, op := range operations {
		blas64.Use(gonum.Implementation{})
		before := measure(op, a, b)
		blas64.Use(eng.BLAS()) // the line
		after := measure(op, a, b)
		fmt.Printf("%-16s %8.1f ms %8.1f ms %6.1f ×\n", op.name, 1e3*before.Seconds(), 1e3*after.Seconds(), before.Seconds()/after.Seconds())
	}
	blas64.Use(gonum.Implementation{})
}

// measure returns the shortest of three times.
func measure(op operation, a, b *mat.Dense) time.Duration {
	var best time.Duration
	for range 3 {
		start := time.Now()
		if err := op.do(a, b); err != nil {
			log.Printf("%s: %v", op.name, err)
		}
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	return best
}

func random(n int, seed uint64) *mat.Dense {
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]float64, n*n)
	for i := range data {
		data[i] = rng.NormFloat64()
	}
	return mat.NewDense(n, n, data)
}
