package device

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// TestRatesOutlive checks that what a device was seen to do is known when it is opened
// again, that it is not believed of another, and that a damaged file is as good as none.
func TestRatesOutlive(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GPURUN_CACHE", dir)
	open := func() *cpuDevice {
		d, err := newCPU(0)
		if err != nil {
			t.Fatal(err)
		}
		return d.(*cpuDevice)
	}
	job := &kernels.MatMul[float32]{M: 1000, N: 1000, K: 1000, Alpha: 1}
	d := open()
	guess := d.Predict(job).Time
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("nothing was measured, and %v stored", files)
	}
	d = open()
	d.rates[kernels.Float32].record(1e12, 10*time.Second)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	known := seconds(job.Flops() / 1e11)
	if took := open().Predict(job).Time; took != known || took == guess {
		t.Errorf("it predicts %v, and before anything was measured %v; want %v", took, guess, known)
	}
	if took := open().Predict(&kernels.MatMul[float64]{M: 1000, N: 1000, K: 1000, Alpha: 1}).Time; took == 2*known || took == known {
		t.Errorf("of float64, which was not measured, it predicts %v", took)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("stored: %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if took := open().Predict(job).Time; took != guess {
		t.Errorf("by a damaged file it predicts %v", took)
	}
}

// TestSpeedsOutlive is TestRatesOutlive of an OpenCL device.
func TestSpeedsOutlive(t *testing.T) {
	t.Setenv("GPURUN_CACHE", t.TempDir())
	d := openOpenCL(t, 0)
	d.loaded = loadRates(d.ratesName(), d.measurables())
	d.products[kernels.Float32].record(1e9, 1, launchTimes{total: time.Second, longest: time.Second})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openOpenCL(t, 0)
	if _, measured := d.products[kernels.Float32].now(); measured {
		t.Error("it knows something that nobody loaded")
	}
	loadRates(d.ratesName(), d.measurables())
	if rate, measured := d.products[kernels.Float32].now(); !measured || rate != 1e9 {
		t.Errorf("a rate of 1e9 became %g (%t)", rate, measured)
	}
	if _, measured := d.speeds[kernels.Float32].now(); measured {
		t.Error("what was not measured is known")
	}
}
