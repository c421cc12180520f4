package gpurun_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// writeArray writes elements to a file.
func writeArray[T gpurun.Number](t *testing.T, path string, h npy.Header, elements []T) {
	t.Helper()
	if err := os.WriteFile(path, append(h.Append(nil), kernels.Bytes(elements)...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// readArray reads a file that is to have a shape.
func readArray[T gpurun.Number](t *testing.T, path string, shape []int) []T {
	t.Helper()
	f, err := npy.OpenArray(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := f.Shape
	if got == nil {
		got = []int{f.Rows, f.Cols}
	}
	if !reflect.DeepEqual(got, shape) || f.Type != kernels.TypeOf[T]() || f.Fortran {
		t.Fatalf("%s has %v elements of %v, want %v", path, got, f.Type, shape)
	}
	elements := make([]T, f.Rows*f.Cols)
	if err := f.ReadBytes(kernels.Bytes(elements), kernels.Tile{W: f.Cols, H: f.Rows}); err != nil {
		t.Fatal(err)
	}
	return elements
}

// scale is z = a·x + w, in Go too.
var scale = gpurun.Elementwise("z = a*x + w[0]", func(p *gpurun.Part) error {
	a, w := gpurun.ValueOf[int32](p, "a"), gpurun.Elements[int32](p, "w")[0]
	z := gpurun.Elements[int32](p, "z")
	for i, x := range gpurun.Elements[int32](p, "x") {
		z[i] = a*x + w
	}
	return nil
})

// TestKernelFiles has arrays of every number of dimensions, also without elements.
func TestKernelFiles(t *testing.T) {
	rng := randomSource(t)
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			eng, dir := open(t, config), t.TempDir()
			in, whole, out := filepath.Join(dir, "x.npy"), filepath.Join(dir, "w.npy"), filepath.Join(dir, "z.npy")
			writeArray(t, whole, npy.Header{Type: kernels.Int32, Rows: 1, Cols: 1, Shape: []int{1}}, []int32{7})
			for _, shape := range [][]int{{1}, {70_001}, {300, 211}, {5, 1}, {3, 40, 50}, {2, 3, 4, 5}, {}, {0}, {4, 0}} {
				h := npy.Header{Type: kernels.Int32, Rows: 1, Cols: 1, Shape: shape}
				for i, n := range shape {
					if i == len(shape)-1 {
						h.Cols = n
					} else {
						h.Rows *= n
					}
				}
				x := randomSlice[int32](rng, h.Rows*h.Cols)
				writeArray(t, in, h, x)
				err := eng.Run(t.Context(), scale, gpurun.InFile("x", in), gpurun.WholeFile("w", whole), gpurun.Text("a", "3"), gpurun.OutFile("z", out))
				if err != nil {
					t.Fatal(shape, err)
				}
				for i, z := range readArray[int32](t, out, shape) {
					if z != 3*x[i]+7 {
						t.Fatalf("%v: element %d is %d, want %d", shape, i, z, 3*x[i]+7)
					}
				}
			}
		})
	}
}

func TestKernelFileErrors(t *testing.T) {
	eng, dir := open(t, &gpurun.Config{Devices: []string{"cpu"}}), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	flat := func(n int) npy.Header { return npy.Header{Type: kernels.Int32, Rows: 1, Cols: n, Shape: []int{n}} }
	writeArray(t, path("x.npy"), flat(6), make([]int32, 6))
	writeArray(t, path("w.npy"), flat(1), make([]int32, 1))
	writeArray(t, path("short.npy"), flat(6), make([]int32, 5))
	writeArray(t, path("fortran.npy"), npy.Header{Type: kernels.Int32, Rows: 6, Cols: 1, Shape: []int{2, 3, 1}, Fortran: true}, make([]int32, 6))
	writeArray(t, path("before.npy"), flat(1), []int32{42})
	for name, test := range map[string]struct {
		in, out string
		is      error
		want    string
	}{
		"missing": {"none.npy", "before.npy", os.ErrNotExist, "none.npy"},
		"short":   {"short.npy", "before.npy", gpurun.ErrFormat, "it is not whole"},
		"fortran": {"fortran.npy", "before.npy", gpurun.ErrFormat, "Fortran order"},
		"same":    {"x.npy", "x.npy", gpurun.ErrOverlap, "x.npy is read as well"},
		"folder":  {"x.npy", "nowhere/z.npy", os.ErrNotExist, "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			err := eng.Run(t.Context(), scale, gpurun.InFile("x", path(test.in)), gpurun.WholeFile("w", path("w.npy")), gpurun.Text("a", "3"), gpurun.OutFile("z", path(test.out)))
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	touching := gpurun.Elementwise("z = x", func(p *gpurun.Part) error {
		return os.WriteFile(path("x.npy"), []byte("nonsense"), 0o600)
	})
	err := eng.Run(t.Context(), touching, gpurun.InFile("x", path("x.npy")), gpurun.OutFile("z", path("before.npy")))
	if !errors.Is(err, gpurun.ErrChanged) {
		t.Errorf("a file that was written to: %v", err)
	}
	if before := readArray[int32](t, path("before.npy"), []int{1}); before[0] != 42 {
		t.Errorf("what was there before is %v", before)
	}
	if names, _ := filepath.Glob(path("*")); len(names) != 5 {
		t.Errorf("there are %v", names)
	}
}
