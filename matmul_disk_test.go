//go:build linux

package gpurun_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// smallDisk returns a folder on a disk of so many bytes.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("gpurun-test", dir, "tmpfs", 0, options); err != nil {
		testenv.Missing(t, "root", "a small disk cannot be mounted: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestMatMulFilesDiskFull has no room for the product from the start.
func TestMatMulFilesDiskFull(t *testing.T) {
	p := newFileProblem[float64](t, rand.New(rand.NewPCG(1, 1)), 400, 400, 3, false, false) // 1.28 MB
	dir := smallDisk(t, "size=1m")
	progressed := false
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Progress: func(float64) { progressed = true }})
	out := filepath.Join(dir, "c.npy")
	err := eng.MatMulFiles(t.Context(), out, p.a, p.b)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "write "+out+", of 1.2 MiB: no space left on device; make room, ") || strings.Contains(err.Error(), "tmp-") {
		t.Errorf("got %v", err)
	}
	if progressed {
		t.Error("it was computed all the same")
	}
	emptyFolder(t, dir)
}

// TestMatMulFilesDiskFills has another file take the room while the product is
// computed: what was set aside for it stays there.
func TestMatMulFilesDiskFills(t *testing.T) {
	p := newFileProblem[float64](t, rand.New(rand.NewPCG(1, 1)), 250, 250, 3, false, false) // 0.5 MB
	dir := smallDisk(t, "size=1m")
	other := filepath.Join(dir, "other")
	filled := false
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Tiles: 20, Progress: func(float64) {
		if !filled {
			filled = true
			if err := os.WriteFile(other, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("the disk was not full: %v", err)
			}
		}
	}})
	out := filepath.Join(dir, "c.npy")
	if err := eng.MatMulFiles(t.Context(), out, p.a, p.b); err != nil {
		t.Fatal(err)
	}
	loadMatrix[float64](t, out).same(t, p.want(), p.name)
	if !filled {
		t.Error("nothing filled the disk")
	}
}

// TestMatMulFilesNoInodes has a disk on which no file can be made.
func TestMatMulFilesNoInodes(t *testing.T) {
	p := newFileProblem[float32](t, rand.New(rand.NewPCG(1, 1)), 3, 3, 3, false, false)
	dir := smallDisk(t, "size=1m,nr_inodes=1")
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	if err := eng.MatMulFiles(t.Context(), filepath.Join(dir, "c.npy"), p.a, p.b); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	emptyFolder(t, dir)
}

func emptyFolder(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}
