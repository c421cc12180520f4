//go:build linux

package gpurun_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
)

// end undoes what has happened, if it can be and was not.
func (h *happening) end() {
	if h.revert != nil {
		h.revert()
		h.revert = nil
	}
}

// process returns the process on a host that events are about.
func (r *round) process(host int) *lab.Process {
	if host == 0 {
		return r.coordinator
	}
	return r.c.workers[host].Process
}

// happen has e happen now.
func (r *round) happen(e event) {
	r.t.Helper()
	host, home := r.c.lab.Host(e.host), r.c.lab.Host(0)
	var revert func()
	switch e.kind {
	case "kill":
		revert = r.kill(e.host)
	case "terminate":
		revert = r.terminate(e.host)
	case "stop":
		p := r.process(e.host)
		p.TrySignal(syscall.SIGSTOP)
		revert = func() { p.TrySignal(syscall.SIGCONT) }
	case "slow":
		revert = r.process(e.host).Slow(e.run, e.pause)
	case "unplug", "late":
		host.Unplug()
		revert = host.Plug
	case "cut":
		host.Cut(home)
		revert = func() { host.Mend(home) }
	case "cut off":
		home.Cut(host)
		revert = func() { home.Mend(host) }
	case "line":
		host.SetLine(e.line)
		revert = func() { host.SetLine(lab.Line{}) }
	case "corrupt":
		r.relays[e.host].Corrupt(e.rate, e.seed)
		revert = func() { r.relays[e.host].Corrupt(0, e.seed) }
	case "clock":
		p := r.process(e.host)
		switch err := p.JumpClock(e.jump); {
		case err == nil:
		case errors.Is(err, errors.ErrUnsupported):
			return // a test of the lab says so where it must not be
		case !p.WaitAtMost(time.Second): // it has no clock when it is about to end
			r.t.Fatal(err)
		}
	case "interrupt":
		r.coordinator.TrySignal(syscall.SIGINT)
		r.struck = r.coordinator
	case "full disk":
		r.disk.Fill(filler)
		r.full = true
	default:
		r.t.Fatalf("no such event: %q", e.kind)
	}
	r.happened = append(r.happened, &happening{e, time.Now(), revert})
}

// kill kills the process on a host, and returns what starts a worker again.
func (r *round) kill(host int) (again func()) {
	r.t.Helper()
	p := r.process(host)
	p.TrySignal(syscall.SIGKILL)
	if host == 0 {
		r.struck = p
		return nil
	}
	return func() {
		p.Wait()
		r.c.work(host)
	}
}

// terminate has a worker end by itself, and returns what starts it again.
func (r *round) terminate(host int) (again func()) {
	r.t.Helper()
	w := r.process(host)
	w.TrySignal(syscall.SIGTERM)
	return func() {
		if code := w.Wait(); code != 0 {
			r.t.Fatalf("after SIGTERM the exit code of %s is %d: %s", w.Name(), code, w.Said())
		}
		r.c.work(host)
	}
}

// filler is the name of what fills a disk.
const filler = "full"

// repair undoes all that happened, and has all workers there again.
func (r *round) repair() {
	r.t.Helper()
	for _, h := range r.happened {
		h.end()
	}
	for _, h := range joiners {
		r.c.lab.Host(h).Plug()
	}
	for _, w := range r.c.workers {
		if w.Ended() {
			r.t.Fatalf("%s has ended by itself: %s", w.Name(), w.Said())
		}
	}
}

// check checks how the coordinator ended, as it should have or as what happened allows,
// and returns that.
func (r *round) check(right func([]byte) bool) string {
	r.t.Helper()
	code, said := r.coordinator.Wait(), strings.TrimSpace(r.coordinator.Said())
	got, err := os.ReadFile(filepath.Join(r.folder(), filepath.Base(r.name)))
	switch {
	case err == nil && !right(got):
		r.t.Fatalf("exit code %d, and the result is wrong: %s", code, said)
	case err == nil && code != 0 && !r.kept:
		r.t.Fatalf("exit code %d, and there is an output: %s", code, said)
	case err != nil && code == 0:
		r.t.Fatalf("it succeeded: %v", err)
	case code != 0:
		return r.failed(code, said)
	case len(r.ends) > 0:
		return "right, resumed"
	case r.report().Lost > 0:
		return "right, lost tiles"
	}
	return "right"
}

// failed returns how the coordinator ended that failed, as what happened allows.
func (r *round) failed(code int, said string) string {
	r.t.Helper()
	if code == -1 && r.kept && r.struck == r.coordinator {
		return "killed"
	}
	if !strings.HasPrefix(said, "gpurun: ") || strings.Contains(said, "\n") {
		r.t.Fatalf("exit code %d, and it does not say why in one line: %s", code, said)
	}
	switch {
	case code == 130 && r.struck == r.coordinator:
		return "interrupted"
	case code == 1 && r.full && strings.Contains(said, filepath.Dir(r.name)) && strings.Contains(said, "no space left on device") && strings.Contains(said, "make room"):
		return "full disk"
	case code == 1 && r.mayLoseAll(said) && r.names(said):
		return "no host left"
	}
	r.t.Fatalf("exit code %d, which nothing allows: %s", code, said)
	return ""
}

// disturbed reports whether something has happened to a host, or to the coordinator's,
// for which its session may have ended.
func (r *round) disturbed(host int) bool {
	return slices.ContainsFunc(r.happened, func(h *happening) bool {
		return (h.host == host || h.host == 0) && h.loses()
	})
}

// mayLoseAll reports whether the coordinator may have no device left, and not wait for
// one. Those that join by themselves may not have yet. One that begins when things have
// happened, as one that is started again does, or one that says of each host why it got no first
// connection, needs a host, unless hosts can join, whatever else it has or waits for.
func (r *round) mayLoseAll(said string) bool {
	begins := (len(r.ends) > 0 || r.unconnected(said)) && len(r.joins) == 0
	if (r.own || r.plan.wait > 0) && !begins {
		return false
	}
	if r.plain {
		return r.disturbed(0)
	}
	return !slices.ContainsFunc(r.listens, func(h int) bool { return !r.disturbed(h) })
}

// unconnected reports whether an error says of each host that the coordinator dials why there is no
// connection.
func (r *round) unconnected(said string) bool {
	silent := func(addr string) bool { return !strings.Contains(said, "connect to host "+addr+": ") }
	return len(r.dialled) > 0 && !slices.ContainsFunc(r.dialled, silent)
}

// names reports whether an error names a host, or says that none has joined.
func (r *round) names(said string) bool {
	if len(r.joins) > 0 && strings.Contains(said, "none joined") {
		return true
	}
	for _, h := range r.listens {
		at := listens(r.c.lab.Host(h))
		if relay := r.relays[h]; relay != nil {
			at = relay.Addr
		}
		if strings.Contains(said, at) {
			return true
		}
	}
	if r.liar && strings.Contains(said, listens(r.c.lab.Host(liarHost))) {
		return true // the only one that was there
	}
	return r.plain && strings.Contains(said, "127.0.0.1:")
}
