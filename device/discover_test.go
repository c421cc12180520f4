package device

import (
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// TestDiscoverAtOnce has several goroutines be the first of a process to ask for devices.
func TestDiscoverAtOnce(t *testing.T) {
	const child = "GPURUN_TEST_DISCOVER_CHILD"
	if os.Getenv(child) != "" {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := discover(0, true); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return
	}
	if _, err := discover(0, true); err != nil {
		testenv.Missing(t, "opencl", "OpenCL does not work here: "+err.Error())
	}
	for range 10 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiscoverAtOnce$")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %.2000s", err, out)
		}
	}
}
