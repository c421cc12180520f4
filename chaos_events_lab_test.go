//go:build linux

package gpurun_test

import (
	"os"
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
	again := func() {
		r.process(e.host).Wait()
		r.c.work(e.host)
	}
	switch e.kind {
	case "kill":
		r.process(e.host).TrySignal(syscall.SIGKILL)
		revert = again
	case "terminate":
		w := r.process(e.host)
		w.TrySignal(syscall.SIGTERM)
		revert = func() {
			if code := w.Wait(); code != 0 {
				r.t.Fatalf("after SIGTERM the exit code of %s is %d: %s", w.Name(), code, w.Said())
			}
			r.c.work(e.host)
		}
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
		if p := r.process(e.host); p.Ended() {
			break
		} else if err := p.JumpClock(e.jump); err != nil {
			r.t.Log(err) // this kernel does not have it, or the process has just ended
		}
	case "interrupt":
		r.coordinator.TrySignal(syscall.SIGINT)
	case "full disk":
		if r.disk != nil { // or else it will be too small
			r.disk.Fill(filler)
		}
	default:
		r.t.Fatalf("no such event: %q", e.kind)
	}
	r.happened = append(r.happened, &happening{e, time.Now(), revert})
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
	for _, w := range r.loopback {
		w.Signal(syscall.SIGKILL)
		w.Wait()
	}
}

// check checks how the coordinator ended, as it should have or as what happened allows,
// and returns that.
func (r *round) check(right func([]byte) bool) string {
	r.t.Helper()
	code, said := r.coordinator.Wait(), strings.TrimSpace(r.coordinator.Said())
	got, err := r.output()
	if code == 0 {
		if err != nil {
			r.t.Fatalf("it succeeded: %v", err)
		}
		if !right(got) {
			r.t.Fatal("the result is wrong")
		}
		if r.report().Lost > 0 {
			return "right, lost tiles"
		}
		return "right"
	}
	if err == nil {
		r.t.Fatalf("exit code %d, and there is an output: %s", code, said)
	}
	if !strings.HasPrefix(said, "gpurun: ") || strings.Contains(said, "\n") {
		r.t.Fatalf("exit code %d, and it does not say why in one line: %s", code, said)
	}
	switch {
	case code == 130 && r.did("interrupt"):
		return "interrupted"
	case code == 1 && r.did("full disk") && strings.Contains(said, r.name) && strings.Contains(said, "no space left on device"):
		return "full disk"
	case code == 1 && r.mayLoseAll() && r.names(said):
		return "no host left"
	}
	r.t.Fatalf("exit code %d, which nothing allows: %s", code, said)
	return ""
}

// output returns what the output holds, or an error if there is none.
func (r *round) output() ([]byte, error) {
	if r.disk == nil {
		return os.ReadFile(r.name)
	}
	left, err := r.disk.Left()
	if err != nil {
		return nil, err
	}
	for _, name := range left {
		if name != filler && name != "out.npy" {
			r.t.Fatalf("on the disk there are left %v", left)
		}
	}
	return r.disk.ReadFile("out.npy")
}

// did reports whether an event of this kind has happened.
func (r *round) did(kind string) bool {
	return slices.ContainsFunc(r.happened, func(h *happening) bool { return h.kind == kind })
}

// disturbed reports whether something has happened to a host, or to the coordinator's,
// for which its session may have ended.
func (r *round) disturbed(host int) bool {
	return slices.ContainsFunc(r.happened, func(h *happening) bool {
		return (h.host == host || h.host == 0) && slices.Contains(losing, h.kind)
	})
}

// mayLoseAll reports whether the coordinator may have no device left, and not wait for
// one. Those that join by themselves may not have yet.
func (r *round) mayLoseAll() bool {
	if r.own || r.plan.wait > 0 {
		return false
	}
	if r.plain {
		return r.disturbed(0)
	}
	return !slices.ContainsFunc(r.listens, func(h int) bool { return !r.disturbed(h) })
}

// names reports whether an error names a host.
func (r *round) names(said string) bool {
	for _, h := range r.listens {
		at := listens(r.c.lab.Host(h))
		if relay := r.relays[h]; relay != nil {
			at = relay.Addr
		}
		if strings.Contains(said, at) {
			return true
		}
	}
	return r.plain && strings.Contains(said, "127.0.0.1:")
}
