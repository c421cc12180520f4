//go:build linux

package gpurun_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gpurun/gpurun"
)

// fillDisk leaves no room on the disk of dir, and returns the file to remove to make some.
func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "filler")
	if err := os.WriteFile(name, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk has more room: %v", err)
	}
	return name
}

// TestStateDiskFull has no room on the disk for the state, at first when that is reserved,
// and then when its records grow. The error says where, and what to do; when there is room
// the same call goes on.
func TestStateDiskFull(t *testing.T) {
	v := gpurun.View{Center: complex(-0.7463, 0.1102), Span: 0.01, Width: 300, Height: 300, MaxIter: 2000, CountsOnly: true, Precision: gpurun.Float64}
	whole, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	dir := smallDisk(t, "size=1m")
	state := filepath.Join(dir, "state")
	fails := func(config gpurun.Config) {
		t.Helper()
		_, err := open(t, &config).Mandelbrot(t.Context(), v)
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), state) || !strings.Contains(err.Error(), "make room") {
			t.Fatalf("got %v", err)
		}
	}
	// Their records take several pages: all but the last of a file is full.
	config := gpurun.Config{Devices: []string{"cpu"}, State: state, Tiles: 300}
	filler := fillDisk(t, dir)
	fails(config)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	filled := config
	filled.Progress = func() func(float64) {
		var once sync.Once
		return func(done float64) {
			if done > 0 {
				once.Do(func() { fillDisk(t, dir) })
			}
		}
	}()
	fails(filled)
	kept, err := gpurun.ReadState(state)
	if err != nil || kept.Done == 0 || kept.Done == 1 {
		t.Fatalf("%+v is kept (%v)", kept, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eng := open(t, &config)
	got, err := eng.Mandelbrot(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	sameBand(t, whole, got)
	if r := eng.Report(); r.Resumed == 0 {
		t.Error("nothing was resumed")
	}
}
