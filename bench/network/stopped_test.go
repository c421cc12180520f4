//go:build linux

package network

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/kernels"
)

// stopAt is the part of a job that is done when a worker stops.
const stopAt = 0.4

// BenchmarkStopped has one of three workers stop, or die, in the middle of a job.
// It measures the time from then on ÷ what the two that are left would need for
// all that was not done.
func BenchmarkStopped(b *testing.B) {
	b.Run("SIGSTOP", func(b *testing.B) { stopped(b, syscall.SIGSTOP) })
	b.Run("SIGKILL", func(b *testing.B) { stopped(b, syscall.SIGKILL) })
}

func stopped(b *testing.B, signal syscall.Signal) {
	image, err := pretend.Compute(view)
	if err != nil {
		b.Fatal(err)
	}
	seconds := secondsOf([]float64{1, 1, 1}, perfect)
	all := map[string][]float64{}
	for b.Loop() {
		for range *rounds {
			c := start(b, seconds, lab.Line{}, lab.Line{})
			sink := &meter{checked: checked{image}}
			at, left, once := time.Time{}, 0.0, sync.Once{}
			_, err := dist.Run(context.Background(), image.Job, c.devices(), sink, dist.Options{
				Cost: image.Sampled,
				Progress: func(done float64) {
					if done < stopAt {
						return
					}
					once.Do(func() {
						c.workers[0].Signal(signal)
						at, left = time.Now(), sink.left()
					})
				},
			})
			if err != nil {
				b.Fatal(err)
			}
			need := left / image.Total / (1/seconds[1] + 1/seconds[2])
			all["stretch"] = append(all["stretch"], sink.last.Sub(at).Seconds()/need)
		}
	}
	b.Logf("1 of 3 workers gets %v: the rest takes %.3f times what the others need for it (median of %.3f)", signal, median(all["stretch"]), all["stretch"])
	metrics(b, all)
}

// meter knows what has come so far, and when.
type meter struct {
	checked

	mu   sync.Mutex
	cost float64 // the exact cost of what has come
	last time.Time
}

func (m *meter) Put(t kernels.Tile, r *kernels.Result) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cost += m.image.Exact.Cost(t)
	m.last = time.Now()
	return m.checked.Put(t, r)
}

// left returns the exact cost of what has not come.
func (m *meter) left() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image.Total - m.cost
}
