package npy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbinet/npyio"

	"github.com/gpurun/gpurun/kernels"
)

// The files in testdata were made by NumPy: see make.py there.
const rows, cols = 3, 5

func element(i, j int) float64 { return float64(100*i+j) + 0.25 }

func TestReadsNumPy(t *testing.T) {
	for _, c := range []struct {
		name   string
		header Header
	}{
		{"f32", Header{Type: kernels.Float32, Rows: rows, Cols: cols}},
		{"f64", Header{Type: kernels.Float64, Rows: rows, Cols: cols}},
		{"f64_fortran", Header{Type: kernels.Float64, Rows: rows, Cols: cols, Fortran: true}},
		{"version2", Header{Type: kernels.Float64, Rows: rows, Cols: cols}},
		{"version3", Header{Type: kernels.Float64, Rows: rows, Cols: cols}},
		{"u32", Header{Type: kernels.Uint32, Rows: rows, Cols: cols}},
		{"empty", Header{Type: kernels.Float64, Cols: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Open(filepath.Join("testdata", c.name+".npy"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if !reflect.DeepEqual(f.Header, c.header) {
				t.Fatalf("the header is %+v, want %+v", f.Header, c.header)
			}
			switch f.Type {
			case kernels.Float32:
				readEverywhere[float32](t, f)
			case kernels.Float64:
				readEverywhere[float64](t, f)
			}
			if err := f.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// readEverywhere reads every rectangle of f.
func readEverywhere[T float32 | float64](t *testing.T, f *File) {
	lines, length := f.Lines()
	for y := range lines {
		for h := range lines - y + 1 {
			for x := range length {
				for w := range length - x + 1 {
					got := make([]T, w*h)
					if err := Read(f, got, kernels.Tile{X: x, Y: y, W: w, H: h}); err != nil {
						t.Fatal(err)
					}
					for n, v := range got {
						i, j := y+n/w, x+n%w
						if f.Fortran {
							i, j = j, i
						}
						if float64(v) != element(i, j) {
							t.Fatalf("element (%d, %d) is %g", i, j, v)
						}
					}
				}
			}
		}
	}
}

func TestRefusesByName(t *testing.T) {
	for name, part := range map[string]string{
		"big_endian": `">f8", are big-endian: convert them, with a.astype("<f8")`,
		"f16":        `of type "<f2": convert them`,
		"i64":        `of type "<i8"`,
		"complex":    `of type "<c16"`,
		"bool":       `of type "|b1"`,
		"object":     `of type "|O"`,
		"vector":     "it has 1 dimensions: a matrix has 2",
		"cube":       "it has 3 dimensions",
		"scalar":     "it has 0 dimensions",
		"records":    "its elements are records",
	} {
		path := filepath.Join("testdata", name+".npy")
		f, err := Open(path)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), part) || !strings.HasPrefix(fmt.Sprint(err), "open "+path) {
			t.Errorf("%s: got %v, want one that says %q", name, err, part)
		}
	}
}

// TestReadsArrays opens what is no matrix, and of other types.
func TestReadsArrays(t *testing.T) {
	for name, want := range map[string]Header{
		"i64":    {Type: kernels.Int64, Rows: rows, Cols: cols},
		"vector": {Type: kernels.Float64, Rows: 1, Cols: 5, Shape: []int{5}},
		"cube":   {Type: kernels.Float64, Rows: 6, Cols: 4, Shape: []int{2, 3, 4}},
		"scalar": {Type: kernels.Float64, Rows: 1, Cols: 1, Shape: []int{}},
	} {
		f, err := OpenArray(filepath.Join("testdata", name+".npy"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !reflect.DeepEqual(f.Header, want) {
			t.Errorf("%s: the header is %+v, want %+v", name, f.Header, want)
		}
	}
}

// numpyFile returns the bytes of a good file.
func numpyFile(t testing.TB) []byte {
	data, err := os.ReadFile("testdata/f64.npy")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTruncated(t *testing.T) {
	data := numpyFile(t)
	path := filepath.Join(t.TempDir(), "a.npy")
	for n := range data {
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(path); !errors.Is(err, ErrFormat) {
			f.Close()
			t.Fatalf("of the first %d bytes came %v", n, err)
		}
	}
	if err := os.WriteFile(path, append(data, "more"...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path) // as NumPy does
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestHostileHeaders(t *testing.T) {
	for _, c := range []struct{ text, part string }{
		{"", `where "{" is expected`},
		{"{", "where a name is expected"},
		{"{}", `has no "descr"`},
		{"{'descr': '<f8', 'fortran_order': False}", `has no "shape"`},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)", `where "}" is expected`},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)} x", "goes on after its end"},
		{"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)}", `"descr" twice`},
		{"{'descr': '<f8', 'fortran_order': 0, 'shape': (1, 2)}", `where "False" is expected`},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2)}", "where a number is expected"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 2)}", "where a number is expected"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", "cannot be counted"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (3037000500, 3037000500)}", "cannot be counted"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}", "it is not whole"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (" + strings.Repeat("1,", 100) + ")}", "more than 64 dimensions"},
		{"{'descr': '<f8, 'fortran_order': False, 'shape': (1, 2)}", "is expected"},
		{"{'other': 1}", `"other", which is not known`},
		{"{" + strings.Repeat(" ", 1<<15), "a matrix's has about 100"},
	} {
		path := filepath.Join(t.TempDir(), "a.npy")
		data := append(append(append([]byte(magic), 2, 0), byte(len(c.text)), byte(len(c.text)>>8), byte(len(c.text)>>16), 0), c.text...)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%.60q: got %v, want one that says %q", c.text, err, c.part)
		}
	}
	for name, data := range map[string]string{
		"another magic": "\x93NUMPX\x01\x00\x00\x00", "version 9": magic + "\x09\x00", "version 0": magic + "\x00\x00",
	} {
		if _, _, err := ReadHeader(strings.NewReader(data)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none.npy")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a missing file came %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("of a folder came %v", err)
	}
}

func TestChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	data := numpyFile(t)
	open := func() *File {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	whole := kernels.Tile{W: cols, H: rows}
	f := open()
	if err := os.Truncate(path, int64(len(data)-1)); err != nil {
		t.Fatal(err)
	}
	if err := Read(f, make([]float64, rows*cols), whole); !errors.Is(err, ErrChanged) {
		t.Errorf("reading a file that was cut off: %v", err)
	}
	if err := f.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("checking a file that was cut off: %v", err)
	}
	f = open()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("checking a file that was written to: %v", err)
	}
}

// TestAppend reads what is written, with another library too.
func TestAppend(t *testing.T) {
	for _, h := range []Header{
		{Type: kernels.Float32, Rows: 1, Cols: 2}, {Type: kernels.Float64, Rows: 3, Cols: 1 << 40, Fortran: true}, {Type: kernels.Uint32},
		{Type: kernels.Int16, Rows: 1, Cols: 7, Shape: []int{7}}, {Type: kernels.Uint8, Rows: 6, Cols: 4, Shape: []int{2, 3, 4}},
		{Type: kernels.Int64, Rows: 1, Cols: 1, Shape: []int{}},
	} {
		shape := h.Shape
		if shape == nil {
			shape = []int{h.Rows, h.Cols}
		}
		data := h.Append([]byte("before"))[len("before"):]
		if len(data)%align != 0 {
			t.Errorf("%+v: the data begin at %d, which is not aligned", h, len(data))
		}
		got, offset, err := ReadHeader(bytes.NewReader(data))
		if err != nil || !reflect.DeepEqual(got, h) || offset != int64(len(data)) {
			t.Errorf("%+v became %+v of %d bytes, %v", h, got, offset, err)
		}
		r, err := npyio.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if d := r.Header.Descr; d.Type != descriptions[h.Type] || d.Fortran != h.Fortran || !slices.Equal(d.Shape, shape) {
			t.Errorf("another library reads %+v", d)
		}
	}
}

func FuzzHeader(f *testing.F) {
	files, err := filepath.Glob("testdata/*.npy")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	f.Add(binaryNoise(rng))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, offset, err := ReadHeader(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is not of the format", err)
			}
			return
		}
		if offset > int64(len(data)) || h.Rows < 0 || h.Cols < 0 || h.bytes() < 0 {
			t.Fatalf("%+v of %d bytes", h, offset)
		}
		if again, _, err := ReadHeader(bytes.NewReader(h.Append(nil))); err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

func binaryNoise(rng *rand.Rand) []byte {
	noise := []byte(magic + "\x01\x00\x40\x00")
	for range 64 {
		noise = append(noise, byte(rng.Uint32()))
	}
	return noise
}

// TestReference opens files by reference: the same by its own name and by another, and
// none that is not.
func TestReference(t *testing.T) {
	for _, cols := range []int{0, 1, 500, 100_000} {
		path := filepath.Join(t.TempDir(), "a.npy")
		content := Header{Type: kernels.Float64, Rows: 3, Cols: cols}.Append(nil)
		content = append(content, make([]byte, 24*cols)...)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := f.Reference()
		f.Close()
		if err != nil || ref.Size != info.Size() || ref.Time != info.ModTime().UnixNano() || !filepath.IsAbs(ref.Path) {
			t.Fatalf("%+v, %v", ref, err)
		}
		reopen := func(what string, want error) {
			t.Helper()
			f, err := OpenSame(ref)
			if !errors.Is(err, want) {
				t.Errorf("%d columns, %s: %v", cols, what, err)
			}
			if err == nil {
				f.Close()
			}
		}
		reopen("as it was", nil)
		// Another element at either end, in a file of the same size and time.
		for _, at := range []int{len(content) - 1, len(content) - 24*cols} {
			if cols == 0 {
				break
			}
			other := slices.Clone(content)
			other[at]++
			if err := errors.Join(os.WriteFile(path, other, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
				t.Fatal(err)
			}
			reopen(fmt.Sprintf("byte %d changed", at), ErrOther)
		}
		if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
		reopen("written again", nil)
		if err := os.Chtimes(path, info.ModTime(), info.ModTime().Add(time.Microsecond)); err != nil {
			t.Fatal(err)
		}
		reopen("later", ErrOther)
		if err := os.WriteFile(path, append(content, 0), 0o600); err != nil {
			t.Fatal(err)
		}
		reopen("longer", ErrOther)
	}
}
