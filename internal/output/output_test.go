package output

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

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
