package cl

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// TestMain doubles as the program that tests of the environment run: with
// CL_TEST_LIST set it prints the platforms and devices, and nothing else.
func TestMain(m *testing.M) {
	if os.Getenv("CL_TEST_LIST") != "" {
		list()
		os.Exit(0)
	}
	code := m.Run()
	if left := Live(); len(left) > 0 && code == 0 {
		fmt.Println("not released:", left)
		code = 1
	}
	os.Exit(code)
}

func list() {
	platforms, err := GetPlatformIDs()
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	for _, p := range platforms {
		fmt.Println("platform:", p.Name)
		devices, err := p.GetDeviceIDs(DEVICE_TYPE_ALL)
		if err != nil {
			fmt.Println("error:", err)
		}
		for _, d := range devices {
			fmt.Println("device:", d.Name)
		}
	}
}

// listWith returns the lines that list prints in a process of its own whose
// environment has the settings added.
func listWith(t *testing.T, settings ...string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CL_TEST_LIST=1")
	cmd.Env = append(cmd.Env, settings...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", settings, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// count returns how many of lines begin with prefix.
func count(lines []string, prefix string) int {
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// requireDevice returns the first OpenCL device of the machine. Without one
// the test is skipped, or fails where GPURUN_REQUIRE lists opencl.
func requireDevice(t testing.TB) *Device {
	t.Helper()
	platforms, err := GetPlatformIDs()
	why := fmt.Sprintf("%d platforms, error %v", len(platforms), err)
	for _, p := range platforms {
		devices, err := p.GetDeviceIDs(DEVICE_TYPE_ALL)
		if len(devices) > 0 {
			return devices[0]
		}
		why += fmt.Sprintf("; none on %s, error %v", p.Name, err)
	}
	testenv.Missing(t, "opencl", "there is no OpenCL device: "+why)
	return nil
}

// requireContext returns a context whose ledger has a gibibyte, and a queue.
// Both are released when the test ends.
func requireContext(t testing.TB) (*Context, *Queue) {
	t.Helper()
	ctx, err := requireDevice(t).CreateContext(NewLedger(1 << 30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ctx.Release)
	q, err := ctx.CreateCommandQueue(QUEUE_PROFILING_ENABLE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Release)
	return ctx, q
}

// requireKernel compiles source and returns its kernel called name.
func requireKernel(t testing.TB, ctx *Context, source, name string) *Kernel {
	t.Helper()
	p, err := ctx.CreateProgramWithSource(source, "-cl-std=CL1.2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	k, err := p.CreateKernel(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Release)
	return k
}

// requireBuffer allocates size bytes.
func requireBuffer(t testing.TB, ctx *Context, flags MemFlags, size int64) *Buffer {
	t.Helper()
	b, err := ctx.CreateBuffer(flags, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Release)
	return b
}

// staging allocates size bytes that the host can reach, and maps them.
func staging(t testing.TB, ctx *Context, q *Queue, size int64) *Mapping {
	t.Helper()
	b := requireBuffer(t, ctx, MEM_READ_WRITE|MEM_ALLOC_HOST_PTR, size)
	m, err := q.MapBuffer(b, MAP_READ|MAP_WRITE, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Release)
	return m
}
