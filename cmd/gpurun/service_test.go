package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/testenv"
)

const serviceFolder = "../../deploy/systemd"

// readService returns the unit of a worker, and the file that sets its arguments.
func readService(t *testing.T) (unit, defaults string) {
	t.Helper()
	var texts [2]string
	for i, name := range []string{"gpurun-worker.service", "gpurun-worker.default"} {
		data, err := os.ReadFile(filepath.Join(serviceFolder, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(data)
	}
	return texts[0], texts[1]
}

// TestServiceFlags looks up the flags of the unit, and of the examples beside it.
func TestServiceFlags(t *testing.T) {
	unit, defaults := readService(t)
	lines := regexp.MustCompile(`(?m)^#?(?:ExecStart=.* worker|(?:Environment=)?GPURUN_WORKER_ARGS=)(.*)$`)
	flag := regexp.MustCompile(`--([a-z-]+)`)
	known, found := workerCommand().Flags(), map[string]bool{}
	for _, line := range lines.FindAllStringSubmatch(unit+defaults, -1) {
		for _, match := range flag.FindAllStringSubmatch(line[1], -1) {
			found[match[1]] = true
			if known.Lookup(match[1]) == nil {
				t.Errorf("gpurun worker has no --%s, of %q", match[1], line[0])
			}
		}
	}
	for _, name := range []string{"key", "listen", "join"} {
		if !found[name] {
			t.Errorf("--%s is not there", name)
		}
	}
}

// TestServiceStops looks at whether the service has the time to finish its tiles.
func TestServiceStops(t *testing.T) {
	unit, _ := readService(t)
	match := regexp.MustCompile(`(?m)^TimeoutStopSec=(.*)$`).FindStringSubmatch(unit)
	if match == nil {
		t.Fatal("no TimeoutStopSec=")
	}
	if d, err := time.ParseDuration(match[1]); err != nil || d <= 30*time.Second {
		t.Errorf("TimeoutStopSec=%s: a worker takes up to 30 s to finish its tiles", match[1])
	}
}

// TestServiceVerifies has systemd read the unit, with this program as the command, which
// has to be there.
func TestServiceVerifies(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		testenv.Missing(t, "systemd", "there is no systemd-analyze")
	}
	unit, _ := readService(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "gpurun-worker.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(unit, "/usr/local/bin/gpurun", self)), 0o644); err != nil {
		t.Fatal(err)
	}
	// It says what it does not know, and goes on; and what is wrong with this machine's
	// own units.
	out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "gpurun-worker") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
