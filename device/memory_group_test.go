//go:build linux

package device

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// TestMemoryOfGroup has a process in a control group, as in a container, which has less
// memory than the machine.
func TestMemoryOfGroup(t *testing.T) {
	const limit, variable = 512 << 20, "GPURUN_TEST_GROUP"
	if group := os.Getenv(variable); group != "" { // this is that process
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("total=%d\n", TotalMemory())
		return
	}
	if all := TotalMemory(); all <= limit {
		testenv.Missing(t, "cgroup", fmt.Sprintf("there are %d bytes of memory only", all))
	}
	group := newMemoryGroup(t, limit)
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryOfGroup$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"="+group)
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("total=%d\n", limit); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: want %s in %s", err, want, out)
	}
}

// newMemoryGroup makes a control group whose processes have limit bytes of memory, below the
// root of version 2 or, where memory belongs to that, of version 1.
func newMemoryGroup(t *testing.T, limit int) (group string) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	parent, file := root, "memory.max"
	if _, err := os.Stat(root + "/memory"); err == nil {
		parent, file = root+"/memory", "memory.limit_in_bytes"
	}
	group, err := os.MkdirTemp(parent, "gpurun-test-")
	if err == nil {
		t.Cleanup(func() {
			if err := os.Remove(group); err != nil {
				t.Error(err)
			}
		})
		err = os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(limit)), 0)
	}
	if err != nil {
		testenv.Missing(t, "cgroup", "no control group with a limit of memory can be made: "+err.Error())
	}
	return group
}
