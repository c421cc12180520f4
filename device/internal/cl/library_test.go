package cl

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// A library that cannot be used is one clear error that names it.
func TestBrokenLibrary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the libraries tried are Linux's")
	}
	for _, c := range []struct{ library, want string }{
		{"/nonexistent/libOpenCL.so", "No such file"},
		{"/etc/hostname", "/etc/hostname"},
		{"/", "/"},
		{"libm.so.6", "has no symbol clGetPlatformIDs"},
	} {
		lines := listWith(t, "GPURUN_OPENCL_LIB="+c.library)
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "error: "+ErrBrokenLibrary.Error()) ||
			!strings.Contains(lines[0], c.library) || !strings.Contains(lines[0], c.want) {
			t.Errorf("%s: %q", c.library, lines)
		}
	}
}

func TestNoLibrary(t *testing.T) {
	t.Setenv("GPURUN_OPENCL_LIB", "")
	_, err := findLibrary([]string{"libgpurun-none.so.1", "libgpurun-none.so"})
	if !errors.Is(err, ErrNoLibrary) || errors.Is(err, ErrBrokenLibrary) {
		t.Fatal(err)
	}
	for _, name := range []string{"libgpurun-none.so.1", "libgpurun-none.so:"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not list %s", err, name)
		}
	}
}

// A driver that is opened without a loader exports hardly any function.
func TestDriverWithoutLoader(t *testing.T) {
	requireDevice(t)
	drivers, _ := filepath.Glob("/usr/lib/*/libpocl.so.2")
	if len(drivers) == 0 {
		testenv.Missing(t, "opencl", "PoCL is not installed where it is looked for")
	}
	lines := listWith(t, "GPURUN_OPENCL_LIB="+drivers[0])
	if count(lines, "platform:") != 1 || count(lines, "device:") < 1 {
		t.Errorf("%q", lines)
	}
	lines = listWith(t, "GPURUN_OPENCL_LIB="+drivers[0], "POCL_DEVICES=")
	if count(lines, "error:") != 0 || count(lines, "device:") != 0 {
		t.Errorf("without devices: %q", lines)
	}
}

func TestNumberOfDevices(t *testing.T) {
	if p := requireDevice(t).Platform; !strings.Contains(p.Name, "Portable") {
		t.Skipf("POCL_DEVICES means nothing to %s", p.Name)
	}
	for _, c := range []struct {
		devices string
		want    int
	}{{"", 0}, {"pthread", 1}, {"pthread pthread", 2}} {
		lines := listWith(t, "POCL_DEVICES="+c.devices)
		if count(lines, "device:") != c.want || count(lines, "error:") != 0 {
			t.Errorf("POCL_DEVICES=%q: %q", c.devices, lines)
		}
	}
}

// Without any driver a loader has no platform, which is no error.
func TestNoPlatform(t *testing.T) {
	requireDevice(t)
	lines := listWith(t, "GPURUN_OPENCL_LIB=", "OCL_ICD_VENDORS="+t.TempDir(), "OPENCL_VENDOR_PATH="+t.TempDir())
	if count(lines, "device:") != 0 || count(lines, "error:") != 0 {
		t.Errorf("%q", lines)
	}
}

func TestEntryPoints(t *testing.T) {
	seen := make(map[int]bool)
	for fn, entry := range entryPoints {
		if !strings.HasPrefix(entry.symbol, "cl") {
			t.Errorf("function %d has no symbol", fn)
		}
		if seen[entry.slot] {
			t.Errorf("%s shares slot %d", entry.symbol, entry.slot)
		}
		seen[entry.slot] = true
	}
}

func TestDevice(t *testing.T) {
	d := requireDevice(t)
	t.Logf("%+v", *d)
	if d.Name == "" || d.Type == 0 || d.Version == "" || len(d.Extensions) == 0 {
		t.Error("a field is empty")
	}
	if d.GlobalMem <= 0 || d.MaxAlloc <= 0 || d.MaxAlloc > d.GlobalMem || d.MaxWorkGroupSize < 1 || d.ComputeUnits < 1 {
		t.Error("a field makes no sense")
	}
	if !d.SingleFP.RoundToNearest() || !d.SingleFP.InfNaN() {
		t.Errorf("SingleFP = %b: OpenCL promises round to nearest, Inf and NaN", d.SingleFP)
	}
	if d.HasExtension("cl_khr_fp64") && !(d.DoubleFP.HasFMA() && d.DoubleFP.HasDenorms()) {
		t.Errorf("DoubleFP = %b: OpenCL promises fma and denormals", d.DoubleFP)
	}
	none, err := d.Platform.GetDeviceIDs(DEVICE_TYPE_ALL &^ 0xF) // kinds that no driver here has
	if err != nil || len(none) != 0 {
		t.Errorf("custom devices: %v, %v", none, err)
	}
}
