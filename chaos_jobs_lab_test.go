//go:build linux

package gpurun_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
)

// chaosJob is what a round computes.
type chaosJob struct {
	kind      string // of chaosKinds
	precision string // f32 or f64
	size      [3]int // width and height, or M, N and K
	steps     int    // of an image, at most
	seed      uint64 // of the matrices
}

// chaosKinds are the kinds of jobs, with about the processors' time that each takes.
var chaosKinds = []struct {
	name string
	work time.Duration
}{
	{"siegel", 1200 * time.Millisecond}, // part of labView, whose orbits never repeat
	{"set", 150 * time.Millisecond},
	{"product", 300 * time.Millisecond},        // of integers, large
	{"random product", 100 * time.Millisecond}, // of any numbers, small
}

func drawJob(rng *rand.Rand) (j chaosJob, work time.Duration) {
	// Half of the jobs are the long ones, in the middle of which most can happen.
	kind := chaosKinds[max(rng.IntN(2*len(chaosKinds)-2)-len(chaosKinds)+2, 0)]
	between := func(low, high int) int { return low + rng.IntN(high-low+1) }
	j = chaosJob{kind: kind.name, precision: []string{"f32", "f64"}[rng.IntN(2)]}
	switch kind.name {
	case "siegel":
		j.size, j.steps = [3]int{between(200, 300), between(150, 200)}, between(300_000, 600_000)
	case "set":
		j.size, j.steps = [3]int{between(1200, 2000), between(900, 1300)}, between(5_000, 40_000)
	case "product":
		j.size, j.seed = [3]int{between(900, 1600), between(900, 1600), between(900, 1600)}, rng.Uint64()
	case "random product":
		j.size, j.seed = [3]int{between(100, 300), between(100, 300), between(100, 300)}, rng.Uint64()
	}
	return j, kind.work
}

func (j chaosJob) String() string {
	if j.steps > 0 {
		return fmt.Sprintf("%s %s %d×%d, %d steps", j.kind, j.precision, j.size[0], j.size[1], j.steps)
	}
	return fmt.Sprintf("%s %s %d×%d×%d", j.kind, j.precision, j.size[0], j.size[1], j.size[2])
}

// bytes returns how large the output is, without its header.
func (j chaosJob) bytes() int64 {
	element := int64(4)
	if j.steps == 0 && j.precision == "f64" {
		element = 8
	}
	return int64(j.size[0]) * int64(j.size[1]) * element
}

// prepare returns the command line of the job, with the output in the file name, and
// a function that says whether a file holds the right bits.
func (j chaosJob) prepare(t *testing.T, p *program, name string) (args []string, right func([]byte) bool) {
	t.Helper()
	switch {
	case j.steps > 0:
		args = []string{"mandel", "--size", fmt.Sprintf("%dx%d", j.size[0], j.size[1]), "--max-iter", strconv.Itoa(j.steps), "--precision", j.precision}
		if j.kind == "siegel" {
			args = append(args, labView[:4]...)
		}
		return append(args, "-o", name), j.image(t, p, args)
	case j.precision == "f32":
		return writeProduct[float32](t, j, name)
	default:
		return writeProduct[float64](t, j, name)
	}
}

// image compares with what this machine computes by itself.
func (j chaosJob) image(t *testing.T, p *program, args []string) func([]byte) bool {
	t.Helper()
	name := filepath.Join(t.TempDir(), "want.npy")
	cmd := exec.Command(p.path, append([]string{args[0], "--device", "cpu", "--quiet", "-o", name}, args[1:]...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compute the right result: %v\n%s", err, out)
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return func(got []byte) bool { return bytes.Equal(got, want) }
}

// writeProduct writes the matrices, and knows their product from its definition, or, where
// that would take long, from how they were made.
func writeProduct[T float](t *testing.T, j chaosJob, name string) (args []string, right func([]byte) bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(j.seed, 0))
	m, n, k := j.size[0], j.size[1], j.size[2]
	p := &problem[T]{tA: blas.NoTrans, tB: blas.NoTrans, alpha: 1, m: m, n: n, k: k}
	var want dense[T]
	if j.kind == "product" {
		p.a, p.b, want = integers[T](rng, m, n, k)
	} else {
		element := func() T { return T(rng.NormFloat64()) }
		p.a, p.b, p.c = newDense(m, k, 0, element), newDense(k, n, 0, element), newDense(m, n, 0, element)
		want = p.want()
	}
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a.npy"), filepath.Join(dir, "b.npy"), filepath.Join(dir, "c.npy")
	saveMatrix(t, a, p.a, false)
	saveMatrix(t, b, p.b, false)
	return []string{"matmul", a, b, "-o", name}, func(got []byte) bool {
		if err := os.WriteFile(c, got, 0o600); err != nil {
			t.Fatal(err)
		}
		is := loadMatrix[T](t, c)
		if is.rows != m || is.cols != n {
			return false
		}
		for i := range m {
			for l := range n {
				if bitsOf(*is.at(i, l)) != bitsOf(*want.at(i, l)) {
					return false
				}
			}
		}
		return true
	}
}

// integers returns two matrices of small integers and their product, in which nothing
// is rounded, in float32 neither. A is u·vᵀ, and in each row one element besides: so
// the product is u·(vᵀ·B) and in each row one of B besides, which takes no time.
func integers[T float](rng *rand.Rand, m, n, k int) (a, b, product dense[T]) {
	small := func() int { return rng.IntN(9) - 4 }
	u, v, at, besides := make([]int, m), make([]int, k), make([]int, m), make([]int, m)
	for i := range u {
		u[i], at[i], besides[i] = small(), rng.IntN(k), small()
	}
	for i := range v {
		v[i] = small()
	}
	b = newDense(k, n, 0, func() T { return T(small()) })
	sums := make([]int, n)
	for p := range k {
		for l := range n {
			sums[l] += v[p] * int(*b.at(p, l))
		}
	}
	zero := func() T { return 0 }
	a, product = newDense(m, k, 0, zero), newDense(m, n, 0, zero)
	for i := range m {
		for p := range k {
			*a.at(i, p) = T(u[i] * v[p])
		}
		*a.at(i, at[i]) += T(besides[i])
		for l := range n {
			*product.at(i, l) = T(u[i]*sums[l] + besides[i]*int(*b.at(at[i], l)))
		}
	}
	return a, b, product
}
