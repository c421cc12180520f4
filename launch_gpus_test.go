//go:build linux

package gpurun_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// ownDevices is what each process of a launch says of its devices.
var ownDevices = regexp.MustCompile(`msg="devices of this process" (?:rank=(\d+) )?devices="?\[([^\]]*)\]`)

// TestMpiexecGPUs has mpiexec start processes on this machine, of which two of PoCL's
// devices are the GPUs.
func TestMpiexecGPUs(t *testing.T) {
	path, err := exec.LookPath("mpiexec.hydra")
	if err != nil {
		testenv.Missing(t, "mpiexec", "MPICH's mpiexec.hydra is not installed")
	}
	devices, _ := gpurun.AllDevices()
	if !slices.ContainsFunc(devices, func(d gpurun.Device) bool { return d.ID == "ocl:0.0" }) {
		testenv.Missing(t, "opencl", "there is no OpenCL device here")
	}
	if p := devices[1]; p.Kind != "cpu" {
		t.Skipf("POCL_DEVICES means nothing to %s", p.Driver)
	}
	p := buildProgram(t)
	for _, test := range []struct {
		name  string
		lists []string // CUDA_VISIBLE_DEVICES of each process: "-" if it is not set
		want  []string // its devices
	}{
		{"one list each", []string{"0", "1"}, []string{"cpu ocl:0.0", "cpu ocl:0.1"}},
		{"one list each, the other way round", []string{"1", "0"}, []string{"cpu ocl:0.1", "cpu ocl:0.0"}},
		{"one list for all", []string{"0,1", "0,1"}, []string{"cpu ocl:0.0", "cpu ocl:0.1"}},
		{"no list", []string{"-", "-"}, []string{"cpu ocl:0.0", "cpu ocl:0.1"}},
		{"no list, fewer GPUs", []string{"-", "-", "-"}, []string{"cpu ocl:0.0", "cpu ocl:0.1", "cpu"}},
		{"the same GPU", []string{"1", "1"}, []string{"cpu ocl:0.1", "cpu"}},
		{"hidden", []string{"", ""}, []string{"cpu", "cpu"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			command, out := p.image(t, "--log", "text", "--device", "cpu,opencl")
			var args []string
			for _, list := range test.lists {
				args = append(args, ":", "-n", "1")
				if list != "-" {
					args = append(args, "-env", "CUDA_VISIBLE_DEVICES", list)
				}
				args = append(args, command...)
			}
			cmd := exec.CommandContext(t.Context(), path, args[1:]...)
			cmd.Env = slices.DeleteFunc(os.Environ(), func(setting string) bool {
				return strings.HasPrefix(setting, "CUDA_VISIBLE_DEVICES=") || strings.HasPrefix(setting, "SLURM_")
			})
			// On large machines too, rank 0 is not to be done before the others have looked at its device.
			cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "POCL_MAX_PTHREAD_COUNT=1")
			cmd.Env = append(cmd.Env, "POCL_DEVICES=pthread pthread", "GPURUN_CACHE=off", "TMPDIR="+t.TempDir())
			said, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			p.right(t, out)
			got := make([]string, len(test.lists))
			for _, m := range ownDevices.FindAllStringSubmatch(string(said), -1) {
				rank, _ := strconv.Atoi(m[1]) // rank 0 does not say it
				got[rank] = m[2]
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the processes have %q, not %q: %s", got, test.want, said)
			}
		})
	}
}
