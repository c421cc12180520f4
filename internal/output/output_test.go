package output

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
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

// TestTake makes an output of a file that is there, on the same file system and on another,
// whether it replaces something or not.
func TestTake(t *testing.T) {
	for _, before := range []string{"", "old"} {
		for _, away := range []bool{false, true} {
			dir := t.TempDir()
			path, from := filepath.Join(dir, "out"), filepath.Join(otherFolder(t, dir, away), "from")
			if err := os.WriteFile(from, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			if before != "" {
				if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			o, err := Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Take(t.Context(), from); err != nil {
				t.Fatal(err)
			}
			o.Discard()
			if got, _ := os.ReadFile(path); string(got) != "new" {
				t.Errorf("the file holds %q", got)
			}
			if _, err := os.Stat(from); (err == nil) != away {
				t.Errorf("on another file system: %t; it was left there: %v", away, err == nil)
			}
			if info, err := os.Stat(path); before != "" && (err != nil || info.Mode().Perm() != 0o640) {
				t.Errorf("the mode became %v (%v)", info.Mode(), err)
			}
			onlyFile(t, path)
		}
	}
}

// otherFolder returns a folder beside dir or, if away, on another file system.
func otherFolder(t *testing.T, dir string, away bool) string {
	t.Helper()
	if !away {
		return t.TempDir()
	}
	other, err := os.MkdirTemp("/dev/shm", "gpurun-test-")
	if err != nil {
		testenv.Missing(t, "shm", "there is no other file system at /dev/shm: "+err.Error())
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	if err := os.WriteFile(filepath.Join(other, "trial"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Rename(filepath.Join(other, "trial"), filepath.Join(dir, "trial")) == nil {
		os.Remove(filepath.Join(dir, "trial"))
		testenv.Missing(t, "shm", "/dev/shm is no other file system than "+dir)
	}
	return other
}

// TestCreateReserved makes a file where there is one that has another name: that keeps what
// it has.
func TestCreateReserved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Link(path, path+"-other")); err != nil {
		t.Fatal(err)
	}
	f, err := CreateReserved(path, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, _ := os.ReadFile(path + "-other"); string(got) != "old" {
		t.Errorf("under the other name there is %q", got)
	}
	if got, _ := os.ReadFile(path); string(got) != "\x00\x00\x00\x00\x00" {
		t.Errorf("the new file holds %q", got)
	}
	if _, err := CreateReserved(filepath.Join(t.TempDir(), "large"), 1<<60); err == nil {
		t.Error("there is room for 2⁶⁰ bytes")
	}
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
