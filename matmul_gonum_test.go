package gpurun_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
)

// This file checks MatMul, and gonum's operations with BLAS, against gonum.

func randomDense(rng *rand.Rand, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	for i := range rows {
		for j := range cols {
			m.Set(i, j, rng.NormFloat64())
		}
	}
	return m
}

// product computes a·b by the definition, through At.
func product(a, b mat.Matrix) *mat.Dense {
	m, k := a.Dims()
	_, n := b.Dims()
	c := mat.NewDense(m, n, nil)
	for i := range m {
		for j := range n {
			acc := 0.0
			for p := range k {
				acc = math.FMA(a.At(i, p), b.At(p, j), acc)
			}
			c.Set(i, j, acc)
		}
	}
	return c
}

// opaque hides what a matrix is.
type opaque struct{ mat.Matrix }

func (o opaque) T() mat.Matrix { return mat.Transpose{Matrix: o} }

// lying says that it is a raw matrix of another size than it has.
type lying struct{ *mat.Dense }

func (l lying) Dims() (r, c int)    { return 3, 3 }
func (l lying) T() mat.Matrix       { return mat.Transpose{Matrix: l} }
func (l lying) At(i, j int) float64 { return l.Dense.At(i, j) }

// TestMatMulKinds multiplies matrices of every kind with each other.
func TestMatMulKinds(t *testing.T) {
	rng := randomSource(t)
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	const n = 6
	big := randomDense(rng, 3*n, 3*n)
	sym, tri, band, vec := mat.NewSymDense(n, nil), mat.NewTriDense(n, mat.Lower, nil), mat.NewBandDense(n, n, 1, 2, nil), mat.NewVecDense(n, nil)
	diag := mat.NewDiagDense(n, nil)
	for i := range n {
		for j := range i + 1 {
			sym.SetSym(i, j, rng.NormFloat64())
			tri.SetTri(i, j, rng.NormFloat64())
		}
		for j := max(0, i-1); j < min(n, i+3); j++ {
			band.SetBand(i, j, rng.NormFloat64())
		}
		vec.SetVec(i, rng.NormFloat64())
		diag.SetDiag(i, rng.NormFloat64())
	}
	kinds := map[string]mat.Matrix{
		"dense": randomDense(rng, n, n), "wide": randomDense(rng, n, 2*n), "slice": big.Slice(n, 2*n, 2, 2+n),
		"symmetric": sym, "triangular": tri, "band": band, "vector": vec, "diagonal": diag,
		"column": big.ColView(2).(*mat.VecDense).SliceVec(1, n+1), "opaque": opaque{randomDense(rng, n, n)}, "lying": lying{randomDense(rng, 4, 5)},
	}
	for name, m := range kinds {
		kinds[name+" transposed"] = m.T()
		kinds[name+" transposed twice"] = mat.Transpose{Matrix: mat.Transpose{Matrix: m}}
	}
	fits := 0
	for nameA, a := range kinds {
		for nameB, b := range kinds {
			_, k := a.Dims()
			if kb, _ := b.Dims(); k != kb {
				continue
			}
			fits++
			want := product(a, b)
			var dst mat.Dense
			if err := eng.MatMul(t.Context(), &dst, a, b); err != nil {
				t.Fatalf("%s by %s: %v", nameA, nameB, err)
			}
			if !mat.Equal(&dst, want) {
				t.Errorf("%s by %s: %v, want %v", nameA, nameB, mat.Formatted(&dst), mat.Formatted(want))
			}
			// And into a part of a larger one.
			rows, cols := want.Dims()
			part := mat.NewDense(20, 20, nil).Slice(1, 1+rows, 2, 2+cols).(*mat.Dense)
			if err := eng.MatMul(t.Context(), part, a, b); err != nil || !mat.Equal(part, want) {
				t.Errorf("%s by %s into a part: %v", nameA, nameB, err)
			}
		}
	}
	if fits < 300 {
		t.Errorf("only %d pairs", fits)
	}
}

// TestMatMulAliases has the result overlap the operands in every way.
func TestMatMulAliases(t *testing.T) {
	rng := randomSource(t)
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	const n = 5
	fresh := func() *mat.Dense { return randomDense(rng, 3*n, 3*n) }
	part := func(m *mat.Dense, i, j int) *mat.Dense { return m.Slice(i, i+n, j, j+n).(*mat.Dense) }
	for name, make := range map[string]func() (dst *mat.Dense, a, b mat.Matrix){
		"a": func() (*mat.Dense, mat.Matrix, mat.Matrix) {
			m := randomDense(rng, n, n)
			return m, m, randomDense(rng, n, n)
		},
		"b": func() (*mat.Dense, mat.Matrix, mat.Matrix) {
			m := randomDense(rng, n, n)
			return m, randomDense(rng, n, n), m
		},
		"both":         func() (*mat.Dense, mat.Matrix, mat.Matrix) { m := randomDense(rng, n, n); return m, m, m },
		"a transposed": func() (*mat.Dense, mat.Matrix, mat.Matrix) { m := randomDense(rng, n, n); return m, m.T(), m },
		"overlapping": func() (*mat.Dense, mat.Matrix, mat.Matrix) {
			m := fresh()
			return part(m, 2, 3), part(m, 4, 5), part(m, 0, 0)
		},
		"side by side": func() (*mat.Dense, mat.Matrix, mat.Matrix) {
			m := fresh()
			return part(m, 0, n), part(m, 0, 0), part(m, n, n)
		},
		"a vector of dst": func() (*mat.Dense, mat.Matrix, mat.Matrix) {
			m := randomDense(rng, n, 1)
			return m, randomDense(rng, n, n), m.ColView(0)
		},
	} {
		dst, a, b := make()
		want := product(a, b)
		if err := eng.MatMul(t.Context(), dst, a, b); err != nil || !mat.Equal(dst, want) {
			t.Errorf("%s: %v, want %v (%v)", name, mat.Formatted(dst), mat.Formatted(want), err)
		}
	}
	// A matrix that was reset keeps its memory: here it is that of a.
	data := make([]float64, n*n)
	a, b, dst := mat.NewDense(n, n, data), randomDense(rng, n, n), mat.NewDense(n, n, data)
	a.Copy(randomDense(rng, n, n))
	dst.Reset()
	want := product(a, b)
	if err := eng.MatMul(t.Context(), dst, a, b); err != nil || !mat.Equal(dst, want) {
		t.Errorf("reset: %v, want %v (%v)", mat.Formatted(dst), mat.Formatted(want), err)
	}
}

// virtual is a matrix without memory.
type virtual struct{ rows, cols int }

func (v virtual) Dims() (r, c int)    { return v.rows, v.cols }
func (v virtual) At(i, j int) float64 { return 1 }
func (v virtual) T() mat.Matrix       { return mat.Transpose{Matrix: v} }

func TestMatMulErrors(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	square := mat.NewDense(2, 2, nil)
	for name, test := range map[string]struct {
		dst  *mat.Dense
		a, b mat.Matrix
		want error
	}{
		"inner":        {new(mat.Dense), mat.NewDense(2, 3, nil), square, gpurun.ErrShape},
		"transposed":   {new(mat.Dense), mat.NewDense(2, 3, nil), mat.NewDense(3, 2, nil).T(), gpurun.ErrShape},
		"dst":          {mat.NewDense(3, 2, nil), square, square, gpurun.ErrShape},
		"no dst":       {nil, square, square, gpurun.ErrShape},
		"nil":          {new(mat.Dense), nil, square, gpurun.ErrShape},
		"nil pointer":  {new(mat.Dense), square, (*mat.Dense)(nil), gpurun.ErrShape},
		"nil inside":   {new(mat.Dense), square, mat.Transpose{}, gpurun.ErrShape},
		"nil vector":   {new(mat.Dense), square, (*mat.VecDense)(nil).TVec(), gpurun.ErrShape},
		"empty a":      {new(mat.Dense), new(mat.Dense), square, gpurun.ErrShape},
		"empty b":      {new(mat.Dense), square, new(mat.Dense).T(), gpurun.ErrShape},
		"no elements":  {new(mat.Dense), virtual{0, 2}, square, gpurun.ErrShape},
		"negative":     {new(mat.Dense), virtual{-2, 2}, square, gpurun.ErrShape},
		"huge operand": {new(mat.Dense), virtual{1 << 40, 2}, square, gpurun.ErrTooLarge},
		"overflow":     {new(mat.Dense), virtual{math.MaxInt, 2}, square, gpurun.ErrTooLarge},
	} {
		if err := eng.MatMul(t.Context(), test.dst, test.a, test.b); !errors.Is(err, test.want) {
			t.Errorf("%s: the error is %v", name, err)
		}
		if test.dst != nil && test.dst.IsEmpty() != (name != "dst") {
			t.Errorf("%s: dst has been given a size", name)
		}
	}
	if err := eng.Close(); err != nil {
		t.Fatal(err)
	}
	var dst mat.Dense
	if err := eng.MatMul(t.Context(), &dst, square, square); !errors.Is(err, gpurun.ErrClosed) || !dst.IsEmpty() {
		t.Errorf("a closed engine answers %v, and dst is %v", err, dst)
	}
}

// watched is a matrix of which each element that is read is told of.
type watched struct {
	virtual
	read func()
}

func (w watched) At(i, j int) float64 { w.read(); return 1 }
func (w watched) T() mat.Matrix       { return mat.Transpose{Matrix: w} }

// TestMatMulCancel stops a product before it begins, and the copying of an operand.
func TestMatMulCancel(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	a := watched{virtual{1000, 1000}, func() { cancel(); reads++ }}
	var dst mat.Dense
	if err := eng.MatMul(ctx, &dst, a.T(), mat.NewDense(1000, 3, nil)); !errors.Is(err, context.Canceled) || reads > 10000 {
		t.Errorf("the error is %v, after %d elements of 1000000 were read", err, reads)
	}
	data := []float64{1, 2, 3, 4}
	square, reset, full := mat.NewDense(2, 2, data), mat.NewDense(2, 2, data), mat.NewDense(2, 2, nil)
	reset.Reset()
	for name, dst := range map[string]*mat.Dense{"empty": &dst, "reset": reset, "full": full} {
		err := eng.MatMul(ctx, dst, square, square)
		if !errors.Is(err, context.Canceled) || dst.IsEmpty() != (name != "full") || square.At(1, 1) != 4 {
			t.Errorf("%s: the error is %v, and dst is %v", name, err, dst)
		}
	}
}

// TestGonumOperations compares what gonum makes of finite matrices with BLAS and
// without. Both are right to within some roundings, whose effect grows with the
// size and the condition of what is solved.
func TestGonumOperations(t *testing.T) {
	const tolerance = 1e-9
	rng := randomSource(t)
	for _, n := range []int{1, 7, 64, 150} {
		in := operands{square: randomDense(rng, n, n), tall: randomDense(rng, 2*n, n), right: randomDense(rng, n, 5), rightTall: randomDense(rng, 2*n, 5)}
		for i := range n {
			in.square.Set(i, i, in.square.At(i, i)+2*float64(n)) // well conditioned
		}
		want := in.all(t)
		everyVariant(t, func(t *testing.T, eng *gpurun.Engine) {
			use(t, eng.BLAS())
			got := in.all(t)
			for name, w := range want {
				if g := got[name]; !mat.EqualApprox(g, w, tolerance) {
					var diff mat.Dense
					diff.Sub(g, w)
					t.Errorf("n = %d: %s differs by %g", n, name, mat.Norm(&diff, math.Inf(1)))
				}
			}
		})
	}
}

type operands struct{ square, tall, right, rightTall *mat.Dense }

// all does what gonum's users do.
func (in operands) all(t *testing.T) map[string]*mat.Dense {
	out := map[string]*mat.Dense{}
	result := func(name string) *mat.Dense {
		out[name] = new(mat.Dense)
		return out[name]
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	result("Mul").Mul(in.tall, in.square)
	result("Mul transposed").Mul(in.tall.T(), in.tall)
	result("Mul a symmetric").Mul(in.square, mat.NewSymDense(1, []float64{2}).GrowSym(in.square.RawMatrix().Rows-1))

	var lu mat.LU
	lu.Factorize(in.square)
	check(lu.SolveTo(result("LU"), false, in.right))
	check(result("Solve").Solve(in.square, in.right))
	check(result("least squares").Solve(in.tall, in.rightTall))
	check(result("Inverse").Inverse(in.square))

	var qr mat.QR
	qr.Factorize(in.tall)
	var q, r mat.Dense
	qr.QTo(&q)
	qr.RTo(&r)
	result("QR").Mul(&q, &r)

	var gram mat.SymDense
	gram.SymOuterK(1, in.tall.T())
	for i := range gram.SymmetricDim() {
		gram.SetSym(i, i, gram.At(i, i)+1)
	}
	var chol mat.Cholesky
	if !chol.Factorize(&gram) {
		t.Error("not positive definite")
	}
	check(chol.SolveTo(result("Cholesky"), in.right))

	in.spectra(t, &gram, out)

	var scaled mat.Dense
	scaled.Scale(1/mat.Norm(in.square, 1), in.square)
	result("Exp").Exp(&scaled)
	result("Pow").Pow(&scaled, 5)
	return out
}

// spectra finds singular values and eigenvalues.
func (in operands) spectra(t *testing.T, gram *mat.SymDense, out map[string]*mat.Dense) {
	n := in.square.RawMatrix().Rows
	var svd mat.SVD
	if !svd.Factorize(in.tall, mat.SVDThin) {
		t.Error("the SVD failed")
	}
	out["singular values"] = mat.NewDense(1, n, svd.Values(nil))
	var u, v, us mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	us.Mul(&u, mat.NewDiagDense(n, svd.Values(nil)))
	out["SVD"] = new(mat.Dense)
	out["SVD"].Mul(&us, v.T())

	var eig mat.EigenSym
	if !eig.Factorize(gram, true) {
		t.Error("the eigenvalues were not found")
	}
	out["eigenvalues"] = mat.NewDense(1, n, eig.Values(nil))
}

// TestGonumMulIsGemm checks that gonum's own product, with BLAS, is Gemm64's.
func TestGonumMulIsGemm(t *testing.T) {
	rng := randomSource(t)
	a, b := randomDense(rng, 70, 80), randomDense(rng, 90, 80)
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	var want, viaGonum mat.Dense
	if err := eng.MatMul(t.Context(), &want, a, b.T()); err != nil {
		t.Fatal(err)
	}
	use(t, eng.BLAS())
	viaGonum.Mul(a, b.T())
	direct := mat.NewDense(70, 90, nil)
	if err := eng.Gemm64(t.Context(), blas.NoTrans, blas.Trans, 1, a.RawMatrix(), b.RawMatrix(), 0, direct.RawMatrix()); err != nil {
		t.Fatal(err)
	}
	if !mat.Equal(&viaGonum, &want) || !mat.Equal(direct, &want) {
		t.Error("Mul, MatMul and Gemm64 differ")
	}
}
