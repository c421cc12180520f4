//go:build linux

package gpurun_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
)

// step is labView on nodes of a cluster, one process on each. Slurm lets the others go on
// when one is lost.
type step struct {
	*lab.Process // srun
	s            *lab.Slurm
	p            *program
	dir          string // with the id of each process
	out          string
}

func (p *program) step(t *testing.T, s *lab.Slurm, nodes int, more ...string) *step {
	t.Helper()
	dir, n := t.TempDir(), strconv.Itoa(nodes)
	command, out := p.image(t, slices.Concat([]string{"--device", "none", "--log", "text"}, more)...)
	words := slices.Concat([]string{"--mpi=pmi2", "--no-kill", "--wait=0", "--kill-on-bad-exit=0", "-N", n, "-n", n,
		"sh", "-c", `echo $$ >"$0/$SLURM_PROCID"; exec "$@"`, dir}, command)
	return &step{s.Start(t, s.Head, []string{"GPURUN_CACHE=off", "GOMAXPROCS=1"}, "srun", words...), s, p, dir, out}
}

// proc returns the /proc in which the process of a rank is.
func (j *step) proc(rank int) string { return j.s.Nodes[rank].Path("/proc") }

// waitMiddle waits until the process of a rank computes, and returns its id on its node. It
// fails t if the others have done all by then.
func (j *step) waitMiddle(t *testing.T, rank int) int {
	t.Helper()
	j.WaitFor("addr=" + j.s.Nodes[rank].IP + ":") // that it has come
	id := waitBusy(t, j.proc(rank), filepath.Join(j.dir, strconv.Itoa(rank)))
	if j.done() {
		t.Fatal("the job was done before something could be lost")
	}
	return id
}

// done reports whether the output is there.
func (j *step) done() bool {
	_, err := os.Stat(j.out)
	return err == nil
}

// finish waits until srun has ended, whatever it makes of what was lost, and checks the
// output.
func (j *step) finish(t *testing.T) {
	t.Helper()
	code := j.Wait()
	t.Logf("the exit code of srun is %d", code)
	j.p.right(t, j.out)
}

// testSlurmNodeDown has an administrator take a node.
func testSlurmNodeDown(t *testing.T, p *program) {
	s, _ := newSlurm(t)
	j := p.step(t, s, slurmNodes)
	j.waitMiddle(t, 2)
	s.SetState(2, "DOWN")
	j.finish(t)
}

func testSlurmDaemonKilled(t *testing.T, p *program) {
	s, _ := newSlurm(t)
	j := p.step(t, s, slurmNodes)
	j.waitMiddle(t, 2)
	s.Daemon(2).Signal(syscall.SIGKILL)
	j.finish(t)
}

func testSlurmRankKilled(t *testing.T, p *program) {
	s, _ := newSlurm(t)
	j := p.step(t, s, slurmNodes)
	id := j.waitMiddle(t, 2)
	if kill := s.Nodes[2].Start(t, nil, "kill", "-9", strconv.Itoa(id)); kill.Wait() != 0 {
		t.Fatal(kill.Said())
	}
	j.finish(t)
	if !strings.Contains(j.Said(), "Killed") {
		t.Errorf("srun says nothing of it: %s", j.Said())
	}
}

// testSlurmLeftBehind cuts a node off, of which Slurm is told that it is down. Its process
// goes on, and comes back when all is done.
func testSlurmLeftBehind(t *testing.T, p *program) {
	s, l := newSlurm(t)
	j := p.step(t, s, slurmNodes)
	id := j.waitMiddle(t, 2)
	l.Host(3).Unplug() // of node 2, since the head is host 0
	s.SetState(2, "DOWN")
	for !j.done() && !j.Ended() {
		time.Sleep(time.Millisecond)
	}
	if cpuTime(j.proc(2), id) == 0 {
		t.Error("the process that was cut off has ended")
	}
	l.Host(3).Plug()
	j.finish(t)
	for deadline := time.Now().Add(time.Minute); cpuTime(j.proc(2), id) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the process that was cut off does not end")
		}
	}
	p.right(t, j.out)
}

// testSlurmIsolated cuts off the only node that computes until rank 0 has given it up, and
// lets it come back.
func testSlurmIsolated(t *testing.T, p *program) {
	s, l := newSlurm(t)
	j := p.step(t, s, 2, "--tile", "60")
	j.waitMiddle(t, 1)
	l.Host(2).Unplug()
	j.WaitFor("nothing was heard")
	l.Host(2).Plug()
	j.finish(t)
}
