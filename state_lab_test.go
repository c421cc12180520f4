//go:build linux

package gpurun_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	costs        costs

	alone    time.Duration // of the workers' processors, where nobody is killed
	took     time.Duration // from its beginning to its end, likewise
	longest  time.Duration // of its tiles
	together int           // how many of its tiles all workers compute at a time, at most
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
	of := map[string]costs{"image": viewCosts(t, p.want), "picture": viewCosts(t, p.want), "product": evenCosts(1100, 900)}
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
		j.costs = of[j.name]
		j.args = slices.Concat(j.args, []string{"--device", "none", "--key", p.key, "--hosts", addrs})
		trace := filepath.Join(dir, "trace")
		before, began := used(workers), time.Now()
		c := p.start(t, l.Host(0), slices.Concat(j.args, []string{"-o", filepath.Join(dir, j.output), "--trace", trace})...)
		if code := c.Wait(); code != 0 {
			t.Fatalf("exit code %d: %s", code, c.Said())
		}
		j.alone, j.took = used(workers)-before, time.Since(began)
		part, together := j.costs.readComputing(t, trace)
		j.longest, j.together = time.Duration(part*float64(j.alone)), together
	}
	var all []kill
	count := map[*keptJob]int{}
	for len(all) < *kills {
		j := slices.MinFunc(jobs, func(a, b *keptJob) int { return count[a] - count[b] })
		more := p.killAgain(t, l.Host(0), j, workers, rng)
		count[j] += max(1, len(more))
		all = append(all, more...)
	}
	t.Logf("%d kills\n%s", len(all), killTable(jobs, all))
}

// used returns the processors' time that all have used.
func used(all []*lab.Process) (sum time.Duration) {
	for _, p := range all {
		sum += p.Used()
	}
	return sum
}

// killAgain runs j on h, kills it, and runs it again, until it is done.
func (p *program) killAgain(t *testing.T, h *lab.Host, j *keptJob, workers []*lab.Process, rng *rand.Rand) (all []kill) {
	t.Helper()
	dir := t.TempDir()
	out, state := filepath.Join(dir, j.output), filepath.Join(dir, "state")
	var kept keptTiles
	for {
		before := used(workers)
		c := p.start(t, h, slices.Concat(j.args, []string{"-o", out, "--state", state})...)
		ended := waitToKill(c, j, state, rng) || !c.TrySignal(syscall.SIGKILL)
		code := c.Wait()
		if code == 0 { // also where the signal came too late
			break
		}
		if ended || code > 0 {
			t.Fatalf("%s: exit code %d: %s", j.name, code, c.Said())
		}
		now := readKept(t, state)
		put, began := j.costs.of(now.tiles)-j.costs.of(kept.tiles), true
		if now.id != kept.id { // there was none, or that was finished
			put = j.costs.of(now.tiles)
		} else {
			began = now.runs > kept.runs
		}
		redone := used(workers) - before - time.Duration(put*float64(j.alone))
		all = append(all, kill{j, stageOf(t, state, began), redone})
		kept = now
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, j.want) {
		t.Errorf("%s: after %d kills the result differs", j.name, len(all))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%s: beside the output and the state there is something: %v (%v)", j.name, entries, err)
	}
	if s, err := gpurun.ReadState(state); err != nil || !s.Finished {
		t.Errorf("%s: the state is %+v (%v)", j.name, s, err)
	}
	for _, k := range all {
		t.Logf("%-8s killed while %s: of the workers' time %.2f s redone", j.name, k.stage, k.redone.Seconds())
	}
	return all
}

// waitToKill waits until c, which runs j, is to be killed, or has ended, and reports whether
// it has. That is at any time, or now and then when all is computed, which lasts for a moment.
func waitToKill(c *lab.Process, j *keptJob, state string, rng *rand.Rand) (ended bool) {
	at := time.Duration(rng.Float64() * float64(j.took))
	if rng.IntN(4) > 0 {
		return c.WaitAtMost(at)
	}
	extra := time.Duration(rng.IntN(10)) * time.Millisecond
	for !c.WaitAtMost(time.Millisecond) {
		if s, err := gpurun.ReadState(state); err == nil && s.Done == 1 && s.Holder != "" {
			return c.WaitAtMost(extra)
		}
	}
	return true
}
