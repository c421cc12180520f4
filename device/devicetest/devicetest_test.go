package devicetest_test

import (
	"testing"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/device/devicetest"
	"github.com/gpurun/gpurun/internal/testenv"
)

// TestCPU runs the suite on the CPU.
func TestCPU(t *testing.T) {
	d, err := device.OpenCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	run(t, d)
}

// TestOpenCL runs the suite on every OpenCL device.
func TestOpenCL(t *testing.T) {
	devices, err := device.Open([]string{"opencl"}, 0)
	if err != nil {
		testenv.Missing(t, "opencl", err.Error())
	}
	for _, d := range devices {
		t.Run(d.ID(), func(t *testing.T) { run(t, d) })
	}
}

// TestOpenCLSmall runs it with so little memory that every tile is cut.
func TestOpenCLSmall(t *testing.T) {
	const memory = 256 << 10
	devices, err := device.Open([]string{"opencl"}, memory)
	if err != nil {
		testenv.Missing(t, "opencl", err.Error())
	}
	for _, d := range devices {
		if got := d.Info().Budget; got != memory {
			t.Errorf("the budget is %d, want %d", got, memory)
		}
		t.Run(d.ID(), func(t *testing.T) { run(t, d) })
	}
}

func run(t *testing.T, d device.Device) {
	defer func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the device: %v", err)
		}
	}()
	info := d.Info()
	t.Logf("%s: %s, %s", info.ID, info.Name, info.Driver)
	if info.Float32 != device.Exact && info.Float64 != device.Exact {
		t.Skipf("%s computes no type exactly, and so makes no promise to test", info.Name)
	}
	devicetest.Test(t, d)
}
