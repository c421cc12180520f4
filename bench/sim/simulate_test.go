package sim

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// outcome is how a job went.
type outcome struct {
	devices, hosts   int // at first
	joined, gone     int // devices, until the end
	makespan, ideal  time.Duration
	overReport       float64       // makespan ÷ ideal as the queue's own report has them
	tiles, peak      int           // put, and in the second in which most were
	duplicates, lost int           // leases
	wasted           float64       // what was computed and not used ÷ the job
	taken, sent      int64         // bytes of results and of operands
	cpu              time.Duration // of this machine's processors, for all of it
}

// ratio is makespan ÷ ideal, both from the moment at which the coordinator begins.
func (o outcome) ratio() float64 { return o.makespan.Seconds() / o.ideal.Seconds() }

// simulate runs f on a cluster, on one processor: with more of them the race detector of Go 1.26
// crashes where timers of a bubble fire at once (https://go.dev/issue/78156).
func simulate(t *testing.T, f *field, s setup) (o outcome) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(f, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		devices := make([]dist.Device, c.atFirst)
		for i := range devices {
			devices[i] = c.devices[i]
		}
		sink := &account{bounds: f.job.Bounds(), began: c.began, all: map[int]int{}}
		before := processor()
		report, err := dist.Run(ctx, f.job, devices, sink, dist.Options{
			Cost: f.sampled, Join: c.joining(ctx), Wait: time.Hour,
			MaxResultBytes: dist.DefaultMaxResultBytes / f.element, // of a job without planes, that is elements
		})
		if err == nil {
			err = sink.check()
		}
		if err != nil {
			t.Fatal(err)
		}
		o = outcome{
			devices: c.atFirst, hosts: s.hosts, makespan: sink.last, ideal: c.ideal(),
			overReport: report.Makespan.Seconds() / report.Ideal.Seconds(),
			duplicates: report.Duplicates, lost: report.Lost, wasted: -1,
			taken: c.coordinator.taken, sent: c.coordinator.sent, cpu: processor() - before,
		}
		for _, n := range sink.all {
			o.tiles, o.peak = o.tiles+n, max(o.peak, n)
		}
		for i, d := range c.devices {
			o.wasted += d.worked / f.total
			if i >= c.atFirst && d.begins < o.makespan {
				o.joined++
			}
			if d.lost > 0 && d.lost < o.makespan {
				o.gone++
			}
		}
	})
	return o
}

// account is a sink that makes sure that every element is put exactly once.
type account struct {
	bounds kernels.Tile
	began  time.Time

	mu    sync.Mutex
	all   map[int]int // tiles that were put, in each second
	last  time.Duration
	area  int
	sum   uint64
	wrong error
}

// Put enters t.
func (a *account) Put(t kernels.Tile, _ *kernels.Result) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.Empty() || !a.bounds.Contains(t) {
		a.wrong = fmt.Errorf("tile %v of a job of %v", t, a.bounds)
	}
	a.area += t.Area()
	a.sum += corners(t)
	a.last = time.Since(a.began)
	a.all[int(a.last/time.Second)]++
	return nil
}

// check returns what is wrong with all tiles together. How often an element was put is
// the number of tiles of which the upper left corner is above and left of it, less those of which
// the upper right one is, and so on. So every element was put once if, and only if, the
// corners of all tiles with their signs cancel out, but for those of the whole. That is seen
// from sums of random numbers, one for each point.
func (a *account) check() error {
	if a.wrong != nil {
		return a.wrong
	}
	if a.area != a.bounds.Area() || a.sum != corners(a.bounds) {
		return fmt.Errorf("tiles of %d elements together are not %v, each element once", a.area, a.bounds)
	}
	return nil
}

func corners(t kernels.Tile) uint64 {
	return random(t.X, t.Y) - random(t.X+t.W, t.Y) - random(t.X, t.Y+t.H) + random(t.X+t.W, t.Y+t.H)
}

// random returns the random number of a point (splitmix64, of G. Steele and others, 2014).
func random(x, y int) uint64 {
	z := uint64(x)<<32 ^ uint64(y)
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
