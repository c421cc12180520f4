//go:build linux

package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/testenv"
)

// clockVariable makes this test program one that tells its clocks.
const clockVariable = "GPURUN_TEST_CLOCKS"

// tellClocks prints the wall clock and how long the process has run, in milliseconds,
// again and again.
func tellClocks() {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		now := time.Now()
		fmt.Println(now.UnixMilli(), now.Sub(began).Milliseconds())
	}
}

// clocks returns what a line of tellClocks tells.
func clocks(t *testing.T, line string) (wall, monotonic time.Duration) {
	t.Helper()
	var w, m int64
	if _, err := fmt.Sscan(line, &w, &m); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return time.Duration(w) * time.Millisecond, time.Duration(m) * time.Millisecond
}

// TestJumpClock has the wall clock of a process jump forward and back, while neither
// its monotonic clock nor this process's wall clock does.
func TestJumpClock(t *testing.T) {
	l := New(t, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := l.Host(0).Start(t, []string{clockVariable + "=1"}, self)
	next := func() (wall, monotonic time.Duration) {
		t.Helper()
		// The line after the next is one of which all was read after this call.
		n := strings.Count(p.Said(), "\n") + 2
		p.until("tells its clocks", func() bool { return strings.Count(p.Said(), "\n") >= n })
		lines := strings.Split(p.Said(), "\n")
		return clocks(t, lines[len(lines)-2])
	}
	next()
	sum := time.Duration(0)
	for _, jump := range []time.Duration{3 * time.Hour, -50 * time.Hour, time.Second} {
		if err := p.JumpClock(jump); err != nil {
			testenv.Missing(t, "clock", err.Error())
		}
		sum += jump
		before := time.Duration(time.Now().UnixMilli()) * time.Millisecond
		wall, _ := next()
		after := time.Duration(time.Now().UnixMilli()) * time.Millisecond
		if wall < before+sum || wall > after+sum {
			t.Errorf("after jumps of %v the wall clock is %v off", sum, wall-before)
		}
	}
	last := time.Duration(0)
	for line := range strings.Lines(p.Said()) {
		if !strings.HasSuffix(line, "\n") {
			break // not all of it is there
		}
		_, now := clocks(t, line)
		if now < last || now > last+hangLimit {
			t.Fatalf("the monotonic clock went from %v to %v", last, now)
		}
		last = now
	}
	if p.Stopped() {
		t.Error("the process stands still")
	}
}
