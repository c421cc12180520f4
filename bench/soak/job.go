//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/gpurun/gpurun"
)

// checksum is that of all bits of a result.
type checksum [sha256.Size]byte

// job is an image or a product.
type job struct {
	name    string
	compute func(context.Context, *gpurun.Engine) (checksum, error)
	want    checksum
}

// centers are points beside which images have cheap and dear parts.
var centers = []complex128{-0.5, complex(-0.7463, 0.1102), complex(0.2825, 0.0098), complex(-1.7497, 0)}

func drawImage(random *rand.Rand) *job {
	v := gpurun.View{
		Center: centers[random.IntN(len(centers))], Span: 3 / float64(int(1)<<random.IntN(10)),
		Width: 64 + random.IntN(960), Height: 64 + random.IntN(960), MaxIter: 200 + random.IntN(4000),
		Precision: gpurun.Float32,
	}
	if random.IntN(2) == 1 {
		v.Precision = gpurun.Float64
	}
	return &job{
		name: fmt.Sprintf("the image %+v", v),
		compute: func(ctx context.Context, eng *gpurun.Engine) (checksum, error) {
			field, err := eng.Mandelbrot(ctx, v)
			if err != nil {
				return checksum{}, err
			}
			return sum(field.Counts, field.Magnitudes)
		},
	}
}

// mostSide bounds the sides of matrices.
const mostSide = 640

// elements are what operands are parts of.
type elements struct {
	f32 []float32
	f64 []float64
}

func drawElements(random *rand.Rand) (e elements) {
	for range mostSide * mostSide {
		x := random.NormFloat64()
		e.f32, e.f64 = append(e.f32, float32(x)), append(e.f64, x)
	}
	return e
}

func drawProduct(random *rand.Rand, e elements) *job {
	side := func() int { return 32 + random.IntN(mostSide-31) }
	m, n, k := side(), side(), side()
	if random.IntN(2) == 0 {
		return &job{
			name: fmt.Sprintf("the product %d×%d×%d in float32", m, n, k),
			compute: func(ctx context.Context, eng *gpurun.Engine) (checksum, error) {
				a, b := blas32.General{Rows: m, Cols: k, Stride: mostSide, Data: e.f32}, blas32.General{Rows: k, Cols: n, Stride: mostSide, Data: e.f32}
				c := blas32.General{Rows: m, Cols: n, Stride: n, Data: make([]float32, m*n)}
				if err := eng.Gemm32(ctx, blas.NoTrans, blas.NoTrans, 1, a, b, 0, c); err != nil {
					return checksum{}, err
				}
				return sum(c.Data)
			},
		}
	}
	return &job{
		name: fmt.Sprintf("the product %d×%d×%d in float64", m, n, k),
		compute: func(ctx context.Context, eng *gpurun.Engine) (checksum, error) {
			a, b := blas64.General{Rows: m, Cols: k, Stride: mostSide, Data: e.f64}, blas64.General{Rows: k, Cols: n, Stride: mostSide, Data: e.f64}
			c := blas64.General{Rows: m, Cols: n, Stride: n, Data: make([]float64, m*n)}
			if err := eng.Gemm64(ctx, blas.NoTrans, blas.NoTrans, 1, a, b, 0, c); err != nil {
				return checksum{}, err
			}
			return sum(c.Data)
		},
	}
}

// sum returns the checksum of slices of numbers.
func sum(parts ...any) (s checksum, err error) {
	h := sha256.New()
	for _, part := range parts {
		if err := binary.Write(h, binary.LittleEndian, part); err != nil {
			return s, err
		}
	}
	return checksum(h.Sum(nil)), nil
}
