//go:build linux

package lab

import (
	"syscall"
	"testing"
	"time"
)

// TestSlow has a process stand still and go on by turns, and go on in the end.
func TestSlow(t *testing.T) {
	l := New(t, 1)
	p := l.Host(0).Start(t, nil, "sh", "-c", "echo begun; while :; do :; done")
	p.WaitFor("begun")
	end := p.Slow(10*time.Millisecond, 10*time.Millisecond)
	for range 3 {
		p.until("stands still", p.Stopped)
		p.until("goes on", func() bool { return !p.Stopped() })
	}
	end()
	end()
	if p.Stopped() {
		t.Error("it stands still")
	}
	p.WaitBusy(20 * time.Millisecond)

	p.Slow(time.Millisecond, time.Hour)
	p.until("stands still", p.Stopped)
	p.Signal(syscall.SIGKILL)
	if code := p.Wait(); code != -1 {
		t.Errorf("exit code %d", code)
	}
}

// TestWhileStopped leaves a process as it was, stopped or not.
func TestWhileStopped(t *testing.T) {
	l := New(t, 1)
	p := l.Host(0).Start(t, nil, "sh", "-c", "echo begun; while :; do :; done")
	p.WaitFor("begun")
	look := func() {
		t.Helper()
		if err := p.whileStopped(func() error {
			if !p.Stopped() {
				t.Error("it runs")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	look()
	p.WaitBusy(20 * time.Millisecond)
	p.Signal(syscall.SIGSTOP)
	p.until("stands still", p.Stopped)
	look()
	if !p.Stopped() {
		t.Error("it was made to go on")
	}
}
