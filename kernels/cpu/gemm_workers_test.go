package cpu

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestGemmConcurrent has callers that share A and B.
func TestGemmConcurrent(t *testing.T) {
	rng := randomSource(t)
	p := newProblem(rng, 129, 130, 131, normal[float32](rng))
	p.alpha = 0.5
	want := p.want()
	variants(t, func(t *testing.T, v Variant) {
		var all sync.WaitGroup
		for caller := range 6 {
			all.Go(func() {
				for range 20 {
					got, done := p.compute(v, 1+caller%3, new(atomic.Bool))
					if !done || !slices.EqualFunc(got.all, want.all, sameBits) {
						t.Errorf("%s: caller %d got something else", v, caller)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// TestHelpersEnd checks that helpers wait for a moment only, and leave no place taken.
func TestHelpersEnd(t *testing.T) {
	p := newProblem(randomSource(t), 200, 200, 200, normal[float64](randomSource(t)))
	before := runtime.NumGoroutine()
	for range 50 {
		p.compute(Best(), 4, new(atomic.Bool))
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		taken := slices.ContainsFunc(placesInUse(), func(used bool) bool { return used })
		if now := runtime.NumGoroutine(); now <= before && !taken && present.Load() == 0 {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before; places in use: %v; %d present", now, before, placesInUse(), present.Load())
		}
	}
}

func placesInUse() []bool {
	used := make([]bool, len(places))
	for i := range places {
		used[i] = places[i].state.Load() != free
	}
	return used
}

// TestGemmStop stops products that would take minutes, and has the next one
// computed in full.
func TestGemmStop(t *testing.T) {
	const n = 1 << 12
	x, c := make([]float64, n*n), make([]float64, n*n)
	everyVariant(t, func(t *testing.T, v Variant) {
		for _, shape := range [][3]int{{n, n, n}, {n, 1, n}, {1, n, n}} {
			var stop atomic.Bool
			finished := make(chan bool)
			go func() {
				done := true
				for done {
					done = v.Gemm64(false, true, shape[0], shape[1], shape[2], 1, x, n, x, n, 1, c, n, 2, &stop)
				}
				finished <- done
			}()
			time.Sleep(20 * time.Millisecond)
			stop.Store(true)
			select {
			case <-finished:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: %v goes on", v, shape)
			}
		}
		rng := randomSource(t)
		p := newProblem(rng, 150, 151, 152, normal[float64](rng))
		p.check(t, v, 2, p.want())
	})
}

// TestGemmStopsForGood checks that nobody is at work any more when a product that was
// stopped returns.
func TestGemmStopsForGood(t *testing.T) {
	const n = 700
	rng := randomSource(t)
	x, c := make([]float32, n*n), make([]float32, n*n)
	everyVariant(t, func(t *testing.T, v Variant) {
		stopped := 0
		for range 40 {
			var stop atomic.Bool
			timer := time.AfterFunc(time.Duration(rng.IntN(2000))*time.Microsecond, func() { stop.Store(true) })
			done := v.Gemm32(false, false, n, n, n, 1, x, n, x, n, 1, c, n, 4, &stop)
			timer.Stop()
			if done {
				continue
			}
			stopped++
			for i := range c {
				c[i] = 1
			}
			time.Sleep(time.Millisecond)
			if slices.ContainsFunc(c, func(y float32) bool { return y != 1 }) {
				t.Fatalf("%s: C changes after the end", v)
			}
		}
		if stopped == 0 {
			t.Errorf("%s: no product was stopped", v)
		}
	})
}

// TestGemmInBubble checks that helpers need no clock, which stands still there.
func TestGemmInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProblem(randomSource(t), 200, 200, 200, normal[float32](randomSource(t)))
		p.check(t, Best(), 4, p.want())
	})
}

var raceEnabled bool

// TestGemmAllocates nothing, once it has its buffers.
func TestGemmAllocates(t *testing.T) {
	x, c := make([]float32, 300*300), make([]float32, 300*300)
	var stop atomic.Bool
	for _, v := range runnable()[:len(runnable())-1] {
		for _, shape := range [][3]int{{30, 33, 32}, {200, 200, 200}, {300, 1, 300}, {1, 300, 300}} {
			for threads := 1; threads <= 2; threads++ {
				for _, plain := range []bool{true, false} {
					alpha := float32(0.5)
					if plain {
						alpha = 1
					}
					n := testing.AllocsPerRun(20, func() {
						v.Gemm32(!plain, false, shape[0], shape[1], shape[2], alpha, x, 300, x, 300, 0, c, 300, threads, &stop)
					})
					// A goroutine that is started takes one.
					if int(n) > threads-1 && !raceEnabled {
						t.Errorf("%s, %v, %d threads, α = %v: %v allocations", v, shape, threads, alpha, n)
					}
				}
			}
		}
	}
}
