package gpurun_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/testblas"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// openWithOpenCL returns an engine of choices, which need an OpenCL device.
func openWithOpenCL(t *testing.T, config *gpurun.Config) *gpurun.Engine {
	t.Helper()
	eng, err := gpurun.Open(t.Context(), config)
	if errors.Is(err, gpurun.ErrDevice) {
		testenv.Missing(t, "opencl", err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return eng
}

// TestSpreadBits compares products on an OpenCL device, alone and beside the CPU,
// in several tiles, with their definition.
func TestSpreadBits(t *testing.T) {
	rng := randomSource(t)
	testSpreadBits[float32](t, rng)
	testSpreadBits[float64](t, rng)
}

func testSpreadBits[T float](t *testing.T, rng *rand.Rand) {
	sides := []int{0, 1, 2, 7, 8, 31, 33, 127, 129}
	var problems []*problem[T]
	var wants []dense[T]
	for range 40 {
		s := func() int { return sides[rng.IntN(len(sides))] }
		p := newProblem[T](rng, s(), s(), s())
		problems, wants = append(problems, p), append(wants, p.want())
	}
	for _, s := range [][3]int{{517, 33, 127}, {31, 517, 129}, {8, 129, 517}} {
		p := newProblem[T](rng, s[0], s[1], s[2])
		problems, wants = append(problems, p), append(wants, p.want())
	}
	for name, config := range map[string]*gpurun.Config{
		"opencl":        {Devices: []string{"opencl"}},
		"opencl, tiles": {Devices: []string{"opencl"}, Tiles: 5},
		"all":           {Devices: []string{"all"}},
		"both":          {Devices: []string{"opencl", "cpu"}, Tiles: 9},
		"little memory": {Devices: []string{"opencl"}, Memory: 700_000},
	} {
		t.Run(fmt.Sprintf("%s/%T", name, *new(T)), func(t *testing.T) {
			eng := openWithOpenCL(t, config)
			for i, p := range problems {
				got, err := p.gemm(t.Context(), eng)
				if err != nil {
					t.Fatal(p, err)
				}
				got.same(t, wants[i], fmt.Sprintf("%v", p))
			}
		})
	}
}

// TestSpreadReport looks at what is said of a product that two devices computed.
func TestSpreadReport(t *testing.T) {
	eng := openWithOpenCL(t, &gpurun.Config{Devices: []string{"opencl", "cpu"}, Tiles: 12})
	p := newProblem[float64](randomSource(t), 300, 310, 200)
	p.alpha, p.beta = 1, 0
	if _, err := p.gemm(t.Context(), eng); err != nil {
		t.Fatal(err)
	}
	r := eng.Report()
	tiles, share := 0, 0.0
	for _, d := range r.Devices {
		tiles += d.Tiles
		share += d.Share
	}
	if r.Job != "matmul" || r.Flops != 2*300*310*200 || tiles != 12 || share < 0.999 || share > 1.001 || r.Retries != 0 || r.Lost != 0 {
		t.Errorf("the report is %+v", r)
	}
}

// TestSpreadCancel stops a product on an OpenCL device when a part of it is there.
func TestSpreadCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	eng := openWithOpenCL(t, &gpurun.Config{Devices: []string{"opencl"}, Tiles: 100, Progress: func(float64) { cancel() }})
	const n = 1500
	zero := func() float64 { return 0 }
	p := &problem[float64]{tA: blas.NoTrans, tB: blas.NoTrans, alpha: 1, m: n, n: n, k: n}
	p.a, p.b, p.c = newDense(n, n, 0, zero), newDense(n, n, 0, zero), newDense(n, n, 0, zero)
	err := eng.Gemm64(ctx, p.tA, p.tB, p.alpha, general64(p.a), general64(p.b), p.beta, general64(p.c))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if tiles := eng.Report().Devices[0].Tiles; tiles == 0 || tiles == 100 {
		t.Errorf("it was stopped after %d tiles of 100", tiles)
	}
}

// TestSpreadBLAS has gonum's suite, and a product of everybody's size, go to an
// OpenCL device.
func TestSpreadBLAS(t *testing.T) {
	eng := openWithOpenCL(t, &gpurun.Config{Devices: []string{"opencl"}})
	impl := eng.BLAS()
	testGonumSuite(t, impl)
	testblas.TestDgemm(t, float32BLAS{impl})
	if eng.Report() != nil {
		t.Error("BLAS left a report")
	}
	p := newProblem[float64](randomSource(t), 120, 130, 110)
	p.blas(impl).same(t, p.want(), "BLAS")
	if err := eng.Close(); err != nil {
		t.Fatal(err)
	}
	p.blas(impl).same(t, p.want(), "BLAS of an engine that is closed")
}
