//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hangLimit bounds every wait in the lab. It is no measure of anything: what
// takes longer hangs.
const hangLimit = 2 * time.Minute

// poll is the pause between two looks at what is waited for.
const poll = 5 * time.Millisecond

// Process is a command that runs on a host.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	said Transcript
	done chan struct{} // closed when it has ended

	pausing sync.Mutex     // held while the lab itself has stopped it
	cycles  sync.WaitGroup // the goroutines of Slow
	clock   *patchedClock  // nil until it jumps
}

// Start starts a command on h, with env besides this process's environment, in
// an empty folder that t owns. It is killed when t ends, or this process does.
func (h *Host) Start(t testing.TB, env []string, command string, args ...string) *Process {
	t.Helper()
	return h.start(t, filepath.Base(command), env, exec.Command(command, args...))
}

// start starts cmd, which tests know as name, in its folder, if it has one.
func (h *Host) start(t testing.TB, name string, env []string, cmd *exec.Cmd) *Process {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return h.begin(t, name, env, cmd, h.Do)
}

// begin is start for a process that is not killed when this one ends. Do calls what it gets
// where the process is to be.
func (h *Host) begin(t testing.TB, name string, env []string, cmd *exec.Cmd, do func(func() error) error) *Process {
	t.Helper()
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	cmd.Env = append(os.Environ(), env...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	// In the group of this process they would get SIGHUP when its shell ends while one
	// of them is stopped.
	cmd.SysProcAttr.Setpgid = true
	p := &Process{t: t, name: name + " on " + h.IP, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		cmd.Wait() // the state says it all
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.done
		p.cycles.Wait()
		if t.Failed() {
			t.Logf("%s (%v) said:\n%s", p.name, cmd.ProcessState, p.Said())
		}
	})
	return p
}

// Said returns what p has written so far to its standard outputs.
func (p *Process) Said() string { return p.said.String() }

// Signal sends a signal to p, which must not have ended.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: signal %v: %v", p.name, s, err)
	}
}

// TrySignal sends a signal to p, and reports whether p had not ended.
func (p *Process) TrySignal(s os.Signal) bool {
	p.t.Helper()
	err := p.cmd.Process.Signal(s)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: signal %v: %v", p.name, s, err)
	}
	return err == nil
}

// Name says which command p is, and on which host.
func (p *Process) Name() string { return p.name }

// Dir returns the folder in which p was started.
func (p *Process) Dir() string { return p.cmd.Dir }

// Ended reports whether p has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits until p has ended and returns its exit code, -1 after a signal.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(hangLimit):
		p.t.Fatalf("%s does not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// WaitAtMost waits until p has ended, but no longer than d, and reports whether it has.
func (p *Process) WaitAtMost(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

// WaitFor waits until p has written text.
func (p *Process) WaitFor(text string) {
	p.t.Helper()
	p.until("says "+strconv.Quote(text), func() bool { return strings.Contains(p.Said(), text) })
}

// WaitBusy waits until p has used d more of the processors' time. It tells that
// work is under way without knowing how fast the machine is.
func (p *Process) WaitBusy(d time.Duration) {
	p.t.Helper()
	start := p.Used()
	p.until("computes", func() bool { return p.Used() >= start+d })
}

func (p *Process) until(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(hangLimit); !holds(); time.Sleep(poll) {
		select {
		case <-p.done:
			if !holds() { // it may have been the last thing it did
				p.t.Fatalf("%s ended before it %s", p.name, what)
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s never %s", p.name, what)
		}
	}
}

// Used returns the processors' time that p has used, or 0 once it has ended.
func (p *Process) Used() time.Duration {
	fields := statFields(p.proc("stat"))
	if fields == nil {
		return 0
	}
	const user, system, tick = 14 - 3, 15 - 3, time.Second / 100
	u, _ := strconv.Atoi(string(fields[user]))
	s, _ := strconv.Atoi(string(fields[system]))
	return time.Duration(u+s) * tick
}

// proc returns the path of what /proc tells of p under a name.
func (p *Process) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name)
}

// statFields returns the fields of a process's or a thread's stat file from the
// third on, its state, or nil where there is none any more.
func statFields(path string) [][]byte {
	stat, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	// The name, in parentheses, may have spaces.
	return bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
}

// Transcript keeps what a process writes. Its methods are safe for concurrent use.
type Transcript struct {
	mu   sync.Mutex
	said bytes.Buffer
}

// Write appends p.
func (w *Transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(p)
}

// String returns what has been written.
func (w *Transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}
