package gpurun_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/sbinet/npyio"
	"gonum.org/v1/gonum/blas"

	"github.com/gpurun/gpurun"
)

// saveMatrix writes d as a .npy file, transposed in Fortran order if fortran: a
// header of the format's description, and the elements.
func saveMatrix[T float](t testing.TB, path string, d dense[T], fortran bool) {
	t.Helper()
	shape, order := fmt.Sprintf("(%d, %d)", d.rows, d.cols), "False"
	if fortran {
		shape, order = fmt.Sprintf("(%d, %d)", d.cols, d.rows), "True"
	}
	text := fmt.Sprintf("{'descr': '<f%d', 'fortran_order': %s, 'shape': %s, }\n", unsafe.Sizeof(T(0)), order, shape)
	data := append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), byte(len(text)>>8))
	data = append(data, text...)
	for i := range d.rows {
		for j := range d.cols {
			bits := bitsOf(*d.at(i, j))
			for b := range int(unsafe.Sizeof(T(0))) {
				data = append(data, byte(bits>>(8*b)))
			}
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// loadMatrix reads a .npy file with another library.
func loadMatrix[T float](t testing.TB, path string) dense[T] {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := npyio.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	descr := r.Header.Descr
	if len(descr.Shape) != 2 || descr.Fortran || descr.Type != fmt.Sprintf("<f%d", unsafe.Sizeof(T(0))) {
		t.Fatalf("%s holds %+v", path, descr)
	}
	var elements []T
	if descr.Shape[0]*descr.Shape[1] > 0 {
		if err := r.Read(&elements); err != nil {
			t.Fatal(err)
		}
	}
	next := -1
	return newDense(descr.Shape[0], descr.Shape[1], 0, func() T {
		next++
		return elements[next]
	})
}

// fileProblem is a product of files, with what it is to be.
type fileProblem[T float] struct {
	a, b string
	want func() dense[T]
	name string
}

func newFileProblem[T float](t testing.TB, rng *rand.Rand, m, n, k int, fortranA, fortranB bool) fileProblem[T] {
	p := &problem[T]{tA: blas.NoTrans, tB: blas.NoTrans, alpha: 1, m: m, n: n, k: k}
	element := func() T { return oddElement[T](rng) }
	p.a, p.b = newDense(m, k, 0, element), newDense(k, n, 0, element)
	if fortranA {
		p.tA, p.a = blas.Trans, newDense(k, m, 0, element)
	}
	if fortranB {
		p.tB, p.b = blas.Trans, newDense(n, k, 0, element)
	}
	p.c = newDense(m, n, 0, element)
	dir := t.TempDir()
	f := fileProblem[T]{a: filepath.Join(dir, "a.npy"), b: filepath.Join(dir, "b.npy"), want: p.want,
		name: fmt.Sprintf("%d×%d×%d, Fortran order %t and %t", m, n, k, fortranA, fortranB)}
	saveMatrix(t, f.a, p.a, fortranA)
	saveMatrix(t, f.b, p.b, fortranB)
	return f
}

// TestMatMulFilesBits compares products of files with their definition, on several
// devices, and with so little memory that they are computed in many blocks.
func TestMatMulFilesBits(t *testing.T) {
	rng := randomSource(t)
	t.Run("float32", func(t *testing.T) { testMatMulFilesBits[float32](t, rng) })
	t.Run("float64", func(t *testing.T) { testMatMulFilesBits[float64](t, rng) })
}

func testMatMulFilesBits[T float](t *testing.T, rng *rand.Rand) {
	var problems []fileProblem[T]
	var wants []dense[T]
	for _, s := range [][3]int{{1, 1, 1}, {0, 5, 3}, {5, 0, 3}, {5, 3, 0}, {0, 0, 0}, {1, 700, 30}, {700, 1, 30}, {3, 4, 5000}, {200, 100, 257}, {517, 129, 31}} {
		problems = append(problems, newFileProblem[T](t, rng, s[0], s[1], s[2], rng.IntN(2) == 0, rng.IntN(2) == 0))
	}
	for _, fortran := range []int{0, 1, 2, 3} {
		problems = append(problems, newFileProblem[T](t, rng, 90, 110, 130, fortran&1 > 0, fortran&2 > 0))
	}
	for _, p := range problems {
		wants = append(wants, p.want())
	}
	for name, config := range map[string]*gpurun.Config{
		"cpu":                      {Devices: []string{"cpu"}},
		"cpu, little memory":       {Devices: []string{"cpu"}, Memory: 60_000},
		"cpu, hardly any memory":   {Devices: []string{"cpu"}, Memory: 20_000},
		"cpu, tiles":               {Devices: []string{"cpu"}, Memory: 300_000, Tiles: 7},
		"opencl":                   {Devices: []string{"opencl"}},
		"opencl, little memory":    {Devices: []string{"opencl"}, Memory: 700_000},
		"both":                     {Devices: []string{"opencl", "cpu"}},
		"both, with little memory": {Devices: []string{"opencl", "cpu"}, Memory: 700_000},
		"what the engine chooses":  {},
	} {
		t.Run(name, func(t *testing.T) {
			openIt := open
			if slices.Contains(config.Devices, "opencl") {
				openIt = openWithOpenCL
			}
			eng := openIt(t, config)
			out := filepath.Join(t.TempDir(), "c.npy")
			for i, p := range problems {
				if err := eng.MatMulFiles(t.Context(), out, p.a, p.b); err != nil {
					t.Fatal(p.name, err)
				}
				loadMatrix[T](t, out).same(t, wants[i], p.name)
				if r := eng.Report(); r.PeakBytes > r.BudgetBytes {
					t.Errorf("%s took %d bytes of %d", p.name, r.PeakBytes, r.BudgetBytes)
				}
			}
		})
	}
}

// TestMatMulFilesMovesLittle holds the bytes that are read and written against what
// no way to compute the product can do without.
func TestMatMulFilesMovesLittle(t *testing.T) {
	rng := randomSource(t)
	p := newFileProblem[float32](t, rng, 1100, 900, 700, false, true)
	for _, memory := range []int64{200_000, 500_000, 1_000_000, 2_000_000} {
		eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: memory})
		if err := eng.MatMulFiles(t.Context(), filepath.Join(t.TempDir(), "c.npy"), p.a, p.b); err != nil {
			t.Fatal(err)
		}
		r := eng.Report()
		if r.PeakBytes < memory/4 || r.PeakBytes > memory {
			t.Errorf("of %d bytes of memory %d were taken", memory, r.PeakBytes)
		}
		if r.BytesMoved < 4*(1100*700+700*900+1100*900) || float64(r.BytesMoved) > 1.15*float64(r.BytesBound) {
			t.Errorf("with %d bytes of memory %d were moved, %.3f of the bound", memory, r.BytesMoved, float64(r.BytesMoved)/float64(r.BytesBound))
		}
		t.Logf("%d bytes of memory: %.3f of the bound", memory, float64(r.BytesMoved)/float64(r.BytesBound))
	}
}

// TestMatMulFilesErrors checks that what cannot be done is said, and leaves nothing.
func TestMatMulFilesErrors(t *testing.T) {
	rng := randomSource(t)
	p := newFileProblem[float64](t, rng, 30, 40, 50, false, false)
	other := newFileProblem[float32](t, rng, 50, 40, 30, false, false)
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	dir := t.TempDir()
	out := filepath.Join(dir, "c.npy")
	if err := os.WriteFile(out, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text.npy")
	if err := os.WriteFile(text, []byte("no matrix"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.npy")
	if err := os.Symlink(p.a, link); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name      string
		ctx       context.Context
		out, a, b string
		want      error
		part      string
	}{
		{"no file", t.Context(), out, "nowhere.npy", p.b, os.ErrNotExist, "open nowhere.npy"},
		{"no matrix", t.Context(), out, p.a, text, gpurun.ErrFormat, text},
		{"shapes", t.Context(), out, p.a, p.a, gpurun.ErrShape, "30×50 and"},
		{"types", t.Context(), out, p.a, other.b, gpurun.ErrShape, "is of f64 and"},
		{"onto an operand", t.Context(), p.b, p.a, p.b, gpurun.ErrOverlap, "is the operand"},
		{"onto a link to an operand", t.Context(), link, p.a, p.b, gpurun.ErrOverlap, "is the operand"},
		{"no folder", t.Context(), filepath.Join(dir, "none", "c.npy"), p.a, p.b, os.ErrNotExist, "open output"},
		{"a device that cannot be sought", t.Context(), "/dev/null", p.a, p.b, nil, "no regular file"},
		{"stopped", done, out, p.a, p.b, context.Canceled, ""},
	} {
		err := eng.MatMulFiles(c.ctx, c.out, c.a, c.b)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: got %v, want %v that says %q", c.name, err, c.want, c.part)
		}
	}
	if got, _ := os.ReadFile(out); string(got) != "before" {
		t.Errorf("the output holds %q", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("beside the output there are %v", entries)
	}
	if got, _ := os.ReadFile(p.b); !bytes.HasPrefix(got, []byte("\x93NUMPY")) {
		t.Error("an operand was written to")
	}
}

// TestMatMulFilesChanged has an operand change while it is being multiplied.
func TestMatMulFilesChanged(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"cut off":    func(path string) error { return os.Truncate(path, 300) },
		"written to": func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newFileProblem[float32](t, randomSource(t), 400, 400, 100, false, false)
			changed := false
			eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: 100_000, Tiles: 30, Progress: func(float64) {
				if !changed {
					changed = true
					if err := change(p.a); err != nil {
						t.Error(err)
					}
				}
			}})
			dir := t.TempDir()
			err := eng.MatMulFiles(t.Context(), filepath.Join(dir, "c.npy"), p.a, p.b)
			if !errors.Is(err, gpurun.ErrChanged) || !strings.Contains(err.Error(), p.a) {
				t.Errorf("got %v", err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 0 {
				t.Errorf("it left %v", entries)
			}
		})
	}
}

// TestMatMulFilesTiles asks for tiles that do not fit.
func TestMatMulFilesTiles(t *testing.T) {
	p := newFileProblem[float32](t, randomSource(t), 200, 200, 10, false, false)
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: 100_000, Tiles: 1})
	if err := eng.MatMulFiles(t.Context(), filepath.Join(t.TempDir(), "c.npy"), p.a, p.b); !errors.Is(err, gpurun.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}
