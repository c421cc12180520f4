package gpurun

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist/launch"
)

// machine returns what device.OpenSome tells of a machine with n GPUs.
func machine(n int) []device.Info {
	all := []device.Info{{ID: "cpu", Kind: device.CPU}}
	for i := range n {
		all = append(all, device.Info{
			ID: fmt.Sprintf("ocl:0.%d", i), Kind: device.GPU, Vendor: "nvidia", UUID: fmt.Sprintf("%08d-0000-0000-0000-000000000000", i),
		})
	}
	return all
}

// launchHere returns the processes of a command on one machine, of which this process plays
// each. They have a folder of temporary files of their own, and no variables of GPUs.
func launchHere(t *testing.T, processes int) []*Launch {
	t.Helper()
	for _, name := range []string{"CUDA_VISIBLE_DEVICES", "SLURM_GPUS_ON_NODE"} {
		t.Setenv(name, "") // and back again
		os.Unsetenv(name)
	}
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, t.TempDir())
	}
	var all []*Launch
	for i := range processes {
		l := &Launch{Launcher: "test", Rank: i, Size: processes, LocalRank: i, LocalSize: processes}
		t.Cleanup(l.release)
		all = append(all, l)
	}
	return all
}

// pickFor returns the devices of l, and what it says in the log.
func pickFor(l *Launch, all []device.Info, chosen []string, auto bool) (picked []string, said string, err error) {
	var log bytes.Buffer
	gpus := openCLDevices(all, chosen)
	share := launch.ShareGPUs(os.LookupEnv, l.LocalRank, l.LocalSize, gpus)
	picked, err = l.pick(share, gpus, chosen, auto, slog.New(slog.NewTextHandler(&log, nil)))
	return picked, log.String(), err
}

// TestPick has processes that were given the same GPUs share them, with the CPU for those
// that get none.
func TestPick(t *testing.T) {
	gpus := []string{"ocl:0.0", "ocl:0.1"}
	launched := launchHere(t, 3)
	for _, test := range []struct {
		name   string
		chosen []string
		auto   bool
		want   []string
	}{
		{"auto", gpus, true, []string{"[ocl:0.0]", "[ocl:0.1]", "[cpu]"}},
		{"gpu", gpus, false, []string{"[ocl:0.0]", "[ocl:0.1]", "error"}},
		{"all", append([]string{"cpu"}, gpus...), false, []string{"[cpu ocl:0.0]", "[cpu ocl:0.1]", "[cpu]"}},
		{"an id", gpus[1:], true, []string{"[ocl:0.1]", "[cpu]", "[cpu]"}},
		{"cpu", []string{"cpu"}, false, []string{"[cpu]", "[cpu]", "[cpu]"}},
		{"none", nil, false, []string{"[]", "[]", "[]"}},
	} {
		for i, l := range launched {
			picked, _, err := pickFor(l, machine(2), test.chosen, test.auto)
			got := fmt.Sprint(picked)
			if err != nil {
				got = "error"
				if !errors.Is(err, ErrDevice) || !strings.Contains(err.Error(), "local rank") {
					t.Errorf("%s: %v", test.name, err)
				}
			}
			if got != test.want[i] {
				t.Errorf("%s: local rank %d uses %s, not %s", test.name, i, got, test.want[i])
			}
			l.release()
		}
	}
}

// TestLaunchChoices has rank 0 leave the computing to the others, those on its machine and
// those on another one.
func TestLaunchChoices(t *testing.T) {
	none, gpu := []string{"none"}, []string{"gpu"}
	for _, test := range []struct {
		rank, localRank, localSize int
		devices, own               []string
		wantRank, wantSize         int
	}{
		{0, 0, 3, none, none, 0, 3},
		{1, 1, 3, none, nil, 0, 2},
		{2, 2, 3, none, nil, 1, 2},
		{3, 0, 3, none, nil, 0, 3},
		{4, 1, 3, none, nil, 1, 3},
		{1, 1, 3, gpu, gpu, 1, 3},
		{1, 1, 3, nil, nil, 1, 3},
	} {
		l := &Launch{Rank: test.rank, Size: 6, LocalRank: test.localRank, LocalSize: test.localSize}
		own, rank, size := l.choices(test.devices)
		if !slices.Equal(own, test.own) || rank != test.wantRank || size != test.wantSize {
			t.Errorf("rank %d, %v: %v as %d of %d", test.rank, test.devices, own, rank, size)
		}
	}
}

// TestPickLocked has a process think that a device is its own which another one has.
func TestPickLocked(t *testing.T) {
	launched := launchHere(t, 2)
	t.Setenv("CUDA_VISIBLE_DEVICES", "0")
	first, second, gpus := launched[0], launched[1], []string{"ocl:0.0"}
	if picked, said, err := pickFor(first, machine(1), gpus, true); err != nil || !slices.Equal(picked, gpus) || strings.Contains(said, "WARN") {
		t.Fatalf("%v, %v, %s", picked, err, said)
	}
	holder := first.process()
	if runtime.GOOS == "windows" { // where nobody can read what is locked
		holder = "another process"
	}
	picked, said, err := pickFor(second, machine(1), gpus, true)
	if err != nil || !slices.Equal(picked, []string{"cpu"}) || !strings.Contains(said, holder) {
		t.Errorf("%v, %v, %s", picked, err, said)
	}
	if picked, _, err := pickFor(second, machine(1), gpus, false); !errors.Is(err, ErrDevice) || !strings.Contains(err.Error(), holder) {
		t.Errorf("%v, %v", picked, err)
	}
	first.release()
	if picked, _, err := pickFor(second, machine(1), gpus, false); err != nil || !slices.Equal(picked, gpus) {
		t.Errorf("released: %v, %v", picked, err)
	}
}

// TestPickUnlocked has no folder for locks. Then what the launcher has said counts.
func TestPickUnlocked(t *testing.T) {
	gpus := []string{"ocl:0.0", "ocl:0.1"}
	for name, spoil := range map[string]func(tmp, dir string) error{
		"no temporary files": func(tmp, _ string) error { return os.RemoveAll(tmp) },
		"a file":             func(_, dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"others may write":   func(_, dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) },
		"a link":             func(tmp, dir string) error { return os.Symlink(tmp, dir) },
	} {
		if runtime.GOOS == "windows" && name != "no temporary files" {
			continue
		}
		launched := launchHere(t, 2)
		if err := spoil(os.TempDir(), filepath.Join(os.TempDir(), fmt.Sprintf("gpurun-devices-%d", os.Geteuid()))); err != nil {
			t.Fatal(err)
		}
		for i, l := range launched {
			picked, said, err := pickFor(l, machine(2), gpus, true)
			if err != nil || !slices.Equal(picked, gpus[i:i+1]) || !strings.Contains(said, "WARN") {
				t.Errorf("%s: local rank %d: %v, %v, %s", name, i, picked, err, said)
			}
		}
	}
}

// TestPickOverlap has four processes that share GPUs by twos.
func TestPickOverlap(t *testing.T) {
	launched := launchHere(t, 4)
	t.Setenv("SLURM_GPUS_ON_NODE", "4")
	used := map[string]int{}
	for i, list := range []string{"2,3", "0,1", "2,3", "0,1"} {
		t.Setenv("CUDA_VISIBLE_DEVICES", list)
		picked, said, err := pickFor(launched[i], machine(4), []string{"ocl:0.0", "ocl:0.1", "ocl:0.2", "ocl:0.3"}, true)
		if err != nil || len(picked) != 1 {
			t.Errorf("local rank %d: %v, %v, %s", i, picked, err, said)
		}
		used[picked[0]]++
	}
	if len(used) != 4 || used["cpu"] != 0 {
		t.Errorf("%v", used)
	}
}

// TestLockNames has what devices are called where locks are files.
func TestLockNames(t *testing.T) {
	if got := fileName("ocl:0-cpu-ocl:0.1/..\\ü"); got != "ocl_0-cpu-ocl_0.1_..__.lock" {
		t.Error(got)
	}
}
