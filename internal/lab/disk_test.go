//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDisk has processes fill a disk, which nobody else sees, one after the other.
func TestDisk(t *testing.T) {
	l := New(t, 1)
	dir := t.TempDir()
	const size = 1 << 20
	d := l.Host(0).Disk(t, dir, size)
	p := d.Start(t, nil, "sh", "-c", `pwd && cd "$0" && pwd && head -c 3000000 /dev/zero > zeros`, dir)
	if code := p.Wait(); code == 0 || !strings.Contains(p.Said(), "No space left on device") || !strings.HasPrefix(p.Said(), p.Dir()+"\n"+dir+"\n") {
		t.Errorf("exit code %d: %s", code, p.Said())
	}
	if got, err := os.ReadFile(filepath.Join(d.Dir(), "zeros")); len(got) != size {
		t.Errorf("the file has %d bytes (%v), want the %d of the disk", len(got), err, size)
	}
	if code := d.Start(t, nil, "mv", filepath.Join(dir, "zeros"), filepath.Join(dir, "moved")).Wait(); code != 0 {
		t.Errorf("the next process on the disk does not see the file: exit code %d", code)
	}
	if left, err := Left(d.Dir()); err != nil || !slices.Equal(left, []string{"moved"}) {
		t.Errorf("the disk has %v (%v)", left, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("outside there are %v (%v)", entries, err)
	}
}

// TestFill fills the disk of a process from outside.
func TestFill(t *testing.T) {
	l := New(t, 1)
	dir := t.TempDir()
	d := l.Host(0).Disk(t, dir, 64<<10)
	p := d.Start(t, nil, "sh", "-c", `cd "$0" && echo before > first && echo begun && while [ ! -s full ] || head -c 9 /dev/zero > second; do :; done`, dir)
	p.WaitFor("begun")
	d.Fill("full")
	p.WaitFor("No space left on device")
	if got, err := os.ReadFile(filepath.Join(d.Dir(), "first")); string(got) != "before\n" {
		t.Errorf("the first file has %q (%v)", got, err)
	}
	d.Fill("full")
}

// TestLeft finds files in folders of folders.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "b", ".c"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := Left(dir); err != nil || !slices.Equal(left, []string{"a/b/.c"}) {
		t.Errorf("there are %v (%v)", left, err)
	}
}
