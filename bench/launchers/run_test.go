//go:build linux

package launchers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

// victim is the rank of the process that is slowed or killed: it computes, and is on
// another host than rank 0 and 2, as Hydra ends all on the host of one that dies.
const victim = 1

// setting is how a contestant is run.
type setting struct {
	processes int
	slowed    bool          // the victim is
	killed    time.Duration // the computing after which it is killed; 0 for never
}

// run is one run of a contestant, and what it took.
type run struct {
	wall      float64 // seconds from the start of the launcher to its end
	makespan  float64 // seconds from the first computing to the last
	busy      float64 // seconds of computing, of all processes
	computing int     // processes that computed anything
	cpu       float64 // seconds of processors, of all processes
	others    float64 // the part of the processors' time that other processes took

	code       int
	afterwards float64 // seconds from the kill to the end
	outcome    string
}

// What there is where the image of a run of which a process was killed should be.
const right, none, other = "the right image", "no image", "another image"

// run runs a contestant. Where nobody is killed it fails t unless the image is right.
func (x *bench) run(t testing.TB, c *contestant, s setting) (r run) {
	t.Helper()
	x.clean(t)
	out := filepath.Join(x.folder, "image.npy")
	command, env := x.mpiexec(c, s.processes, out)
	began, before := time.Now(), startClock(t)
	p := x.hosts[0].Start(t, append(x.env(), env...), command[0], command[1:]...)
	id := fmt.Sprintf("%s.%d", x.processID(), victim)
	var killed time.Time
	switch {
	case s.killed > 0:
		killed = kill(t, p, id, s.killed)
	case s.slowed:
		slow(t, p, id)
	}
	r.code = p.Wait()
	r.wall = time.Since(began).Seconds()
	clock := startClock(t).since(before)
	if s.killed > 0 {
		r.afterwards = time.Since(killed).Seconds()
		r.outcome = x.outcome(t, out)
		return r
	}
	if r.code != 0 {
		t.Fatalf("%s: exit code %d: %s", c.name, r.code, p.Said())
	}
	if !bytes.Equal(x.countsOf(t, out), x.want) {
		t.Fatalf("%s: the image is another", c.name)
	}
	if c.openMPI {
		x.told(t, &r)
	} else {
		reported(t, &r, p.Said())
		r.cpu = clock.children.Seconds()
	}
	r.others = clock.others(r.cpu)
	return r
}

// clean removes what processes of an earlier run have left.
func (x *bench) clean(t testing.TB) {
	t.Helper()
	for _, pattern := range []string{x.processID() + ".*", filepath.Join(x.folder, "busy.*"), filepath.Join(x.folder, "image.npy")} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// outcome says what there is where the image should be.
func (x *bench) outcome(t testing.TB, name string) string {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		return none
	}
	if !bytes.Equal(x.countsOf(t, name), x.want) {
		return other
	}
	return right
}

// reported takes what gpurun says of a run.
func reported(t testing.TB, r *run, said string) {
	t.Helper()
	var report gpurun.Report
	if err := json.NewDecoder(strings.NewReader(said[max(0, strings.Index(said, "{")):])).Decode(&report); err != nil {
		t.Fatalf("the report: %v: %s", err, said)
	}
	r.makespan = report.Makespan
	for _, d := range report.Devices {
		r.busy += d.BusySeconds
		if d.Tiles > 0 {
			r.computing++
		}
	}
}

// told takes what the processes in Python have noted, see python/kernel.py. The gathering
// is not in their makespan, as its results go to rank 0 after the last chunk.
func (x *bench) told(t testing.TB, r *run) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(x.folder, "busy.*"))
	if err != nil {
		t.Fatal(err)
	}
	first, last := 0.0, 0.0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var noted struct {
			Busy [][2]float64
			CPU  float64
		}
		if err := json.Unmarshal(text, &noted); err != nil {
			t.Fatal(err)
		}
		// Open MPI's launcher does not wait for what it has started on other hosts, so that
		// the system does not count that to it.
		r.cpu += noted.CPU
		if len(noted.Busy) == 0 {
			continue
		}
		r.computing++
		for _, c := range noted.Busy {
			r.busy += c[1] - c[0]
			if first == 0 || c[0] < first {
				first = c[0]
			}
			last = max(last, c[1])
		}
	}
	r.makespan = last - first
}

// kill kills the process whose id is in a file when it has used so much of the processors'
// time, and returns when that was.
func kill(t testing.TB, p *lab.Process, file string, after time.Duration) time.Time {
	t.Helper()
	id := waitID(t, p, file)
	for used(id) < after && !p.Ended() {
		time.Sleep(time.Millisecond)
	}
	// It may have ended by itself.
	_ = syscall.Kill(id, syscall.SIGKILL)
	return time.Now()
}

// slow has the process whose id is in a file run and stand still by turns until p ends.
func slow(t testing.TB, p *lab.Process, file string) {
	t.Helper()
	id := waitID(t, p, file)
	for !p.Ended() {
		// Errors are that it has ended.
		_ = syscall.Kill(id, syscall.SIGSTOP)
		p.WaitAtMost(standing)
		_ = syscall.Kill(id, syscall.SIGCONT)
		p.WaitAtMost(running)
	}
}

// waitID waits until a file has a process's id.
func waitID(t testing.TB, p *lab.Process, file string) int {
	t.Helper()
	for !p.Ended() {
		text, _ := os.ReadFile(file)
		if id, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bytes.HasSuffix(text, []byte("\n")) {
			return id
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s ended before all had started: %s", p.Name(), p.Said())
	return 0
}

// used returns the processors' time that a process has used, or 0 if it has ended.
func used(id int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces; the third field comes behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[14-3])
	system, _ := strconv.Atoi(fields[15-3])
	return time.Duration(user+system) * time.Second / 100
}
