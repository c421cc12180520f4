package device

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// TestCPUMatMulAdvances has a tile take ten minutes: it comes on all the while,
// and not after Run has returned.
func TestCPUMatMulAdvances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := &kernels.MatMul[float32]{M: 1, N: 1, LDC: 1}
		r := &cpuMatMul[float32]{job: job, turns: make(chan struct{}, 1), compute: func(kernels.MatMul[float32], *atomic.Bool) bool {
			time.Sleep(10 * time.Minute)
			return true
		}}
		out := kernels.NewResult(job, job.Bounds())
		last, silence, ended := time.Now(), time.Duration(0), false
		out.Progress = func() {
			silence, last = max(silence, time.Since(last)), time.Now()
			if ended {
				t.Error("it advances after Run has returned")
			}
		}
		if err := r.Run(t.Context(), job.Bounds(), out); err != nil {
			t.Fatal(err)
		}
		ended = true
		if silence = max(silence, time.Since(last)); silence > 10*time.Second {
			t.Errorf("it was silent for %v", silence)
		}
		time.Sleep(time.Minute)
	})
}

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
