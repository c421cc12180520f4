// Matmul multiplies two matrices, and shows that it is the same product, to the
// last bit, when they are multiplied in parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
)

func main() {
	if err := multiply(1500); err != nil {
		log.Fatal(err)
	}
}

// multiply multiplies n×n matrices.
func multiply(n int) error {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, nil)
	if err != nil {
		return err
	}
	defer eng.Close()

	a, b := random(n, 1), random(n, 2)
	var c mat.Dense
	if err := eng.MatMul(ctx, &c, a, b.T()); err != nil {
		return err
	}
	r := eng.Report()
	fmt.Printf("%d×%d on %s: %.3f s, %.1f GFLOP/s\n", n, n, r.Devices[0].Name, r.Seconds, float64(r.Flops)/r.Seconds/1e9)

	// The upper and the lower half, each into its place.
	parts := mat.NewDense(n, n, nil)
	for _, rows := range [][2]int{{0, n / 2}, {n / 2, n}} {
		of := func(m *mat.Dense) *mat.Dense { return m.Slice(rows[0], rows[1], 0, n).(*mat.Dense) }
		if err := eng.MatMul(ctx, of(parts), of(a), b.T()); err != nil {
			return err
		}
	}
	if !mat.Equal(&c, parts) {
		return errors.New("in parts the product is another: please report this, with the output of \"gpurun devices\"")
	}
	fmt.Println("in parts the same, to the last bit")
	return nil
}

func random(n int, seed uint64) *mat.Dense {
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]float64, n*n)
	for i := range data {
		data[i] = rng.NormFloat64()
	}
	return mat.NewDense(n, n, data)
}
