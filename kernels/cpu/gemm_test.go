package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// problem is one product, with the slices as they are handed over. Around what
// belongs to a matrix there are NaN with a payload that no operation makes.
type problem[T real] struct {
	transA, transB bool
	m, n, k        int
	alpha, beta    T
	a, b, c        guardedMatrix[T]
}

// guardedMatrix is a matrix in the middle of a larger slice.
type guardedMatrix[T real] struct {
	rows, cols, ld int
	all            []T
}

// margin is how many elements there are before and after a matrix.
const margin = 37

func newMatrix[T real](rows, cols, gap int, element func() T) guardedMatrix[T] {
	m := guardedMatrix[T]{rows: rows, cols: cols, ld: max(1, cols+gap)}
	length := 0
	if rows > 0 && cols > 0 {
		length = (rows-1)*m.ld + cols
	}
	m.all = make([]T, length+2*margin)
	for i := range m.all {
		m.all[i] = sentinel[T]()
	}
	for i := range rows {
		for j := range cols {
			m.all[margin+i*m.ld+j] = element()
		}
	}
	return m
}

// slice returns the elements up to the last, and no more.
func (m guardedMatrix[T]) slice() []T {
	s := m.all[margin : len(m.all)-margin]
	return s[:len(s):len(s)]
}

func (m guardedMatrix[T]) at(trans bool, i, j int) float64 {
	if trans {
		i, j = j, i
	}
	return float64(m.all[margin+i*m.ld+j])
}

func sentinel[T real]() T {
	if size[T]() == 4 {
		return T(math.Float32frombits(0x7fdeadbe))
	}
	return T(math.Float64frombits(0x7ffdeadbeefdead0))
}

func bitsOf[T real](x T) uint64 {
	if size[T]() == 4 {
		return uint64(math.Float32bits(float32(x)))
	}
	return math.Float64bits(float64(x))
}

// sameBits compares what was computed: any NaN equals any other.
func sameBits[T real](x, y T) bool { return bitsOf(x) == bitsOf(y) || x != x && y != y }

func newProblem[T real](rng *rand.Rand, m, n, k int, element func() T) *problem[T] {
	scalars := []T{0, 1, -1, 0.5, T(1) / 3}
	p := &problem[T]{
		transA: rng.IntN(2) == 0, transB: rng.IntN(2) == 0, m: m, n: n, k: k,
		alpha: scalars[rng.IntN(5)], beta: scalars[rng.IntN(5)],
	}
	p.fill(rng, element)
	return p
}

// fill makes the matrices.
func (p *problem[T]) fill(rng *rand.Rand, element func() T) {
	gap := func() int { return rng.IntN(2) * rng.IntN(9) }
	stored := func(trans bool, rows, cols int) guardedMatrix[T] {
		if trans {
			rows, cols = cols, rows
		}
		return newMatrix(rows, cols, gap(), element)
	}
	p.a, p.b = stored(p.transA, p.m, p.k), stored(p.transB, p.k, p.n)
	if p.beta == 0 {
		element = sentinel[T]
	}
	p.c = newMatrix(p.m, p.n, gap(), element)
}

func (p *problem[T]) String() string {
	t := map[bool]string{false: "", true: "ᵀ"}
	return fmt.Sprintf("float%d: C (%d×%d, ld %d) = %v·A%s·B%s + %v·C, k = %d, lda %d, ldb %d", 8*size[T](), p.m, p.n, p.c.ld,
		p.alpha, t[p.transA], t[p.transB], p.beta, p.k, p.a.ld, p.b.ld)
}

// want returns C by the definition, element by element.
func (p *problem[T]) want() guardedMatrix[T] {
	c := p.c
	c.all = append([]T(nil), c.all...)
	typ := kernels.Float64
	if size[T]() == 4 {
		typ = kernels.Float32
	}
	for i := range p.m {
		for j := range p.n {
			to := &c.all[margin+i*c.ld+j]
			acc := 0.0
			switch p.beta {
			case 0:
			case 1:
				acc = float64(*to)
			default:
				acc = typ.Round(float64(p.beta) * float64(*to))
			}
			for q := 0; q < p.k && p.alpha != 0; q++ {
				a := p.a.at(p.transA, i, q)
				if p.alpha != 1 {
					a = typ.Round(float64(p.alpha) * a)
				}
				acc = plainFMA(typ, a, p.b.at(p.transB, q, j), acc)
			}
			*to = T(acc)
		}
	}
	return c
}

// plainFMA returns x·y+z rounded once to typ. In float32 the product is exact in
// float64; where the sum is near the middle between two float32, so that two
// roundings might go wrong, math/big decides.
func plainFMA(typ kernels.DType, x, y, z float64) float64 {
	if typ == kernels.Float64 {
		return math.FMA(x, y, z)
	}
	sum := float64(x*y) + z
	const middle, below = 1 << 28, 1<<29 - 1
	far := math.Float64bits(sum)&below - (middle - 2)
	if far > 4 && math.Abs(sum) > 0x1p-125 && math.Abs(sum) < 0x1p127 || sum == 0 && x*y == 0 || sum-sum != 0 {
		return float64(float32(sum))
	}
	return bigFMA(typ, x, y, z)
}

// compute returns C by v.
func (p *problem[T]) compute(v Variant, threads int, stop *atomic.Bool) (guardedMatrix[T], bool) {
	c := p.c
	c.all = append([]T(nil), c.all...)
	var done bool
	switch a := any(p.a.slice()).(type) {
	case []float32:
		done = v.Gemm32(p.transA, p.transB, p.m, p.n, p.k, float32(p.alpha), a, p.a.ld, any(p.b.slice()).([]float32), p.b.ld,
			float32(p.beta), any(c.slice()).([]float32), c.ld, threads, stop)
	case []float64:
		done = v.Gemm64(p.transA, p.transB, p.m, p.n, p.k, float64(p.alpha), a, p.a.ld, any(p.b.slice()).([]float64), p.b.ld,
			float64(p.beta), any(c.slice()).([]float64), c.ld, threads, stop)
	}
	return c, done
}

// check compares v with want, and with that what lies around C.
func (p *problem[T]) check(t *testing.T, v Variant, threads int, want guardedMatrix[T]) {
	t.Helper()
	got, done := p.compute(v, threads, new(atomic.Bool))
	if !done {
		t.Fatalf("%s: stopped without being told to", v)
	}
	for x := range want.all {
		if g, w := got.all[x], want.all[x]; !sameBits(g, w) || w != w && bitsOf(p.c.all[x]) == bitsOf(w) && bitsOf(g) != bitsOf(w) {
			i, j := (x-margin)/want.ld, (x-margin)%want.ld
			t.Fatalf("%s, %d threads: %v\nC[%d,%d] = %v (%#x), want %v (%#x)", v, threads, p, i, j, g, bitsOf(g), w, bitsOf(w))
		}
	}
}

// normal returns elements without surprises.
func normal[T real](rng *rand.Rand) func() T {
	return func() T { return T(rng.NormFloat64()) }
}

// odd returns elements among which there are any.
func odd[T real](rng *rand.Rand) func() T {
	tiny, huge := T(math.SmallestNonzeroFloat32), T(math.MaxFloat32)
	if size[T]() == 8 {
		x, y := math.SmallestNonzeroFloat64, math.MaxFloat64
		tiny, huge = T(x), T(y)
	}
	negative := T(math.Copysign(0, -1))
	values := []T{0, negative, 1, -1, tiny, -3 * tiny, 1e-20, -1e-20, huge, -huge, T(math.Inf(1)), T(math.Inf(-1)), T(math.NaN())}
	return func() T {
		switch rng.IntN(8) {
		case 0:
			return values[rng.IntN(len(values))]
		case 1:
			return values[rng.IntN(8)]
		}
		return T(rng.NormFloat64())
	}
}

func everyVariant(t *testing.T, f func(t *testing.T, v Variant)) {
	t.Run(string(Generic), func(t *testing.T) { f(t, Generic) })
	variants(t, f)
}

// bothTypes runs f for float32 and float64, given what it is for.
func bothTypes(t *testing.T, f32, f64 func(t *testing.T)) {
	t.Run("f32", f32)
	t.Run("f64", f64)
}

// TestGemmShapes has all small shapes, and some of the larger, with transposes,
// scalars, strides, elements and threads drawn for each.
func TestGemmShapes(t *testing.T) {
	rng := randomSource(t)
	bothTypes(t,
		func(t *testing.T) { testGemmShapes[float32](t, rng) },
		func(t *testing.T) { testGemmShapes[float64](t, rng) })
}

func testGemmShapes[T real](t *testing.T, rng *rand.Rand) {
	var shapes [][3]int
	small := []int{0, 1, 2, 7, 8, 31, 33}
	for _, m := range small {
		for _, n := range small {
			for _, k := range small {
				shapes = append(shapes, [3]int{m, n, k})
			}
		}
	}
	sides := []int{1, 2, 7, 8, 31, 33, 127, 129, 517}
	most := 8_000_000
	if raceEnabled {
		most /= 10
	}
	for len(shapes) < 500 {
		s := [3]int{sides[rng.IntN(9)], sides[rng.IntN(9)], sides[rng.IntN(9)]}
		if s[0]*s[1]*s[2] < most {
			shapes = append(shapes, s)
		}
	}
	var problems []*problem[T]
	var wants []guardedMatrix[T]
	for _, s := range shapes {
		element := normal[T](rng)
		if rng.IntN(2) == 0 {
			element = odd[T](rng)
		}
		p := newProblem(rng, s[0], s[1], s[2], element)
		problems, wants = append(problems, p), append(wants, p.want())
	}
	everyVariant(t, func(t *testing.T, v Variant) {
		for i, p := range problems {
			if v != Generic || p.m*p.n*p.k < 1_000_000 {
				p.check(t, v, 1+rng.IntN(4), wants[i])
			}
		}
	})
}

// gemmForms calls f with each combination of transposes and scalars.
func gemmForms[T real](f func(transA, transB bool, alpha, beta T)) {
	for form := range 4 {
		for _, alpha := range []T{0, 1, -1, 0.5, T(1) / 3} {
			for _, beta := range []T{0, 1, -1, 0.5, T(1) / 3} {
				f(form&1 != 0, form&2 != 0, alpha, beta)
			}
		}
	}
}

// TestGemmForms has every form of products for which the ways through the code
// differ: small, with and without an edge, in blocks, and with vectors. Blocks are
// made smaller than they are otherwise, so that products need not be large.
func TestGemmForms(t *testing.T) {
	rng := randomSource(t)
	bothTypes(t,
		func(t *testing.T) { testGemmForms[float32](t, rng) },
		func(t *testing.T) { testGemmForms[float64](t, rng) })
}

func testGemmForms[T real](t *testing.T, rng *rand.Rand) {
	var problems []*problem[T]
	var wants []guardedMatrix[T]
	for _, s := range [][3]int{{5, 9, 3}, {1, 40, 37}, {37, 1, 40}, {1, 1, 70}, {31, 32, 18}, {60, 75, 41}, {70, 33, 20}} {
		gemmForms(func(transA, transB bool, alpha, beta T) {
			p := &problem[T]{transA: transA, transB: transB, m: s[0], n: s[1], k: s[2], alpha: alpha, beta: beta}
			p.fill(rng, odd[T](rng))
			problems, wants = append(problems, p), append(wants, p.want())
		})
	}
	everyVariant(t, func(t *testing.T, v Variant) {
		if s := simdOf[T](v); s != nil {
			whole := *s
			defer func() { *s = whole }()
			s.mc, s.kc, s.nc, s.perWorker = 2*s.mr, 19, 2*s.nr(), 20_000
		}
		for i, p := range problems {
			if v != Generic || p.m*p.n*p.k < 50_000 {
				p.check(t, v, 1+rng.IntN(4), wants[i])
			}
		}
	})
}

// TestGemmTiles has tiles of every height and width, with every rest of k, in small
// products, which take α = 1, and in blocks.
func TestGemmTiles(t *testing.T) {
	rng := randomSource(t)
	bothTypes(t,
		func(t *testing.T) { testGemmTiles[float32](t, rng) },
		func(t *testing.T) { testGemmTiles[float64](t, rng) })
}

func testGemmTiles[T real](t *testing.T, rng *rand.Rand) {
	variants(t, func(t *testing.T, v Variant) {
		for m := 2; m < 30; m++ {
			for _, n := range []int{2, 4, 5, 8, 15, 16, 17, 31, 32, 33} {
				for _, k := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 4*min(m, 14) - 1, 57} {
					p := &problem[T]{m: m, n: n, k: k, alpha: 1, beta: T(k % 3)}
					p.fill(rng, normal[T](rng))
					p.check(t, v, 1, p.want())
					p.alpha = 0.5
					p.check(t, v, 1, p.want())
				}
			}
		}
	})
}

// TestGemmPaths has products that are large enough for each of the ways to be
// taken with the sizes that blocks have.
func TestGemmPaths(t *testing.T) {
	rng := randomSource(t)
	bothTypes(t,
		func(t *testing.T) { testGemmPaths[float32](t, rng) },
		func(t *testing.T) { testGemmPaths[float64](t, rng) })
}

func testGemmPaths[T real](t *testing.T, rng *rand.Rand) {
	line := 4096 / size[T]() // elements to a row that panels do not like
	tests := []struct {
		s              [3]int
		transA, transB bool
	}{
		{s: [3]int{75, 600, 260}}, {s: [3]int{75, 100, 300}, transA: true}, {s: [3]int{75, 100, 300}, transB: true},
		{s: [3]int{33, 129, line}}, {s: [3]int{20, 700, 300}}, {s: [3]int{30, 395, 300}, transB: true}, {s: [3]int{25, 395, 401}, transA: true},
		{s: [3]int{28, 517, line}}, {s: [3]int{2100, 33, 60}}, {s: [3]int{2100, 33, 60}, transA: true}, {s: [3]int{3000, 1, 77}},
		{s: [3]int{1, 5000, 21}}, {s: [3]int{1, 77, 3000}, transB: true}, {s: [3]int{77, 1, 3000}, transA: true},
	}
	for _, test := range tests {
		p := &problem[T]{transA: test.transA, transB: test.transB, m: test.s[0], n: test.s[1], k: test.s[2], alpha: 1}
		p.fill(rng, odd[T](rng))
		want := p.want()
		for threads := 1; threads <= 4; threads++ {
			variants(t, func(t *testing.T, v Variant) { p.check(t, v, threads, want) })
		}
	}
}

// TestGemmStride has operands of one row, whose strides may be anything.
func TestGemmStride(t *testing.T) {
	const huge = 1<<60 + 8
	rng := randomSource(t)
	everyVariant(t, func(t *testing.T, v Variant) {
		for _, s := range [][3]int{{1, 200, 70}, {70, 200, 1}, {1, 200, 1}, {1, 1, 300}} {
			for form := range 4 {
				p := &problem[float64]{transA: form&1 != 0, transB: form&2 != 0, m: s[0], n: s[1], k: s[2], alpha: 1, beta: 0.5}
				p.fill(rng, normal[float64](rng))
				want := p.want()
				strides := func(m guardedMatrix[float64], rows int) int {
					if rows == 1 {
						return huge
					}
					return m.ld
				}
				rowsA, rowsB := p.m, p.k
				if p.transA {
					rowsA = p.k
				}
				if p.transB {
					rowsB = p.n
				}
				c := p.c
				c.all = slices.Clone(c.all)
				v.Gemm64(p.transA, p.transB, p.m, p.n, p.k, 1, p.a.slice(), strides(p.a, rowsA), p.b.slice(), strides(p.b, rowsB),
					0.5, c.slice(), strides(c, p.m), 2, new(atomic.Bool))
				if !slices.EqualFunc(c.all, want.all, sameBits) {
					t.Errorf("%s: %v", v, p)
				}
			}
		}
	})
}

// FuzzGemm compares what this processor has with the definition.
func FuzzGemm(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(4), uint8(5), false)
	f.Add(uint64(2), uint8(129), uint8(1), uint8(200), true)
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k uint8, single bool) {
		rng := rand.New(rand.NewPCG(seed, 0))
		if single {
			fuzzGemm[float32](t, rng, int(m), int(n), int(k))
		} else {
			fuzzGemm[float64](t, rng, int(m), int(n), int(k))
		}
	})
}

func fuzzGemm[T real](t *testing.T, rng *rand.Rand, m, n, k int) {
	p := newProblem(rng, m, n, k, odd[T](rng))
	want := p.want()
	for _, v := range runnable() {
		p.check(t, v, 1+rng.IntN(4), want)
	}
}
