package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sbinet/npyio"
)

type buffer = bytes.Buffer

// wantLine checks that text is one line that says part.
func wantLine(t *testing.T, text, part string) {
	t.Helper()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, part) {
		t.Errorf("want one line that says %q, got %q", part, text)
	}
}

// checkNPY is the script command "npyshape FILE ROWS COLUMNS": another library
// must read FILE as such an array of uint32.
func checkNPY(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: npyshape FILE ROWS COLUMNS")
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
	if r.Header.Descr.Type != "<u4" || r.Header.Descr.Fortran || !slices.Equal(shape, args[1:]) {
		ts.Fatalf("%s holds %+v", args[0], r.Header.Descr)
	}
	var values []uint32
	ts.Check(r.Read(&values))
}

func TestWriteNPY(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {7, 3}, {3, 100000}, {1 << 20, 1}, {640, 480}} {
		values := make([]uint32, size[0]*size[1])
		for i := range values {
			values[i] = uint32(i) * 2654435761
		}
		var b bytes.Buffer
		if err := writeNPY(&b, values, size[0], size[1]); err != nil {
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

// TestOutputWhole checks that an output appears on commit and not before, and
// replaces what was there only then.
func TestOutputWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, before := range []string{"", "old"} {
		if before != "" {
			if err := errors.Join(os.WriteFile(path, []byte(before), 0o600), os.Chmod(path, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		o, err := createOutput(path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(o, "new")
		if got, _ := os.ReadFile(path); string(got) != before {
			t.Errorf("before the commit the file holds %q", got)
		}
		if err := o.commit(); err != nil {
			t.Fatal(err)
		}
		o.discard()
		if got, _ := os.ReadFile(path); string(got) != "new" {
			t.Errorf("after the commit the file holds %q", got)
		}
		if info, _ := os.Stat(path); before != "" && info.Mode().Perm() != 0o666 {
			t.Errorf("the mode became %v", info.Mode())
		}
		onlyFile(t, path)
	}
}

func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files beside the output (%v)", len(entries)-1, err)
	}
}

func TestOutputDiscarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, discard := range []func(*outputFile){(*outputFile).discard, func(*outputFile) { discardOutputs() }} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := createOutput(path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(o, "new")
		discard(o)
		if got, _ := os.ReadFile(path); string(got) != "old" {
			t.Errorf("the file holds %q", got)
		}
		onlyFile(t, path)
		o.discard()
	}
}

// TestOutputLink checks that a symbolic link stays one.
func TestOutputLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dangling} {
		o, err := createOutput(path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(o, "new")
		if err := o.commit(); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "nowhere")); string(got) != "new" {
		t.Errorf("where the dangling link led there is %q", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone (%v)", err)
	}
	if got, _ := os.ReadFile(target); string(got) != "new" {
		t.Errorf("its target holds %q", got)
	}
}
