package main

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sbinet/npyio"
	"gonum.org/v1/gonum/mat"
)

type buffer = bytes.Buffer

// wantLine checks that text is one line that says part.
func wantLine(t *testing.T, text, part string) {
	t.Helper()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, part) {
		t.Errorf("want one line that says %q, got %q", part, text)
	}
}

// checkNPY is the script command "npyshape FILE ROWS COLUMNS [TYPE]": another library
// must read FILE as such an array, of uint32 unless a type is said.
func checkNPY(ts *testscript.TestScript, neg bool, args []string) {
	typ := "<u4"
	if len(args) == 4 {
		typ, args = args[3], args[:3]
	}
	if neg || len(args) != 3 {
		ts.Fatalf("usage: npyshape FILE ROWS COLUMNS [TYPE]")
	}
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	r, err := npyio.NewReader(f)
	ts.Check(err)
	shape := []string{}
	for _, n := range r.Header.Descr.Shape {
		shape = append(shape, strconv.Itoa(n))
	}
	if r.Header.Descr.Type != typ || r.Header.Descr.Fortran || !slices.Equal(shape, args[1:]) {
		ts.Fatalf("%s holds %+v", args[0], r.Header.Descr)
	}
	if typ == "<u4" {
		var values []uint32
		ts.Check(r.Read(&values))
	}
}

// makeMatrix is the script command "npymatrix FILE ROWS COLUMNS": another library
// writes a matrix of small whole numbers, which multiply without rounding.
func makeMatrix(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: npymatrix FILE ROWS COLUMNS")
	}
	rows, err := strconv.Atoi(args[1])
	ts.Check(err)
	cols, err := strconv.Atoi(args[2])
	ts.Check(err)
	m := mat.NewDense(rows, cols, nil)
	for i := range rows {
		for j := range cols {
			m.Set(i, j, float64((7*i+3*j)%11-5))
		}
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(npyio.Write(f, m))
	ts.Check(f.Close())
}

// checkProduct is the script command "npyproduct C A B": C = A·B.
func checkProduct(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: npyproduct C A B")
	}
	var m [3]mat.Dense
	for i, name := range args {
		f, err := os.Open(ts.MkAbs(name))
		ts.Check(err)
		ts.Check(npyio.Read(f, &m[i]))
		ts.Check(f.Close())
	}
	var want mat.Dense
	want.Mul(&m[1], &m[2])
	if !mat.Equal(&m[0], &want) {
		ts.Fatalf("%s is not the product of %s and %s", args[0], args[1], args[2])
	}
}

func TestWriteNPY(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {7, 3}, {3, 100000}, {1 << 20, 1}, {640, 480}} {
		values := make([]uint32, size[0]*size[1])
		for i := range values {
			values[i] = uint32(i) * 2654435761
		}
		var b bytes.Buffer
		b.Write(npyHeader(size[0], size[1]))
		w := &npyWriter{w: &b, width: size[0]}
		half := size[1] / 2 * size[0]
		if err := errors.Join(w.writeRows(values[:half]), w.writeRows(values[half:])); err != nil {
			t.Fatal(err)
		}
		if (b.Len()-4*len(values))%64 != 0 {
			t.Errorf("%v: the data begins at %d, which is not aligned", size, b.Len()-4*len(values))
		}
		r, err := npyio.NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		if want := []int{size[1], size[0]}; !slices.Equal(r.Header.Descr.Shape, want) {
			t.Errorf("the shape is %v, want %v", r.Header.Descr.Shape, want)
		}
		var got []uint32
		if err := r.Read(&got); err != nil || !slices.Equal(got, values) {
			t.Errorf("%v: the values differ (%v)", size, err)
		}
	}
}
