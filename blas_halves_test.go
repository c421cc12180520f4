package gpurun_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/gpurun/gpurun"
)

// halfway is what the routines that work by halves share in their tests: all
// combinations of their arguments, at sizes that are cut.
type halfway struct {
	s    blas.Side
	ul   blas.Uplo
	tA   blas.Transpose
	d    blas.Diag
	m, n int
}

func halfways() []halfway {
	var all []halfway
	for _, s := range []blas.Side{blas.Left, blas.Right} {
		for _, ul := range []blas.Uplo{blas.Upper, blas.Lower} {
			for _, tA := range []blas.Transpose{blas.NoTrans, blas.Trans, blas.ConjTrans} {
				for _, d := range []blas.Diag{blas.Unit, blas.NonUnit} {
					for _, size := range [][2]int{{65, 8}, {8, 65}, {150, 130}, {200, 20}, {64, 64}, {20, 200}, {100, 3}} {
						all = append(all, halfway{s, ul, tA, d, size[0], size[1]})
					}
				}
			}
		}
	}
	return all
}

// order returns the order of the triangular matrix.
func (x halfway) order() int {
	if x.s == blas.Left {
		return x.m
	}
	return x.n
}

// triangular returns a matrix whose inverse is not large, with NaN where it is not
// to be read.
func (x halfway) triangular(rng *rand.Rand) dense[float64] {
	n := x.order()
	a := newDense(n, n, 3, sentinel[float64])
	for i := range n {
		for j := range n {
			switch {
			case i == j && x.d == blas.NonUnit:
				*a.at(i, j) = 1 + rng.Float64()
			case i < j && x.ul == blas.Upper, i > j && x.ul == blas.Lower:
				*a.at(i, j) = rng.NormFloat64() / float64(n)
			}
		}
	}
	return a
}

// near fails the test if got and want differ by more than some roundings, or in
// the bits of what was not to be touched.
func near[T float](t *testing.T, got, want dense[T], tolerance float64, what string) {
	t.Helper()
	untouched := bitsOf(sentinel[T]())
	for i := range want.all {
		g, w := got.all[i], want.all[i]
		if bitsOf(w) == untouched && bitsOf(g) != untouched || bitsOf(w) != untouched && !(math.Abs(float64(g-w)) <= tolerance*(1+math.Abs(float64(w)))) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, g, w)
		}
	}
}

func narrowDense(d dense[float64]) dense[float32] {
	n := newDense(d.rows, d.cols, d.stride-d.cols, sentinel[float32])
	for i := range d.rows {
		for j := range d.cols {
			if x := *d.at(i, j); bitsOf(x) != bitsOf(sentinel[float64]()) {
				*n.at(i, j) = float32(x)
			}
		}
	}
	return n
}

// halfwayCase is operands, and what gonum makes of them.
type halfwayCase struct {
	halfway
	a, b, operand, c           dense[float64]
	a32, b32, operand32, c32   dense[float32]
	wantTrsm, wantTrmm, wantRk dense[float64]
}

func (x halfway) withOperands(rng *rand.Rand) *halfwayCase {
	normal := func() float64 { return rng.NormFloat64() }
	// C is n×n, and the operand n×m or m×n.
	rows, cols := x.n, x.m
	if x.tA != blas.NoTrans {
		rows, cols = cols, rows
	}
	y := &halfwayCase{
		halfway: x, a: x.triangular(rng), b: newDense(x.m, x.n, 2, normal), operand: newDense(rows, cols, 1, normal),
		c: halfway{s: blas.Right, ul: x.ul, d: blas.NonUnit, n: x.n}.triangular(rng),
	}
	y.a32, y.b32, y.operand32, y.c32 = narrowDense(y.a), narrowDense(y.b), narrowDense(y.operand), narrowDense(y.c)
	return y
}

// on64 and on32 return what impl makes of the operands.
func (y *halfwayCase) on64(impl blas.Float64) (trsm, trmm, syrk dense[float64]) {
	trsm, trmm, syrk = y.b.clone(), y.b.clone(), y.c.clone()
	impl.Dtrsm(y.s, y.ul, y.tA, y.d, y.m, y.n, 0.5, y.a.data(), y.a.stride, trsm.data(), trsm.stride)
	impl.Dtrmm(y.s, y.ul, y.tA, y.d, y.m, y.n, -2, y.a.data(), y.a.stride, trmm.data(), trmm.stride)
	impl.Dsyrk(y.ul, y.tA, y.n, y.m, 0.5, y.operand.data(), y.operand.stride, 3, syrk.data(), syrk.stride)
	return trsm, trmm, syrk
}

func (y *halfwayCase) on32(impl blas.Float32) (trsm, trmm, syrk dense[float32]) {
	trsm, trmm, syrk = y.b32.clone(), y.b32.clone(), y.c32.clone()
	impl.Strsm(y.s, y.ul, y.tA, y.d, y.m, y.n, 0.5, y.a32.data(), y.a.stride, trsm.data(), trsm.stride)
	impl.Strmm(y.s, y.ul, y.tA, y.d, y.m, y.n, -2, y.a32.data(), y.a.stride, trmm.data(), trmm.stride)
	impl.Ssyrk(y.ul, y.tA, y.n, y.m, 0.5, y.operand32.data(), y.operand.stride, 3, syrk.data(), syrk.stride)
	return trsm, trmm, syrk
}

// TestHalves compares the routines that work by halves with gonum's, and float32
// with float64.
func TestHalves(t *testing.T) {
	const tolerance, tolerance32 = 1e-12, 1e-4
	rng := randomSource(t)
	var cases []*halfwayCase
	for _, x := range halfways() {
		y := x.withOperands(rng)
		y.wantTrsm, y.wantTrmm, y.wantRk = y.on64(gonum.Implementation{})
		cases = append(cases, y)
	}
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		for _, y := range cases {
			what := fmt.Sprintf("%c%c%c%c %d×%d", y.s, y.ul, y.tA, y.d, y.m, y.n)
			trsm, trmm, syrk := y.on64(impl)
			near(t, trsm, y.wantTrsm, tolerance, "Dtrsm "+what)
			near(t, trmm, y.wantTrmm, tolerance, "Dtrmm "+what)
			near(t, syrk, y.wantRk, tolerance, "Dsyrk "+what)
			trsm32, trmm32, syrk32 := y.on32(impl)
			near(t, trsm32, narrowDense(y.wantTrsm), tolerance32, "Strsm "+what)
			near(t, trmm32, narrowDense(y.wantTrmm), tolerance32, "Strmm "+what)
			near(t, syrk32, narrowDense(y.wantRk), tolerance32, "Ssyrk "+what)
		}
	})
}

// TestHalvesVariants checks that they give the same bits on every variant and for
// any number of threads.
func TestHalvesVariants(t *testing.T) {
	rng := randomSource(t)
	var cases []*halfwayCase
	for _, x := range []halfway{
		{blas.Left, blas.Lower, blas.Trans, blas.NonUnit, 300, 130},
		{blas.Left, blas.Upper, blas.NoTrans, blas.NonUnit, 150, 150},
		{blas.Right, blas.Upper, blas.Trans, blas.Unit, 90, 270},
		{blas.Right, blas.Lower, blas.NoTrans, blas.NonUnit, 170, 210},
	} {
		cases = append(cases, x.withOperands(rng))
	}
	want, want32 := map[string]dense[float64]{}, map[string]dense[float32]{}
	everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
		impl := eng.BLAS()
		withProcs(func(procs int) {
			for _, y := range cases {
				what := fmt.Sprintf("%c%c%c%c %d×%d", y.s, y.ul, y.tA, y.d, y.m, y.n)
				trsm, trmm, syrk := y.on64(impl)
				sameAgain(t, want, procs, what, trsm, trmm, syrk)
				trsm32, trmm32, syrk32 := y.on32(impl)
				sameAgain(t, want32, procs, what, trsm32, trmm32, syrk32)
			}
		})
	})
}

// sameAgain compares the results of Dtrsm, Dtrmm and Dsyrk, or of those in float32,
// with the first there were.
func sameAgain[T float](t *testing.T, first map[string]dense[T], procs int, what string, results ...dense[T]) {
	t.Helper()
	for i, got := range results {
		what := fmt.Sprintf("%s %s, %T", [...]string{"trsm", "trmm", "syrk"}[i], what, *new(T))
		if _, known := first[what]; !known {
			first[what] = got
		}
		got.same(t, first[what], fmt.Sprintf("%s, %d threads", what, procs))
	}
}

// TestHalvesPanics compares their panics with gonum's.
func TestHalvesPanics(t *testing.T) {
	impl, reference := open(t, &gpurun.Config{Devices: []string{"cpu"}}).BLAS(), gonum.Implementation{}
	type call struct {
		halfway
		a, b     []float64
		lda, ldb int
	}
	const n = 70
	panicOf := func(f func()) (p any) {
		defer func() { p = recover() }()
		f()
		return nil
	}
	changes := []func(x *call){
		func(*call) {},
		func(x *call) { x.s = 'x' }, func(x *call) { x.ul = 'x' }, func(x *call) { x.tA = 'x' }, func(x *call) { x.d = 'x' },
		func(x *call) { x.m = -1 }, func(x *call) { x.n = -1 }, func(x *call) { x.m = 0 }, func(x *call) { x.n = 0 },
		func(x *call) { x.lda-- }, func(x *call) { x.ldb-- }, func(x *call) { x.a = shorter(x.a) }, func(x *call) { x.b = shorter(x.b) },
	}
	for i, first := range changes {
		for j, second := range changes {
			x := call{halfway{blas.Right, blas.Upper, blas.NoTrans, blas.Unit, n, n}, make([]float64, n*n), make([]float64, n*n), n, n}
			first(&x)
			second(&x)
			a32, b32 := narrow(x.a), narrow(x.b)
			for name, calls := range map[string][2]func(){
				"Dtrsm": {func() { impl.Dtrsm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, x.a, x.lda, x.b, x.ldb) },
					func() { reference.Dtrsm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, x.a, x.lda, x.b, x.ldb) }},
				"Strsm": {func() { impl.Strsm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, a32, x.lda, b32, x.ldb) },
					func() { reference.Strsm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, a32, x.lda, b32, x.ldb) }},
				"Dtrmm": {func() { impl.Dtrmm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, x.a, x.lda, x.b, x.ldb) },
					func() { reference.Dtrmm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, x.a, x.lda, x.b, x.ldb) }},
				"Strmm": {func() { impl.Strmm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, a32, x.lda, b32, x.ldb) },
					func() { reference.Strmm(x.s, x.ul, x.tA, x.d, x.m, x.n, 1, a32, x.lda, b32, x.ldb) }},
				"Dsyrk": {func() { impl.Dsyrk(x.ul, x.tA, x.n, x.m, 1, x.a, x.lda, 1, x.b, x.ldb) },
					func() { reference.Dsyrk(x.ul, x.tA, x.n, x.m, 1, x.a, x.lda, 1, x.b, x.ldb) }},
				"Ssyrk": {func() { impl.Ssyrk(x.ul, x.tA, x.n, x.m, 1, a32, x.lda, 1, b32, x.ldb) },
					func() { reference.Ssyrk(x.ul, x.tA, x.n, x.m, 1, a32, x.lda, 1, b32, x.ldb) }},
			} {
				if got, want := panicOf(calls[0]), panicOf(calls[1]); got != want {
					t.Errorf("%s, changes %d and %d: the panic is %v, gonum's %v", name, i, j, got, want)
				}
			}
		}
	}
}
