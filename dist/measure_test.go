package dist

import (
	"math"
	"runtime"
	"testing"
	"time"
)

// footprint is what a process holds.
type footprint struct {
	heap, stacks int64 // bytes in use
	goroutines   int
}

// footprintNow measures after everything that can be freed has been. What others
// allocate meanwhile, and drop, would count too: the least of a few is held. The
// runtime keeps some of the stacks of goroutines that have ended.
func footprintNow() footprint {
	f := footprint{math.MaxInt64, math.MaxInt64, 0}
	for range 4 {
		runtime.GC()
		runtime.GC() // what pools held after the first
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		f.heap, f.stacks = min(f.heap, int64(m.HeapAlloc)), min(f.stacks, int64(m.StackInuse))
	}
	f.goroutines = runtime.NumGoroutine()
	return f
}

// since returns what has been added since before.
func (f footprint) since(before footprint) footprint {
	return footprint{f.heap - before.heap, f.stacks - before.stacks, f.goroutines - before.goroutines}
}

func (f footprint) bytes() int64 { return f.heap + f.stacks }

// allocates fails the test unless do allocates at most limit bytes. Whatever
// else the process does meanwhile counts too, so one time of five will do.
func allocates(t testing.TB, limit int, what string, do func()) {
	t.Helper()
	n := int64(0)
	for range 5 {
		if n = allocatedBy(do); n <= int64(limit) {
			return
		}
	}
	t.Errorf("%s: %d bytes were allocated, and %d would do", what, n, limit)
}

// allocatedBy returns the bytes that do allocates, and whatever else the process
// does meanwhile.
func allocatedBy(do func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// within fails the test unless ok becomes true in time.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within %v: %s", limit, what)
			return false
		}
	}
	return true
}

// settle fails the test unless no more goroutines are left than there were.
func settle(t testing.TB, before int) {
	t.Helper()
	if !within(t, 15*time.Second, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<18)
		t.Logf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	}
}
