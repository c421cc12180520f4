//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestSlurm has two clusters at once, of which nothing is left.
func TestSlurm(t *testing.T) {
	var all []string
	t.Run("clusters", func(t *testing.T) {
		for i := range 2 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				l := New(t, 3)
				s := l.Slurm(t)
				if i == 0 {
					all = namespaces(t, append(s.Nodes, s.Head)...)
				}
				testSlurm(t, s)
			})
		}
	})
	for _, namespace := range all {
		if n := running(t, namespace); n > 0 {
			t.Errorf("%d processes are left", n)
		}
	}
}

func testSlurm(t *testing.T, s *Slurm) {
	// Each task has a GPU of its own.
	said := s.Run(t, "srun", "-N2", "-n4", "--gpus-per-task=1", "sh", "-c", `echo $(hostname) $CUDA_VISIBLE_DEVICES`)
	lines := strings.Split(strings.TrimSpace(said), "\n")
	slices.Sort(lines)
	if want := []string{"n1 0", "n1 1", "n2 0", "n2 1"}; !slices.Equal(lines, want) {
		t.Errorf("there are %q, want %q", lines, want)
	}
	s.WaitState(1, "IDLE")
	// A step outlives the daemon that has started it.
	p := s.Start(t, s.Head, nil, "srun", "-w", "n2", "sh", "-c", "echo begun; sleep 1; echo done")
	p.WaitFor("begun")
	s.Daemon(1).Signal(syscall.SIGKILL)
	p.WaitFor("done")
	s.StartDaemon(1)
	p.Wait()
	s.WaitState(1, "IDLE")
	s.SetState(0, "DOWN")
	if state := s.State(0); state != "DOWN" {
		t.Errorf("the state is %s", state)
	}
	s.SetState(0, "RESUME")
	id := strings.TrimSpace(s.Run(t, "sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap", "exit 3"))
	s.WaitJob(id, "PENDING")
	s.Run(t, "scontrol", "release", id)
	s.WaitJob(id, "FAILED")
}
