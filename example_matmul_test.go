package gpurun_test

import (
	"context"
	"fmt"
	"log"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
)

// The product of a matrix and its transpose, which is not copied.
func ExampleEngine_MatMul() {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()

	a := mat.NewDense(2, 3, []float64{
		1, 2, 3,
		4, 5, 6,
	})
	var c mat.Dense
	if err := eng.MatMul(ctx, &c, a, a.T()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(mat.Formatted(&c))
	// Output:
	// ⎡14  32⎤
	// ⎣32  77⎦
}

// C = 10·A·B + C in float32.
func ExampleEngine_Gemm32() {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()

	a := blas32.General{Rows: 1, Cols: 2, Stride: 2, Data: []float32{1, 2}}
	b := blas32.General{Rows: 2, Cols: 2, Stride: 2, Data: []float32{3, 4, 5, 6}}
	c := blas32.General{Rows: 1, Cols: 2, Stride: 2, Data: []float32{7, 8}}
	if err := eng.Gemm32(ctx, blas.NoTrans, blas.NoTrans, 10, a, b, 1, c); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Data)
	// Output: [137 168]
}

// All of gonum multiplies with gpurun.
func ExampleEngine_BLAS() {
	eng, err := gpurun.Open(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()

	before := blas64.Implementation()
	defer blas64.Use(before)
	blas64.Use(eng.BLAS())

	a := mat.NewDense(2, 2, []float64{2, 1, 1, 3})
	var x mat.VecDense
	if err := x.SolveVec(a, mat.NewVecDense(2, []float64{5, 10})); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.3f %.3f\n", x.AtVec(0), x.AtVec(1))
	// Output: 1.000 3.000
}
