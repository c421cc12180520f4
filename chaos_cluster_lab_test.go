//go:build linux

package gpurun_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

// The hosts of a cluster besides the coordinator's, 0.
var (
	listeners = []int{1, 2, 3, 4}
	joiners   = []int{5, 6}
)

const liarHost, allHosts = 7, 8

// chaosCluster is a lab whose workers live for several rounds.
type chaosCluster struct {
	t       *testing.T
	p       *program
	lab     *lab.Lab
	workers map[int]*chaosWorker // by host
	liar    *lab.Process

	idle map[int]map[string]int // what workers hold when nobody is connected, by host
}

func newChaosCluster(t *testing.T, p *program, seed uint64) *chaosCluster {
	t.Helper()
	c := &chaosCluster{t: t, p: p, lab: lab.New(t, allHosts), workers: map[int]*chaosWorker{}, idle: map[int]map[string]int{}}
	for _, h := range slices.Concat(listeners, joiners) {
		c.work(h)
	}
	settings, err := json.Marshal(gpurun.LyingWorker{Listen: listens(c.lab.Host(liarHost)), KeyFile: p.key, Every: 2, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.liar = c.lab.Host(liarHost).Start(t, []string{"GOMAXPROCS=1", gpurun.LyingVariable + "=" + string(settings)}, program)
	c.liar.WaitFor("listening at")
	return c
}

// environment is that of a process, all of whose temporary files are below dir.
func environment(dir string) []string {
	return []string{"GOMAXPROCS=1", "GPURUN_CACHE=" + filepath.Join(dir, "cache"), "TMPDIR=" + dir}
}

// meeting is where the coordinator listens.
func (c *chaosCluster) meeting() string { return c.lab.Host(0).IP + ":9474" }

// work starts the worker of a host.
func (c *chaosCluster) work(host int) {
	c.t.Helper()
	h := c.lab.Host(host)
	args, ready := []string{"worker", "--device", "cpu", "--metrics", metricsAt, "--key", c.p.key, "--listen", listens(h)}, "listening at"
	if slices.Contains(joiners, host) {
		args[len(args)-2], args[len(args)-1], ready = "--join", c.meeting(), "joining"
	}
	dir := c.t.TempDir()
	w := &chaosWorker{Process: h.Start(c.t, environment(dir), c.p.path, args...), host: h, dir: dir, metrics: metricsAt}
	w.WaitFor(ready)
	if c.idle[host] == nil { // later ones may have a coordinator by now
		c.idle[host] = w.leastOf(c.t, 5)
	}
	w.idle = c.idle[host]
	c.workers[host] = w
}

// small has the coordinator's host run a small job, which must succeed.
func (c *chaosCluster) small(args ...string) {
	c.t.Helper()
	dir := c.t.TempDir()
	args = append([]string{"mandel", "--device", "none", "--quiet", "--size", "60x40", "--key", c.p.key, "-o", filepath.Join(dir, "small.npy")}, args...)
	if p := c.lab.Host(0).Start(c.t, environment(dir), c.p.path, args...); p.Wait() != 0 {
		c.t.Fatalf("the workers do not take the next job, %v: %s", args, p.Said())
	}
}

// next has each of these hosts compute a small job.
func (c *chaosCluster) next(hosts []int) {
	c.t.Helper()
	joined := false
	for _, h := range hosts {
		if slices.Contains(listeners, h) {
			c.small("--hosts", listens(c.lab.Host(h)))
		} else if !joined {
			joined = true
			c.small("--listen", c.meeting(), "--wait", "1m")
		}
	}
}

// end ends all workers and compares their goroutines with those of one that has only
// had a small job.
func (c *chaosCluster) end() {
	c.t.Helper()
	const one = 1
	stacks := map[int][]string{}
	for h, w := range c.workers {
		c.t.Logf("%s has %d threads and %d MiB", w.Name(), w.Threads(), w.Resident()>>20)
		stacks[h] = w.Goroutines()
	}
	c.work(one)
	c.next([]int{one})
	settle(c.t, []*chaosWorker{c.workers[one]})
	fresh := origins(c.workers[one].Goroutines())
	for _, h := range listeners {
		for from, n := range origins(stacks[h]) {
			if n > fresh[from] {
				c.t.Errorf("%s has %d goroutines that were %s, and a fresh worker %d", c.workers[h].Name(), n, from, fresh[from])
			}
		}
	}
	c.workers[one] = nil
	c.liar.Signal(syscall.SIGKILL)
	c.liar.Wait()
}
