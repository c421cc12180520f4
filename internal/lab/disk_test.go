//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestStartOnDisk has a process fill its disk, which nobody else sees, and reads what
// it could write after its end.
func TestStartOnDisk(t *testing.T) {
	l := New(t, 1)
	dir := t.TempDir()
	const size = 1 << 20
	p, d := l.Host(0).StartOnDisk(t, dir, size, nil, "sh", "-c", `cd "$0" && pwd && head -c 3000000 /dev/zero > zeros`, dir)
	if code := p.Wait(); code == 0 || !strings.Contains(p.Said(), "No space left on device") || !strings.Contains(p.Said(), dir) {
		t.Errorf("exit code %d: %s", code, p.Said())
	}
	if got, err := d.ReadFile("zeros"); len(got) != size {
		t.Errorf("the file has %d bytes (%v), want the %d of the disk", len(got), err, size)
	}
	if left, err := d.Left(); err != nil || !slices.Equal(left, []string{"zeros"}) {
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
	p, d := l.Host(0).StartOnDisk(t, dir, 64<<10, nil, "sh", "-c",
		`cd "$0" && echo before > first && echo begun && while [ ! -s full ] || head -c 9 /dev/zero > second; do :; done`, dir)
	p.WaitFor("begun")
	d.Fill("full")
	p.WaitFor("No space left on device")
	if got, err := d.ReadFile("first"); string(got) != "before\n" {
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
