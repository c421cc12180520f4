//go:build linux

package gpurun_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

var kills = flag.Int("kills", 4, "how often TestCoordinatorKilled kills a coordinator")

// keptJob is a command that is killed again and again, and its right output.
type keptJob struct {
	name, output string
	args         []string
	want         []byte
	alone        time.Duration // of the workers' processors, where nobody is killed
}

// TestCoordinatorKilled kills the coordinator of jobs with --state at random instants, from
// its first to its last, with SIGKILL, and runs the same command again until it is done. The
// output has the right bits, and beside it there is nothing but the state. It tells how much
// of the workers' time was lost with each coordinator: no tile whose result had been put
// is computed again, so that is the tiles in flight.
func TestCoordinatorKilled(t *testing.T) {
	l := lab.New(t, 3)
	p := buildProgram(t)
	rng := randomSource(t)
	workers, addrs := p.workers(t, l, 2)
	dir := t.TempDir()
	jobs := []*keptJob{
		{name: "image", output: "image.npy", args: append([]string{"mandel"}, labView...)},
		{name: "picture", output: "picture.png", args: append([]string{"mandel", "--tile", "100"}, labView...)},
		{name: "product", output: "product.npy", args: []string{"matmul", filepath.Join(dir, "a.npy"), filepath.Join(dir, "b.npy")}},
	}
	saveMatrix(t, filepath.Join(dir, "a.npy"), newDense(900, 1500, 0, rng.Float64), false)
	saveMatrix(t, filepath.Join(dir, "b.npy"), newDense(1500, 1100, 0, rng.Float64), false)
	for _, j := range jobs {
		right := filepath.Join(dir, "right-"+j.output)
		args := slices.Concat(j.args, []string{"--device", "cpu", "--quiet", "-o", right})
		if out, err := exec.Command(p.path, args...).CombinedOutput(); err != nil {
			t.Fatalf("compute the right result: %v\n%s", err, out)
		}
		var err error
		if j.want, err = os.ReadFile(right); err != nil {
			t.Fatal(err)
		}
		j.args = slices.Concat(j.args, []string{"--device", "none", "--key", p.key, "--hosts", addrs})
		before := used(workers)
		c := p.start(t, l.Host(0), slices.Concat(j.args, []string{"-o", filepath.Join(dir, j.output)})...)
		if code := c.Wait(); code != 0 {
			t.Fatalf("exit code %d: %s", code, c.Said())
		}
		j.alone = used(workers) - before
	}
	for done, i := 0, 0; done < *kills; i++ {
		done += p.killAgain(t, l.Host(0), jobs[i%len(jobs)], workers, rng)
	}
}

// used returns the processors' time that all have used.
func used(all []*lab.Process) (sum time.Duration) {
	for _, p := range all {
		sum += p.Used()
	}
	return sum
}

// killAgain runs j on h, kills it, and runs it again, until it is done. It returns how often
// it was killed.
func (p *program) killAgain(t *testing.T, h *lab.Host, j *keptJob, workers []*lab.Process, rng *rand.Rand) (times int) {
	t.Helper()
	dir := t.TempDir()
	out, state := filepath.Join(dir, j.output), filepath.Join(dir, "state")
	before, began := used(workers), time.Now()
	var kept []string
	for {
		c := p.start(t, h, slices.Concat(j.args, []string{"-o", out, "--state", state})...)
		// It may be anywhere then: starting, looking at what is kept, computing, writing the
		// output, or done.
		at := time.Duration(rng.Float64() * float64(max(j.alone, time.Second)))
		if c.WaitAtMost(at) {
			if code := c.Wait(); code != 0 {
				t.Fatalf("%s: exit code %d: %s", j.name, code, c.Said())
			}
			break
		}
		c.Signal(syscall.SIGKILL)
		c.Wait()
		times++
		if s, err := gpurun.ReadState(state); err == nil {
			kept = append(kept, fmt.Sprintf("%.0f %%", 100*s.Done))
		} else {
			kept = append(kept, "nothing")
		}
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, j.want) {
		t.Errorf("%s: after %d kills the result differs", j.name, times)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%s: beside the output and the state there is something: %v (%v)", j.name, entries, err)
	}
	if s, err := gpurun.ReadState(state); err != nil || !s.Finished {
		t.Errorf("%s: the state is %+v (%v)", j.name, s, err)
	}
	lost := 0.
	if times > 0 {
		lost = (used(workers) - before - j.alone).Seconds() / float64(times)
	}
	t.Logf("%-8s killed %d times, at %s done; %.1f s in all, of the workers' time %.2f s a kill more than the %.2f s without",
		j.name, times, strings.Join(kept, ", "), time.Since(began).Seconds(), lost, j.alone.Seconds())
	return times
}
