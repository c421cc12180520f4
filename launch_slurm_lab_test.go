//go:build linux

package gpurun_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/lab"
)

// slurmNodes is how many nodes the clusters of these tests have.
const slurmNodes = 4

// newSlurm returns a cluster, and the lab that it is in.
func newSlurm(t *testing.T) (*lab.Slurm, *lab.Lab) {
	t.Helper()
	l := lab.New(t, 1+slurmNodes)
	return l.Slurm(t), l
}

// TestSlurm has a cluster of Slurm start the command, without a word about its nodes on the
// command line, and go on when some of it is lost.
func TestSlurm(t *testing.T) {
	newSlurm(t) // where there can be none, nothing needs to be built
	p := buildProgram(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *program)
	}{
		{"launches", testSlurmLaunches},
		{"isolated", testSlurmIsolated},
		{"left behind", testSlurmLeftBehind},
		{"node down", testSlurmNodeDown},
		{"daemon killed", testSlurmDaemonKilled},
		{"rank killed", testSlurmRankKilled},
		{"time up", testSlurmTimeUp},
		{"first node down", testSlurmFirstDown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, p)
		})
	}
}

// slurmLaunches are ways to start processes of the command "$@" on nodes of a cluster. The
// line is for a shell on the head, or for that of a batch if that has options.
var slurmLaunches = []struct {
	name, batch, line string

	// devices is how many processes compute on each node. That of rank 0 does not.
	devices [slurmNodes]int
}{
	{"srun", "", `srun -N4 -n4 "$@"`, [...]int{0, 1, 1, 1}},
	{"srun with ports", "", `SLURM_HOSTFILE="$ORDER" srun --resv-ports=1 -m arbitrary -n4 "$@" --key "$KEY"`, [...]int{1, 1, 0, 1}},
	{"pmi2", "", `srun --mpi=pmi2 -N4 -n4 "$@"`, [...]int{0, 1, 1, 1}},
	{"pmi2 with GPUs", "", `srun --mpi=pmi2 -N4 -n8 --gpus-per-task=1 "$@"`, [...]int{1, 2, 2, 2}},
	{"pmi2 in an order", "", `SLURM_HOSTFILE="$ORDER" srun --mpi=pmi2 -m arbitrary -n4 "$@"`, [...]int{1, 1, 0, 1}},
	{"pmi2 in a batch", "-N4 -n4", `srun --mpi=pmi2 "$@"`, [...]int{0, 1, 1, 1}},
	{"pmi2 on some nodes of a batch", "-N4 -n4", `srun --mpi=pmi2 -N2 -n2 -w n3,n4 "$@"`, [...]int{0, 0, 0, 1}},
	{"pmix", "", `srun --mpi=pmix -N4 --ntasks-per-node=2 "$@"`, [...]int{1, 2, 2, 2}},
	{"mpiexec in a batch", "-N4 -n4", `mpiexec.hydra "$@"`, [...]int{0, 1, 1, 1}},
	{"mpirun", "", `salloc -Q -N4 -n4 mpirun.openmpi --allow-run-as-root "$@"`, [...]int{0, 1, 1, 1}},
	{"mpirun in a batch", "-N4 -n4", `mpirun.openmpi --allow-run-as-root "$@"`, [...]int{0, 1, 1, 1}},
}

func testSlurmLaunches(t *testing.T, p *program) {
	s, _ := newSlurm(t)
	order := filepath.Join(t.TempDir(), "order")
	if err := os.WriteFile(order, []byte("n3\nn1\nn4\nn2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"GPURUN_CACHE=off", "GOMAXPROCS=1", "GPURUN_RENDEZVOUS=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "ORDER=" + order, "KEY=" + p.key}
	for _, launch := range slurmLaunches {
		t.Run(launch.name, func(t *testing.T) {
			if strings.Contains(launch.line, "mpiexec") {
				lookHydra(t)
			}
			if strings.Contains(launch.line, "mpirun") || strings.Contains(launch.line, "pmix") {
				lookOpenMPI(t)
			}
			// Where others take the processors a process may come when all is done.
			const attempts = 4
			for attempt := 1; ; attempt++ {
				command, out := p.image(t, "--json", "--quiet", "--device", "none")
				hosts := hostsOf(t, startSlurm(t, s, env, launch.batch, launch.line, command))
				p.right(t, out)
				var devices [slurmNodes]int
				more := false
				for i, m := range s.Nodes {
					devices[i] = hosts[m.Name]
					more = more || devices[i] > launch.devices[i]
				}
				if devices == launch.devices {
					return
				}
				if more || attempt == attempts {
					t.Fatalf("of the nodes so many devices have done tiles: %v, want %v", devices, launch.devices)
				}
			}
		})
	}
}

// startSlurm has a shell run a line of slurmLaunches, and returns what that said.
func startSlurm(t *testing.T, s *lab.Slurm, env []string, options, line string, command []string) string {
	t.Helper()
	if options == "" {
		c := s.Start(t, s.Head, env, "sh", slices.Concat([]string{"-c", line, "sh"}, command)...)
		if code := c.Wait(); code != 0 {
			t.Fatalf("exit code %d: %s", code, c.Said())
		}
		return c.Said()
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return submit(t, s, env, slices.Concat(strings.Fields(options), []string{script}, command)...).finish(t)
}

// batch is a job that was submitted.
type batch struct {
	s    *lab.Slurm
	id   string
	file string // of what it says
}

// submit submits a batch with these arguments of sbatch, and env besides this process's
// environment.
func submit(t *testing.T, s *lab.Slurm, env []string, args ...string) *batch {
	t.Helper()
	file := filepath.Join(t.TempDir(), "said")
	p := s.Start(t, s.Head, env, "sbatch", slices.Concat([]string{"--parsable", "--output=" + file}, args)...)
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.Said())
	}
	return &batch{s, strings.TrimSpace(p.Said()), file}
}

// said returns what b has said.
func (b *batch) said() string {
	text, _ := os.ReadFile(b.file) // there is none before it begins
	return string(text)
}

// finish waits until b has ended, which has to be without an error, and returns what it said.
func (b *batch) finish(t *testing.T) string {
	t.Helper()
	if state := b.s.WaitJob(b.id, "COMPLETED", "FAILED", "NODE_FAIL", "CANCELLED", "TIMEOUT"); state != "COMPLETED" {
		t.Fatalf("job %s is %s: %s", b.id, state, b.said())
	}
	return b.said()
}
