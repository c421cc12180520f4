package output

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestMain runs the tests with files that have no name until they are committed, and then
// with such that have.
func TestMain(m *testing.M) {
	code := m.Run()
	unnamed = func(string) (*os.File, error) { return nil, errors.ErrUnsupported }
	os.Exit(max(code, m.Run()))
}

// TestWhole checks that an output appears on commit and not before, and
// replaces what was there only then.
func TestWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, before := range []string{"", "old"} {
		if before != "" {
			if err := errors.Join(os.WriteFile(path, []byte(before), 0o600), os.Chmod(path, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		o, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(o, "new")
		if got, _ := os.ReadFile(path); string(got) != before {
			t.Errorf("before the commit the file holds %q", got)
		}
		if err := o.Commit(); err != nil {
			t.Fatal(err)
		}
		o.Discard()
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

func TestDiscarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, discard := range []func(*File){(*File).Discard, func(*File) { DiscardAll() }} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(o, "new")
		discard(o)
		if got, _ := os.ReadFile(path); string(got) != "old" {
			t.Errorf("the file holds %q", got)
		}
		onlyFile(t, path)
		o.Discard()
	}
}

// TestLink checks that a symbolic link stays one.
func TestLink(t *testing.T) {
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
		o, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(o, "new")
		if err := o.Commit(); err != nil {
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

// TestReserved writes in any order, and beyond what was reserved; or from the beginning.
func TestReserved(t *testing.T) {
	for _, size := range []int64{0, 2, 6} {
		path := filepath.Join(t.TempDir(), "out")
		o, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Discard()
		if err := o.Reserve(size); err != nil || o.InPlace() {
			t.Fatal(o.InPlace(), err)
		}
		if size == 6 {
			io.WriteString(o, "abcdef")
		} else {
			_, err1 := o.WriteAt([]byte("def"), 3)
			_, err2 := o.WriteAt([]byte("abc"), 0)
			if err1 != nil || err2 != nil {
				t.Error(err1, err2)
			}
		}
		if err := o.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "abcdef" {
			t.Errorf("%d bytes reserved: the file holds %q", size, got)
		}
	}
	o, err := Create(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Discard()
	if err := o.Reserve(0); err == nil || !o.InPlace() {
		t.Error("a device was reserved")
	}
}

// TestAdopt makes an output of a file that is there, which stays, whether it replaces
// another or itself.
func TestAdopt(t *testing.T) {
	for _, before := range []string{"", "old", "itself"} {
		dir := t.TempDir()
		path, from := filepath.Join(dir, "out"), filepath.Join(t.TempDir(), "from")
		if err := os.WriteFile(from, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		switch before {
		case "old":
			err = os.WriteFile(path, []byte("old"), 0o640)
		case "itself":
			err = os.Link(from, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		o, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Adopt(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		if err := o.Commit(); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, from} {
			if got, _ := os.ReadFile(p); string(got) != "new" {
				t.Errorf("%s before: %s holds %q", before, p, got)
			}
		}
		if info, err := os.Stat(path); before == "old" && (err != nil || info.Mode().Perm() != 0o640) {
			t.Errorf("the mode became %v (%v)", info.Mode(), err)
		}
		onlyFile(t, path)
	}
}

// TestAdoptCopies does so where there are two file systems.
func TestAdoptCopies(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "gpurun-test-")
	if err != nil {
		t.Skip("no other file system is known: ", err)
	}
	defer os.RemoveAll(other)
	from, path := filepath.Join(other, "from"), filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(from, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Adopt(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("the file holds %q", got)
	}
	onlyFile(t, path)
}

// TestPlane writes rectangles of a matrix and reads them again, against indices.
func TestPlane(t *testing.T) {
	const width, height, element, head = 7, 5, 2, 3
	f, err := CreateReserved(filepath.Join(t.TempDir(), "plane"), head+width*height*element)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := Plane{At: head, Width: width, Element: element}
	for _, r := range [][4]int{{0, 0, 7, 5}, {2, 1, 3, 4}, {6, 4, 1, 1}, {0, 3, 7, 2}, {1, 1, 0, 0}} {
		x, y, w, h := r[0], r[1], r[2], r[3]
		packed := make([]byte, w*h*element)
		for i := range packed {
			packed[i] = byte(1 + x + 10*y + i)
		}
		if err := p.Write(t.Context(), f, x, y, w, h, packed); err != nil {
			t.Fatal(err)
		}
		all, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for i := range packed {
			row, column, b := i/(w*element), i/element%w, i%element
			if got := all[head+((y+row)*width+x+column)*element+b]; got != packed[i] {
				t.Fatalf("rectangle %v: byte %d is %d where %d was written", r, i, got, packed[i])
			}
		}
		read := make([]byte, len(packed))
		if err := p.Read(t.Context(), f, x, y, w, h, read); err != nil || string(read) != string(packed) {
			t.Fatalf("rectangle %v: %v was read where %v was written (%v)", r, read, packed, err)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Write(done, f, 0, 0, 1, 1, make([]byte, element)); !errors.Is(err, context.Canceled) {
		t.Errorf("writing when there is no time any more: %v", err)
	}
}
