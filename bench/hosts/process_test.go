//go:build linux

package hosts

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
)

// process is a run of the command.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr lab.Transcript
	done           chan struct{} // closed when it has ended
}

// tick is the unit of processors' time in /proc.
const tick = time.Second / 100

// start starts the command at a place. It is killed when t ends.
func (p *program) start(t testing.TB, at place, args ...string) *process {
	t.Helper()
	name := p.path
	if at.cores != "" {
		if taskset, err := exec.LookPath("taskset"); err == nil {
			name, args = taskset, append([]string{"-c", at.cores, p.path}, args...)
		}
	}
	c := &process{t: t, cmd: exec.Command(name, args...), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), "GPURUN_CACHE="+filepath.Join(p.folder, "cache-"+at.cache))
	if at.procs > 0 {
		c.cmd.Env = append(c.cmd.Env, fmt.Sprintf("GOMAXPROCS=%d", at.procs))
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	begin := c.cmd.Start
	if at.host != nil {
		begin = func() error { return at.host.Do(c.cmd.Start) }
	}
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		c.cmd.Wait() // the state says it all
	}()
	t.Cleanup(c.stop)
	return c
}

// stop kills c, if it has not ended.
func (c *process) stop() {
	c.cmd.Process.Kill()
	<-c.done
}

// wait waits until c has ended and returns its exit code.
func (c *process) wait() int {
	<-c.done
	return c.cmd.ProcessState.ExitCode()
}

// waitFor waits until c has said texts, on its standard error, and returns that.
func (c *process) waitFor(texts ...string) string {
	c.t.Helper()
	for {
		said, all := c.stderr.String(), true
		for _, text := range texts {
			all = all && strings.Contains(said, text)
		}
		if all {
			return said
		}
		select {
		case <-c.done:
			c.t.Fatalf("%v ended: %s", c.cmd, said)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ended returns the processors' seconds that c took, and the most memory that it had,
// after it has ended. The system counts what the process had that started it too, of
// which that of a benchmark is little: so it keeps no matrices.
func (c *process) ended() (seconds float64, peak int64) {
	s := c.cmd.ProcessState
	peak = s.SysUsage().(*syscall.Rusage).Maxrss << 10
	return (s.UserTime() + s.SystemTime()).Seconds(), peak
}

// used returns the processors' seconds that c has used so far.
func (c *process) used() float64 {
	c.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	// The name, in parentheses, may have spaces. Field 3 comes after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const inUser, inSystem = 14 - 3, 15 - 3
	return (time.Duration(number(c.t, fields[inUser])+number(c.t, fields[inSystem])) * tick).Seconds()
}

// resident returns the most memory that c has had so far.
func (c *process) resident() int64 {
	c.t.Helper()
	return peakOf(c.t, c.cmd.Process.Pid)
}

// peakOf returns the most memory that a process that runs has had so far.
func peakOf(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	line, _, _ := bytes.Cut(rest, []byte(" kB"))
	return int64(number(t, bytes.TrimSpace(line))) << 10
}

func number(t testing.TB, text []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// clock measures time, and what became of the processors' in it.
type clock struct {
	began time.Time
	ticks [processorStates]int
	own   float64
}

// The states that /proc/stat counts processors' time in; there are others, for
// guests, which are in user too.
const (
	user = iota
	nice
	system
	idle
	iowait
	irq
	softirq
	steal
	processorStates
)

func startClock(t testing.TB) clock {
	t.Helper()
	return clock{time.Now(), ticks(t), ownTime(t)}
}

// stop returns the seconds since c was started, the part of the processors' time that
// the machine's own host took, and the part that other processes took than this one
// and those that used so many seconds.
func (c clock) stop(t testing.TB, used float64) (seconds, stolen, others float64) {
	t.Helper()
	seconds = time.Since(c.began).Seconds()
	all, busy, now := 0, 0, ticks(t)
	for state, n := range now {
		n -= c.ticks[state]
		all += n
		if state != idle && state != iowait && state != steal {
			busy += n
		}
	}
	whole := max(1, float64(all)) * tick.Seconds()
	used += ownTime(t) - c.own
	return seconds, float64(now[steal]-c.ticks[steal]) * tick.Seconds() / whole, max(0, float64(busy)*tick.Seconds()-used) / whole
}

// ticks returns the time that all processors have been in each state so far.
func ticks(t testing.TB) (all [processorStates]int) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	for i, field := range strings.Fields(line)[1:] {
		if i < len(all) {
			all[i] = number(t, []byte(field))
		}
	}
	return all
}

// ownTime returns the processors' seconds that this process has used so far, among
// them those of the switch of a lab.
func ownTime(t testing.TB) float64 {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}
