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
		if c.others(t) <= *others {
			return
		}
	}
}

// clock measures what becomes of the processors' time.
type clock struct {
	all, busy int           // ticks
	own       time.Duration // of this process, and those that it has started and that have ended
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
		c.all += n
		if i != idle && i != iowait {
			c.busy += n
		}
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			t.Fatal(err)
		}
		c.own += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return c
}

// others returns the part of the processors' time since c was started that went to other
// processes, and to other machines on the same host.
func (c clock) others(t testing.TB) float64 {
	t.Helper()
	now := startClock(t)
	const tick = time.Second / 100
	busy := time.Duration(now.busy-c.busy)*tick - (now.own - c.own)
	return max(0, busy.Seconds()/(time.Duration(max(1, now.all-c.all))*tick).Seconds())
}
