package device

import (
	"runtime"
	"testing"
)

// TestTakeThreads checks that products share GOMAXPROCS, the small ones aside.
func TestTakeThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	if n := takeThreads(largeFlops - 1); n != 1 {
		t.Errorf("a small product takes %d threads", n)
	}
	giveThreadsBack(largeFlops - 1)
	for i, want := range []int{8, 4, 3, 2, 2, 2, 2, 1, 1} {
		if n := takeThreads(largeFlops); n != want {
			t.Errorf("product %d takes %d threads, want %d", i+1, n, want)
		}
	}
	for range 9 {
		giveThreadsBack(largeFlops)
	}
	if n := large.Load(); n != 0 {
		t.Errorf("%d products are still counted", n)
	}
}
