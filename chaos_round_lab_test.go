//go:build linux

package gpurun_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

// hangLimit is what no job of a round takes. It is no measure of anything.
const hangLimit = 2 * time.Minute

// idleLimit is after what time without any computation the next event happens.
const idleLimit = 3 * time.Second

// round is a plan that is carried out.
type round struct {
	*plan
	t *testing.T
	c *chaosCluster

	name      string    // of the output
	temporary string    // the folder of its temporary files
	disk      *lab.Disk // has the folder of the output; nil if that is on the disk of all
	full      bool      // the disk is
	relays    map[int]*lab.Relay
	loopback  []*chaosWorker // workers of the coordinator's host

	args        []string       // the coordinator's
	dialled     []string       // the hosts that it dials
	coordinator *lab.Process   // the last
	began       time.Time      // when that was started
	struck      *lab.Process   // the last coordinator that was killed or interrupted
	started     []*lab.Process // the coordinators
	ends        []string       // of those that others followed
	done        float64        // the part of the job that these have left

	base, used map[*lab.Process]time.Duration // before the job, and last seen
	happened   []*happening
	exit       string // how it ended, once all has been checked
	seconds    float64
}

// happening is an event that has happened.
type happening struct {
	event
	when   time.Time
	revert func() // undoes it; nil if it has been, or cannot be
}

// newRound returns a round of c, which has not begun.
func (c *chaosCluster) newRound(t *testing.T, p *plan) *round {
	dir := t.TempDir()
	return &round{plan: p, t: t, c: c, name: filepath.Join(dir, "out", "out.npy"), temporary: filepath.Join(dir, "temporary"), relays: map[int]*lab.Relay{}, exit: "FAILED",
		base: map[*lab.Process]time.Duration{}, used: map[*lab.Process]time.Duration{}}
}

// run carries the plan out. Whatever has to be as before is so afterwards.
func (r *round) run(seed uint64) {
	t, c, p := r.t, r.c, r.plan
	c.lab.Reseed(seed)
	for _, dir := range []string{filepath.Dir(r.name), r.temporary} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	args, right := p.job.prepare(t, c.p, r.name)
	if r.has("full disk") {
		// For an output, what is kept of it, and those of a coordinator before.
		r.disk = c.lab.Host(0).Disk(t, filepath.Dir(r.name), 3*r.job.bytes()+1<<20)
	}
	for _, h := range joiners {
		if !slices.Contains(p.joins, h) {
			c.lab.Host(h).Unplug()
		}
	}
	pending := slices.Clone(p.events)
	for len(pending) > 0 && pending[0].at == before {
		r.happen(pending[0])
		pending = pending[1:]
	}
	r.args = append(args, r.flags()...)
	for _, p := range r.workers() {
		r.base[p] = p.Used()
	}
	began := time.Now()
	r.start()
	r.wait(pending, right)
	r.seconds = time.Since(began).Seconds()
	exit := r.check(right)
	r.repair()
	c.settle()
	settle(t, r.loopback)
	r.checkLeft()
	for _, w := range r.loopback {
		w.Signal(syscall.SIGKILL)
		w.Wait()
	}
	c.next(append(slices.Clone(p.listens), p.joins...))
	r.exit = exit
}

// flags returns how the coordinator finds its devices.
func (r *round) flags() []string {
	flags := []string{"--quiet", "--json", "--device", "none"}
	if r.own {
		flags[3] = "cpu"
	}
	hosts := r.addresses()
	if !r.plain {
		flags = append(flags, "--key", r.c.p.key)
	}
	if r.liar {
		hosts = append(hosts, listens(r.c.lab.Host(liarHost)))
		flags = append(flags, "--verify=100%")
	}
	if r.dialled = hosts; len(hosts) > 0 {
		flags = append(flags, "--hosts", strings.Join(hosts, ","))
	}
	if len(r.joins) > 0 {
		flags = append(flags, "--listen", r.c.meeting())
	}
	if r.kept {
		flags = append(flags, "--state", filepath.Join(filepath.Dir(r.name), stateFolder))
	}
	if r.tiles != "" {
		flags = append(flags, "--tile", r.tiles)
	}
	if r.plan.wait > 0 {
		flags = append(flags, "--wait", r.plan.wait.String())
	}
	return flags
}

// addresses returns where the coordinator dials, and starts what has to be there.
func (r *round) addresses() (hosts []string) {
	const loopback = "127.0.0.1"
	if r.plain {
		for i := range 2 {
			at := fmt.Sprintf("%s:%d", loopback, 9475+i)
			h, dir, metrics := r.c.lab.Host(0), r.t.TempDir(), fmt.Sprintf("%s:%d", loopback, 9481+i)
			p := h.Start(r.t, environment(dir), r.c.p.path, "worker", "--device", "cpu", "--metrics", metrics, "--listen", at)
			p.WaitFor("listening at")
			w := &chaosWorker{Process: p, host: h, dir: dir, metrics: metrics}
			w.idle = w.leastOf(r.t, 5)
			r.loopback = append(r.loopback, w)
			hosts = append(hosts, at)
		}
		r.relays[0] = r.c.lab.Host(0).Relay(r.t, loopback, hosts[0])
		hosts[0] = r.relays[0].Addr
	}
	for _, i := range r.listens {
		h := r.c.lab.Host(i)
		at := listens(h)
		if slices.Contains(r.relayed, i) {
			r.relays[i] = h.Relay(r.t, h.IP, at)
			at = r.relays[i].Addr
		}
		hosts = append(hosts, at)
	}
	return hosts
}

// start starts a coordinator.
func (r *round) start() {
	env := environment(r.temporary)
	if r.disk != nil {
		r.coordinator = r.disk.Start(r.t, env, r.c.p.path, r.args...)
	} else {
		r.coordinator = r.c.lab.Host(0).Start(r.t, env, r.c.p.path, r.args...)
	}
	r.started = append(r.started, r.coordinator)
	r.began = time.Now()
}

// workers returns the processes that compute for the coordinator.
func (r *round) workers() (all []*lab.Process) {
	for _, h := range append(slices.Clone(r.listens), r.joins...) {
		all = append(all, r.c.workers[h].Process)
	}
	if r.liar {
		all = append(all, r.c.liar)
	}
	for _, w := range r.loopback {
		all = append(all, w.Process)
	}
	return all
}

// wait has things happen until the coordinator has ended, and none is to follow it. They
// are undone after a time, since nothing may be computed until they are.
func (r *round) wait(pending []event, right func([]byte) bool) {
	moved, last := time.Now(), time.Duration(0)
	for {
		if r.coordinator.Ended() {
			if !r.kept || r.coordinator.Wait() == 0 {
				return
			}
			r.resume(right)
		}
		if time.Since(r.began) > hangLimit {
			r.hang()
		}
		used := r.computed()
		if used > last {
			last, moved = used, time.Now()
		}
		if len(pending) > 0 && (used >= pending[0].at || time.Since(moved) > idleLimit) {
			r.happen(pending[0])
			pending, moved = pending[1:], time.Now()
		}
		for _, h := range r.happened {
			// A worker that ends by itself waits for a coordinator, which may have to go on first.
			ends := h.kind == "terminate" && !r.process(h.host).Ended()
			if h.undo > 0 && time.Since(h.when) >= h.undo && !ends {
				h.end()
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// computed returns the processors' time that the job has taken so far.
func (r *round) computed() (sum time.Duration) {
	for _, p := range append(r.workers(), r.coordinator) {
		r.used[p] = max(r.used[p], p.Used()-r.base[p])
	}
	for _, used := range r.used {
		sum += used
	}
	return sum
}

// hang ends all processes, with their stacks.
func (r *round) hang() {
	r.t.Helper()
	for _, p := range append(r.workers(), r.coordinator) {
		if p.TrySignal(syscall.SIGQUIT) {
			p.TrySignal(syscall.SIGCONT)
			p.Wait()
		}
	}
	r.t.Fatalf("the job does not end within %v", hangLimit)
}

// report is what the coordinator prints when it succeeds.
func (r *round) report() *gpurun.Report {
	report := new(gpurun.Report)
	if err := json.Unmarshal([]byte(r.coordinator.Said()), report); err != nil {
		r.t.Fatalf("the report: %v: %s", err, r.coordinator.Said())
	}
	return report
}
