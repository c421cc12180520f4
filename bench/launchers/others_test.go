//go:build linux

package launchers

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// repeats is how often a run is repeated because other processes have disturbed it.
const repeats = 20

// undisturbed runs a contestant, again if other processes took more of the processors' time
// than -others allows.
func (x *bench) undisturbed(t testing.TB, c *contestant, s setting) (r run) {
	t.Helper()
	for range repeats {
		waitCalm(t)
		if r = x.run(t, c, s); r.others <= *others {
			break
		}
	}
	return r
}

// waitCalm waits until other processes take no more than -others allows, however long that
// takes.
func waitCalm(t testing.TB) {
	t.Helper()
	for *others < 1 {
		c := startClock(t)
		time.Sleep(300 * time.Millisecond)
		if startClock(t).since(c).others(0) <= *others {
			return
		}
	}
}

// clock measures what becomes of the processors' time.
type clock struct {
	all, busy time.Duration // of all processors
	own       time.Duration // of this process, among it the switch of the lab
	children  time.Duration // of the processes that it has started and that have ended
}

func startClock(t testing.TB) (c clock) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	// The states after these are in the first ones too.
	const idle, iowait, states = 3, 4, 8
	for i, field := range strings.Fields(line)[1 : 1+states] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks := time.Duration(n) * time.Second / 100
		c.all += ticks
		if i != idle && i != iowait {
			c.busy += ticks
		}
	}
	c.own, c.children = spent(t, syscall.RUSAGE_SELF), spent(t, syscall.RUSAGE_CHILDREN)
	return c
}

// spent returns the processors' time that processes have used so far.
func spent(t testing.TB, who int) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// since returns the differences to an earlier clock.
func (c clock) since(before clock) clock {
	return clock{c.all - before.all, c.busy - before.busy, c.own - before.own, c.children - before.children}
}

// others returns the part of the processors' time of a difference that went to other
// processes than this one and those that used so many seconds, and to other machines on the
// same host.
func (c clock) others(used float64) float64 {
	return max(0, (c.busy-c.own).Seconds()-used) / max(1e-9, c.all.Seconds())
}
