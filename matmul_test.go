package gpurun_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// cpuVariants are the values of GPURUN_CPU.
var cpuVariants = []string{"generic", "avx2", "avx512"}

// openVariant returns an engine with these CPU kernels.
func openVariant(t *testing.T, variant string) *gpurun.Engine {
	t.Helper()
	t.Setenv("GPURUN_CPU", variant)
	eng, err := gpurun.Open(t.Context(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		testenv.Missing(t, variant, err.Error())
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return eng
}

func everyVariant(t *testing.T, f func(t *testing.T, eng *gpurun.Engine)) {
	for _, v := range cpuVariants {
		t.Run(v, func(t *testing.T) { f(t, openVariant(t, v)) })
	}
}

// withProcs runs f with each of several values of GOMAXPROCS.
func withProcs(f func(procs int)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, n := range []int{1, 2, 5} {
		runtime.GOMAXPROCS(n)
		f(n)
	}
}

func randomSource(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestGemmBits compares products, through the engine and through BLAS, with their
// definition.
func TestGemmBits(t *testing.T) {
	rng := randomSource(t)
	testGemmBits[float32](t, rng)
	testGemmBits[float64](t, rng)
}

func testGemmBits[T float](t *testing.T, rng *rand.Rand) {
	var problems []*problem[T]
	var wants []dense[T]
	sides := []int{0, 1, 2, 3, 7, 8, 9, 15, 17, 33, 64}
	for range 150 {
		s := func() int { return sides[rng.IntN(len(sides))] }
		problems = append(problems, newProblem[T](rng, s(), s(), s()))
	}
	for _, s := range [][3]int{{131, 119, 103}, {300, 1, 450}, {1, 300, 450}, {20, 30, 2000}, {260, 270, 2}} {
		problems = append(problems, newProblem[T](rng, s[0], s[1], s[2]))
	}
	for _, p := range problems {
		wants = append(wants, p.want())
	}
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		withProcs(func(procs int) {
			for i, p := range problems {
				got, err := p.gemm(t.Context(), eng)
				if err != nil {
					t.Fatal(p, err)
				}
				got.same(t, wants[i], fmt.Sprintf("Gemm, %d threads, %v", procs, p))
				p.blas(impl).same(t, wants[i], fmt.Sprintf("BLAS, %d threads, %v", procs, p))
			}
		})
	})
}

// TestGemmErrors has every mistake that a caller can make.
func TestGemmErrors(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	type call struct {
		tA, tB  blas.Transpose
		a, b, c blas64.General
	}
	for name, change := range map[string]func(x *call){
		"inner":           func(x *call) { x.b.Rows = 3 },
		"rows of c":       func(x *call) { x.c.Rows = 1 },
		"columns of c":    func(x *call) { x.c.Cols = 4 },
		"transposed":      func(x *call) { x.tA = blas.Trans },
		"both transposed": func(x *call) { x.tA, x.tB = blas.Trans, blas.ConjTrans },
		"no transpose":    func(x *call) { x.tB = 'x' },
		"no transpose a":  func(x *call) { x.tA = 0 },
		"negative rows":   func(x *call) { x.a.Rows = -2 },
		"negative cols":   func(x *call) { x.b.Cols = -5 },
		"stride":          func(x *call) { x.a.Stride = 3 },
		"no stride":       func(x *call) { x.b.Stride = 0 },
		"negative stride": func(x *call) { x.c.Stride = -5 },
		"short a":         func(x *call) { x.a.Data = x.a.Data[:7] },
		"short b":         func(x *call) { x.b.Data = x.b.Data[:len(x.b.Data)-1] },
		"short c":         func(x *call) { x.c.Data = x.c.Data[:len(x.c.Data)-1] },
		"no data":         func(x *call) { x.c.Data = nil },
		"huge stride":     func(x *call) { x.a.Stride = math.MaxInt },
		"overflow": func(x *call) {
			x.a.Rows, x.c.Rows, x.a.Stride, x.c.Stride = math.MaxInt/4+2, math.MaxInt/4+2, 4, 8
		},
		"huge": func(x *call) { x.a.Cols, x.b.Rows, x.a.Stride = math.MaxInt, math.MaxInt, math.MaxInt },
	} {
		zeros := func(rows, cols int) blas64.General {
			return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
		}
		x := call{blas.NoTrans, blas.NoTrans, zeros(2, 4), zeros(4, 5), zeros(2, 5)}
		change(&x)
		err := eng.Gemm64(t.Context(), x.tA, x.tB, 1, x.a, x.b, 0, x.c)
		if !errors.Is(err, gpurun.ErrShape) {
			t.Errorf("%s: the error is %v", name, err)
		}
		narrow := func(g blas64.General) blas32.General {
			return blas32.General{Rows: g.Rows, Cols: g.Cols, Stride: g.Stride, Data: make([]float32, len(g.Data))}
		}
		if err32 := eng.Gemm32(t.Context(), x.tA, x.tB, 1, narrow(x.a), narrow(x.b), 0, narrow(x.c)); fmt.Sprint(err32) != fmt.Sprint(err) {
			t.Errorf("%s: in float32 the error is %v, in float64 %v", name, err32, err)
		}
	}
	if r := eng.Report(); r != nil {
		t.Errorf("a product that was refused left the report %+v", r)
	}
	// Matrices without elements need nothing.
	if err := eng.Gemm64(t.Context(), blas.NoTrans, blas.NoTrans, 1, blas64.General{}, blas64.General{}, 0, blas64.General{}); err != nil {
		t.Error(err)
	}
	c := blas64.General{Rows: 2, Cols: 2, Stride: 2, Data: []float64{1, 2, 3, 4}}
	if err := eng.Gemm64(t.Context(), blas.NoTrans, blas.NoTrans, 1, blas64.General{Rows: 2}, blas64.General{Cols: 2}, 2, c); err != nil || c.Data[3] != 8 {
		t.Errorf("k = 0 gives %v, error %v", c.Data, err)
	}
}

// TestGemmOverlap compares what is found to overlap with what does, element by
// element, for all ways in which small matrices can lie in one slice.
func TestGemmOverlap(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	const side = 2
	memory := make([]float64, 40)
	other := blas64.General{Rows: side, Cols: side, Stride: side, Data: make([]float64, side*side)}
	at := func(start, stride int) blas64.General {
		return blas64.General{Rows: side, Cols: side, Stride: stride, Data: memory[start:]}
	}
	elements := func(start, stride int) map[int]bool {
		m := map[int]bool{}
		for i := range side {
			for j := range side {
				m[start+i*stride+j] = true
			}
		}
		return m
	}
	for strideA := side; strideA < 8; strideA++ {
		for strideC := side; strideC < 8; strideC++ {
			for start := range 20 {
				shared := false
				of := elements(start, strideA)
				for x := range elements(10, strideC) {
					shared = shared || of[x]
				}
				for _, err := range []error{
					eng.Gemm64(t.Context(), blas.NoTrans, blas.NoTrans, 1, at(start, strideA), other, 0, at(10, strideC)),
					eng.Gemm64(t.Context(), blas.NoTrans, blas.NoTrans, 1, other, at(start, strideA), 0, at(10, strideC)),
				} {
					if errors.Is(err, gpurun.ErrOverlap) != shared || !shared && err != nil {
						t.Fatalf("strides %d and %d, %d apart: shared is %v, the error %v", strideA, strideC, start-10, shared, err)
					}
				}
			}
		}
	}
}

// TestGemmOneRow has matrices of one row come with strides that no other could have.
func TestGemmOneRow(t *testing.T) {
	rng := randomSource(t)
	testGemmOneRow[float32](t, rng)
	testGemmOneRow[float64](t, rng)
}

func testGemmOneRow[T float](t *testing.T, rng *rand.Rand) {
	var problems []*problem[T]
	var wants []dense[T]
	for _, s := range [][3]int{{1, 1, 1}, {70, 200, 1}, {1, 200, 70}, {200, 1, 70}, {1, 70, 1}, {20, 1, 1}, {1, 1, 300}} {
		for range 20 {
			p := newProblem[T](rng, s[0], s[1], s[2])
			wants = append(wants, p.want())
			for _, m := range []*dense[T]{&p.a, &p.b, &p.c} {
				if m.rows == 1 {
					m.stride = []int{1 << 60, 1<<60 + 8, 1 << 61, 1 << 62, math.MaxInt}[rng.IntN(5)]
				}
			}
			problems = append(problems, p)
		}
	}
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		for i, p := range problems {
			got, err := p.gemm(t.Context(), eng)
			if err != nil {
				t.Fatal(p, err)
			}
			got.same(t, wants[i], fmt.Sprintf("Gemm, %v", p))
			p.blas(impl).same(t, wants[i], fmt.Sprintf("BLAS, %v", p))
		}
	})
}

// TestGemmOneRowOverlap finds what such matrices share.
func TestGemmOneRowOverlap(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	memory, other := make([]float64, 40), blas64.General{Rows: 5, Cols: 5, Stride: 5, Data: make([]float64, 25)}
	strides := []int{5, 1 << 60, 1 << 61, 1<<61 + 1, math.MaxInt}
	for _, stride := range strides {
		for start := range 20 {
			c := blas64.General{Rows: 1, Cols: 5, Stride: stride, Data: memory[10:]}
			shared := start > 5 && start < 15
			for _, strideA := range strides {
				a := blas64.General{Rows: 1, Cols: 5, Stride: strideA, Data: memory[start:]}
				if err := eng.Gemm64(t.Context(), blas.NoTrans, blas.NoTrans, 1, a, other, 0, c); errors.Is(err, gpurun.ErrOverlap) != shared || !shared && err != nil {
					t.Errorf("strides %d and %d, %d apart: the error is %v", strideA, stride, start-10, err)
				}
			}
			rows := blas64.General{Rows: 5, Cols: 1, Stride: 1, Data: memory[start:]}
			if err := eng.Gemm64(t.Context(), blas.Trans, blas.NoTrans, 1, rows, other, 0, c); errors.Is(err, gpurun.ErrOverlap) != shared || !shared && err != nil {
				t.Errorf("a column and a stride of %d, %d apart: the error is %v", stride, start-10, err)
			}
		}
	}
}

// TestGemmCancel stops products before they begin and while they run.
func TestGemmCancel(t *testing.T) {
	eng := openVariant(t, "generic")
	const n = 1500 // seconds
	p := &problem[float64]{tA: blas.NoTrans, tB: blas.Trans, alpha: 1, m: n, n: n, k: n}
	zero := func() float64 { return 0 }
	p.a, p.b, p.c = newDense(n, n, 0, zero), newDense(n, n, 0, zero), newDense(n, n, 0, zero)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := eng.Gemm64(ctx, p.tA, p.tB, p.alpha, general64(p.a), general64(p.b), p.beta, general64(p.c))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if r := eng.Report(); r == nil || r.Job != "matmul" || r.Flops != 0 || r.Devices[0].Tiles != 0 {
		t.Errorf("the report of a product that was stopped is %+v", r)
	}
	var dst mat.Dense
	if err := eng.MatMul(ctx, &dst, mat.NewDense(2, 2, nil), mat.NewDense(2, 2, nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("under a context that is done the error is %v", err)
	}
}

// TestGemmConcurrent has many goroutines multiply, of which some close the engine.
func TestGemmConcurrent(t *testing.T) {
	rng := randomSource(t)
	small, large := newProblem[float64](rng, 17, 19, 23), newProblem[float32](rng, 150, 140, 130)
	wantSmall, wantLarge := small.want(), large.want()
	eng, err := gpurun.Open(t.Context(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	impl := eng.BLAS()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 30 {
				if i%2 == 0 {
					small.blas(impl).same(t, wantSmall, "small")
					continue
				}
				got, err := large.gemm(t.Context(), eng)
				if err != nil {
					t.Error(err)
					return
				}
				got.same(t, wantLarge, "large")
			}
		})
	}
	// A job does not get into the way.
	if _, err := eng.Mandelbrot(t.Context(), smallView()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for range 4 {
		wg.Go(func() {
			for {
				if _, err := large.gemm(t.Context(), eng); err != nil {
					if !errors.Is(err, gpurun.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	if err := eng.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	small.blas(impl).same(t, wantSmall, "after Close")
}

// TestGemmReport checks what is reported, and that an engine without a CPU
// multiplies too.
func TestGemmReport(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"none"}})
	var dst mat.Dense
	if err := eng.MatMul(t.Context(), &dst, mat.NewDense(20, 30, nil), mat.NewDense(30, 40, nil)); err != nil {
		t.Fatal(err)
	}
	r := eng.Report()
	if r.Job != "matmul" || r.Flops != 2*20*30*40 || r.Seconds <= 0 || r.MakespanOverIdeal != 1 || len(r.Devices) != 1 {
		t.Fatalf("the report is %+v", r)
	}
	if d := r.Devices[0]; d.ID != "cpu" || d.Kind != "cpu" || d.Share != 1 || d.Tiles != 1 || d.Rate <= 0 {
		t.Errorf("the device is %+v", d)
	}
}
