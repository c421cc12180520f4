package gpurun_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/blas/cblas128"
	"gonum.org/v1/gonum/blas/cblas64"
	"gonum.org/v1/gonum/blas/gonum"
	"gonum.org/v1/gonum/blas/testblas"

	"github.com/gpurun/gpurun"
)

// TestGonumSuite is gonum's own conformance suite, on each variant.
func TestGonumSuite(t *testing.T) {
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) { testGonumSuite(t, eng.BLAS()) })
}

func testGonumSuite(t *testing.T, impl *gpurun.BLAS) {
	for name, test := range map[string]func(t *testing.T){
		"Dgemm":  func(t *testing.T) { testblas.TestDgemm(t, impl) },
		"Dsymm":  func(t *testing.T) { testblas.DsymmTest(t, impl) },
		"Dtrsm":  func(t *testing.T) { testblas.DtrsmTest(t, impl) },
		"Dsyrk":  func(t *testing.T) { testblas.DsyrkTest(t, impl) },
		"Dsyr2k": func(t *testing.T) { testblas.Dsyr2kTest(t, impl) },
		"Dtrmm":  func(t *testing.T) { testblas.DtrmmTest(t, impl) },
		"Dgemv":  func(t *testing.T) { testblas.DgemvTest(t, impl) },
		"Dger":   func(t *testing.T) { testblas.DgerTest(t, impl) },
		"Dtrsv":  func(t *testing.T) { testblas.DtrsvTest(t, impl) },
		"Ddot":   func(t *testing.T) { testblas.DdotTest(t, impl) },
		"Daxpy":  func(t *testing.T) { testblas.DaxpyTest(t, impl) },
		"Dnrm2":  func(t *testing.T) { testblas.Dnrm2Test(t, impl) },
		"Zgemm":  func(t *testing.T) { testblas.ZgemmTest(t, impl) },
		"Zgemv":  func(t *testing.T) { testblas.ZgemvTest(t, impl) },
	} {
		t.Run(name, test)
	}
}

// TestGonumSuite32 is the cases of gonum's suite for Dgemm and Dgemv, whose
// numbers float32 holds, in float32: gonum has no suite for that.
func TestGonumSuite32(t *testing.T) {
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := float32BLAS{eng.BLAS()}
		testblas.TestDgemm(t, impl)
		testblas.DgemvTest(t, impl)
	})
}

// float32BLAS computes in float32 what it is given in float64.
type float32BLAS struct{ impl *gpurun.BLAS }

func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = float32(x[i])
	}
	return y
}

func widen(to []float64, from []float32) {
	for i := range from {
		to[i] = float64(from[i])
	}
}

func (f float32BLAS) Dgemm(tA, tB blas.Transpose, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	c32 := narrow(c)
	f.impl.Sgemm(tA, tB, m, n, k, float32(alpha), narrow(a), lda, narrow(b), ldb, float32(beta), c32, ldc)
	widen(c, c32)
}

func (f float32BLAS) Dgemv(tA blas.Transpose, m, n int, alpha float64, a []float64, lda int, x []float64, incX int, beta float64, y []float64, incY int) {
	y32 := narrow(y)
	f.impl.Sgemv(tA, m, n, float32(alpha), narrow(a), lda, narrow(x), incX, float32(beta), y32, incY)
	// What the suite compares with, to 14 digits, are short decimal fractions.
	for i := range y32 {
		if float64(y32[i]) != y[i] {
			y[i] = math.Round(float64(y32[i])*100) / 100
		}
	}
}

// shorter returns x without its last element.
func shorter(x []float64) []float64 { return x[:max(0, len(x)-1)] }

// gemmCall is the arguments of Dgemm.
type gemmCall struct {
	tA, tB  blas.Transpose
	m, n, k int
	alpha   float64
	a       []float64
	lda     int
	b       []float64
	ldb     int
	beta    float64
	c       []float64
	ldc     int
}

func (x gemmCall) on(impl blas.Float64) (panicked any) {
	defer func() { panicked = recover() }()
	impl.Dgemm(x.tA, x.tB, x.m, x.n, x.k, x.alpha, x.a, x.lda, x.b, x.ldb, x.beta, x.c, x.ldc)
	return nil
}

func (x gemmCall) on32(impl blas.Float32) (panicked any) {
	defer func() { panicked = recover() }()
	impl.Sgemm(x.tA, x.tB, x.m, x.n, x.k, float32(x.alpha), narrow(x.a), x.lda, narrow(x.b), x.ldb, float32(x.beta), narrow(x.c), x.ldc)
	return nil
}

// TestGemmPanics compares the panics with gonum's, for each wrong argument alone
// and for pairs of them.
func TestGemmPanics(t *testing.T) {
	impl := open(t, &gpurun.Config{Devices: []string{"cpu"}}).BLAS()
	changes := []func(x *gemmCall){
		func(*gemmCall) {},
		func(x *gemmCall) { x.tA = 0 }, func(x *gemmCall) { x.tB = 'n' },
		func(x *gemmCall) { x.m = -1 }, func(x *gemmCall) { x.n = -1 }, func(x *gemmCall) { x.k = -1 },
		func(x *gemmCall) { x.m = 0 }, func(x *gemmCall) { x.n = 0 }, func(x *gemmCall) { x.k = 0 },
		func(x *gemmCall) { x.lda = 0 }, func(x *gemmCall) { x.ldb = 1 }, func(x *gemmCall) { x.ldc = 2 }, func(x *gemmCall) { x.ldc = -7 },
		func(x *gemmCall) { x.a = shorter(x.a) }, func(x *gemmCall) { x.b = shorter(x.b) }, func(x *gemmCall) { x.c = shorter(x.c) },
		func(x *gemmCall) { x.a = nil }, func(x *gemmCall) { x.b = nil }, func(x *gemmCall) { x.c = nil },
		func(x *gemmCall) { x.alpha = 0 }, func(x *gemmCall) { x.beta = 1 }, func(x *gemmCall) { x.lda = 1000 },
	}
	panics := 0
	for _, t2 := range [][2]blas.Transpose{{'N', 'N'}, {'T', 'N'}, {'N', 'C'}, {'C', 'T'}} {
		for i, first := range changes {
			for j, second := range changes {
				x := gemmCall{t2[0], t2[1], 3, 4, 5, 2, make([]float64, 15), 5, make([]float64, 20), 4, 3, make([]float64, 12), 4}
				if t2[0] != 'N' {
					x.lda = 3
				}
				if t2[1] != 'N' {
					x.ldb = 5
				}
				first(&x)
				second(&x)
				want, got := x.on(gonum.Implementation{}), x.on(impl)
				want32, got32 := x.on32(gonum.Implementation{}), x.on32(impl)
				if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(got32, want32) {
					t.Errorf("changes %d and %d of %c%c: the panics are %v and %v, gonum's %v and %v", i, j, t2[0], t2[1], got, got32, want, want32)
				}
				if want != nil {
					panics++
				}
			}
		}
	}
	if panics < 1000 {
		t.Errorf("only %d calls panicked", panics)
	}
}

// gemvCall is the arguments of Dgemv.
type gemvCall struct {
	tA    blas.Transpose
	m, n  int
	alpha float64
	a     []float64
	lda   int
	x     []float64
	incX  int
	beta  float64
	y     []float64
	incY  int
}

func (v gemvCall) on(impl blas.Float64) (panicked any) {
	defer func() { panicked = recover() }()
	impl.Dgemv(v.tA, v.m, v.n, v.alpha, v.a, v.lda, v.x, v.incX, v.beta, v.y, v.incY)
	return nil
}

func (v gemvCall) on32(impl blas.Float32, a, x, y []float32) (panicked any) {
	defer func() { panicked = recover() }()
	impl.Sgemv(v.tA, v.m, v.n, float32(v.alpha), a[:len(v.a)], v.lda, x[:len(v.x)], v.incX, float32(v.beta), y[:len(v.y)], v.incY)
	return nil
}

// TestGemvPanics does the same for a matrix and a vector, small and large.
func TestGemvPanics(t *testing.T) {
	impl := open(t, &gpurun.Config{Devices: []string{"cpu"}}).BLAS()
	changes := []func(v *gemvCall){
		func(*gemvCall) {},
		func(v *gemvCall) { v.tA = 'x' }, func(v *gemvCall) { v.m = -1 }, func(v *gemvCall) { v.n = -1 },
		func(v *gemvCall) { v.m = 0 }, func(v *gemvCall) { v.n = 0 }, func(v *gemvCall) { v.lda = v.n - 1 }, func(v *gemvCall) { v.lda++ },
		func(v *gemvCall) { v.incX = 0 }, func(v *gemvCall) { v.incY = 0 }, func(v *gemvCall) { v.incX = 2 }, func(v *gemvCall) { v.incY = -3 },
		func(v *gemvCall) { v.incX = -1 }, func(v *gemvCall) { v.incX = math.MinInt },
		func(v *gemvCall) { v.a = shorter(v.a) }, func(v *gemvCall) { v.x = shorter(v.x) }, func(v *gemvCall) { v.y = shorter(v.y) },
		func(v *gemvCall) { v.y = nil }, func(v *gemvCall) { v.alpha = 0 }, func(v *gemvCall) { v.beta = 1 },
	}
	for _, side := range []int{3, 1024} {
		a, x, y := make([]float64, side*(side+1)), make([]float64, side+1), make([]float64, side)
		a32, x32, y32 := narrow(a), narrow(x), narrow(y)
		for _, tA := range []blas.Transpose{'N', 'T', 'C'} {
			m, n := side, side+1
			if tA != 'N' {
				m, n = n, m
			}
			for i, first := range changes {
				for j, second := range changes {
					v := gemvCall{tA, m, n, 1, a, n, x, 1, 0, y, 1}
					first(&v)
					second(&v)
					if len(v.a) < len(a) && side > 3 {
						continue // the same as small
					}
					want, got := v.on(gonum.Implementation{}), v.on(impl)
					want32, got32 := v.on32(gonum.Implementation{}, a32, x32, y32), v.on32(impl, a32, x32, y32)
					if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(got32) != fmt.Sprint(want32) {
						t.Errorf("changes %d and %d of %c: the panics are %v and %v, gonum's %v and %v", i, j, tA, got, got32, want, want32)
					}
				}
			}
		}
	}
}

// TestGemvBits compares large products of a matrix and a vector with their
// definition: with gaps, forwards.
func TestGemvBits(t *testing.T) {
	rng := randomSource(t)
	const m, n, lda, incX, incY = 1030, 1021, 1023, 2, 3
	normal := func() float64 { return rng.NormFloat64() }
	a := newDense(m, n, lda-n, normal)
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		for _, tA := range []blas.Transpose{blas.NoTrans, blas.Trans} {
			p := &problem[float64]{tA: tA, tB: blas.NoTrans, m: m, n: 1, k: n, alpha: 0.3, beta: -1, a: a}
			if tA == blas.Trans {
				p.m, p.k = n, m
			}
			p.b, p.c = newDense(p.k, 1, incX-1, normal), newDense(p.m, 1, incY-1, normal)
			want, got := p.want(), p.c.clone()
			impl.Dgemv(tA, m, n, p.alpha, a.data(), lda, p.b.data(), incX, p.beta, got.data(), incY)
			got.same(t, want, fmt.Sprintf("Dgemv %c", tA))
		}
	})
}

// TestGemvOneRow has a matrix of one row, and vectors of one element, come with
// strides that no others could have.
func TestGemvOneRow(t *testing.T) {
	const n, huge = 1 << 20, 1<<60 + 8
	a, x := make([]float64, n), make([]float64, n)
	want := 0.0
	for i := range a {
		a[i], x[i] = float64(i%7), float64(i%5)
		want += a[i] * x[i] // exact
	}
	a32, x32 := narrow(a), narrow(x)
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		y, y32 := []float64{1}, []float32{1}
		impl.Dgemv(blas.NoTrans, 1, n, 1, a, huge, x, 1, 1, y, huge)
		if y[0] != want+1 {
			t.Errorf("a row by a column is %v, want %v", y[0], want+1)
		}
		impl.Dgemv(blas.Trans, 1, n, 1, a, huge, []float64{2}, math.MaxInt, 0, x, 1)
		impl.Sgemv(blas.Trans, 1, n, 1, a32, huge, []float32{2}, math.MaxInt, 0, x32, 1)
		for i := range a {
			if x[i] != 2*a[i] || x32[i] != 2*a32[i] {
				t.Fatalf("a column by an element: element %d is %v and %v, want %v", i, x[i], x32[i], 2*a[i])
			}
		}
		for i := range x {
			x[i] = float64(i % 5)
		}
		impl.Sgemv(blas.NoTrans, 1, n, 0.5, a32, huge, x32, 1, 0, y32, huge)
		if !(y32[0] > 0) {
			t.Errorf("in float32 a row by a column is %v", y32[0])
		}
	})
}

// TestBLASAllocations checks that a small product allocates nothing.
func TestBLASAllocations(t *testing.T) {
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		for _, n := range []int{1, 2, 5, 16, 33, 40} {
			a, b, c := make([]float64, n*n), make([]float64, n*n), make([]float64, n*n)
			a32, b32, c32 := narrow(a), narrow(b), narrow(c)
			for _, form := range []struct {
				tA, tB blas.Transpose
				alpha  float64
			}{{'N', 'N', 1}, {'N', 'N', 2}, {'N', 'T', 1}, {'T', 'N', 1}, {'T', 'T', 2}} {
				got := testing.AllocsPerRun(50, func() {
					impl.Dgemm(form.tA, form.tB, n, n, n, form.alpha, a, n, b, n, 1, c, n)
					impl.Sgemm(form.tA, form.tB, n, n, n, float32(form.alpha), a32, n, b32, n, 0, c32, n)
					impl.Dgemv(form.tA, n, n, form.alpha, a, n, b, 1, 0, c, 1)
				})
				if got != 0 && !gpurun.RaceEnabled {
					t.Errorf("%c%c, α = %v: products of %d×%d matrices allocate %v times", form.tA, form.tB, form.alpha, n, n, got)
				}
			}
		}
	})
}

// use makes impl gonum's BLAS until the end of the test.
func use(t *testing.T, impl *gpurun.BLAS) {
	t.Helper()
	before32, before64 := blas32.Implementation(), blas64.Implementation()
	beforeC64, beforeC128 := cblas64.Implementation(), cblas128.Implementation()
	t.Cleanup(func() {
		blas32.Use(before32)
		blas64.Use(before64)
		cblas64.Use(beforeC64)
		cblas128.Use(beforeC128)
	})
	blas32.Use(impl)
	blas64.Use(impl)
	cblas64.Use(impl)
	cblas128.Use(impl)
}

// TestUseConcurrently has gonum multiply from many goroutines.
func TestUseConcurrently(t *testing.T) {
	use(t, open(t, &gpurun.Config{Devices: []string{"cpu"}}).BLAS())
	var wg sync.WaitGroup
	for i := range 6 {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for range 20 {
				p := newProblem[float32](rng, 1+rng.IntN(70), 1+rng.IntN(70), 1+rng.IntN(70))
				got := p.c.clone()
				blas32.Gemm(p.tA, p.tB, p.alpha, general32(p.a), general32(p.b), p.beta, general32(got))
				got.same(t, p.want(), p.String())
			}
		})
	}
	wg.Wait()
}
