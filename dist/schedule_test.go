package dist

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
	"github.com/gpurun/gpurun/tiler"
)

// profile is what each part of an image costs, exactly and as a sample of one
// pixel in about a thousand has it, which is all that the queue is told.
type profile struct {
	job            *kernels.Mandelbrot
	exact, sampled *tiler.CostMap
}

func newProfile(re, im, span float64, maxIter int) *profile {
	const w, h, cols, rows = 1200, 800, 38, 25
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: maxIter, R2: 4}
	job.CX, job.CY = kernels.Axes(job.T, re, im, span, w, h)
	r := kernels.NewResult(job, job.Bounds())
	cpu.Best().Mandelbrot(job, job.Bounds(), r, cpu.Once(0, w*h), new(atomic.Bool))
	counts := kernels.Elements[uint32](r.Planes[0])
	grid := func(cols, rows int) *tiler.CostMap {
		costs := make([]float64, cols*rows)
		for k := range costs {
			i, j := (2*(k%cols)+1)*w/(2*cols), (2*(k/cols)+1)*h/(2*rows)
			if n := counts[j*w+i]; n > 0 {
				costs[k] = float64(n)
			} else if !job.Interior(i, j) {
				costs[k] = float64(maxIter)
			}
		}
		return tiler.NewCostMap(w, h, cols, rows, costs, 8)
	}
	return &profile{job, grid(w, h), grid(cols, rows)}
}

// sleeper takes as long for a tile as a device of its rate would.
type sleeper struct {
	id   string
	cost tiler.Cost
	rate float64
}

func (s sleeper) ID() string                                                 { return s.id }
func (s sleeper) Slots() int                                                 { return 1 }
func (s sleeper) Close() error                                               { return nil }
func (s sleeper) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return s, nil }

func (s sleeper) Run(ctx context.Context, t kernels.Tile, _ *kernels.Result) error {
	return pause(ctx, duration(s.cost.Cost(t)/s.rate))
}

// nowhere takes results and forgets them.
type nowhere struct{}

func (nowhere) Put(kernels.Tile, *kernels.Result) error { return nil }

// TestScheduleOfImages runs images of uneven cost on devices of many speeds,
// on a clock that is pretended: all have to be busy nearly to the end, although
// the queue knows the costs only from a sample.
func TestScheduleOfImages(t *testing.T) {
	profiles := map[string]*profile{
		"skewed":    newProfile(-0.5, -0.475, 3, 1000), // y from −1.3 to 0.35, and a little more
		"seahorse":  newProfile(-0.7463, 0.1102, 0.005, 3000),
		"whole set": newProfile(-0.5, 0, 3, 1000),
		"real axis": newProfile(-1.4, 0, 1.2, 2000),
		"antenna":   newProfile(-0.16, 1.04, 0.05, 2000),
	}
	for name, p := range profiles {
		for _, rates := range [][]float64{{1, 1}, {1, 4}, {1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 20}} {
			for _, seconds := range []float64{0.5, 2, 20} {
				synctest.Test(t, func(t *testing.T) {
					sum := 0.0
					for _, r := range rates {
						sum += r
					}
					devices := make([]Device, len(rates))
					for i, r := range rates {
						devices[i] = sleeper{fmt.Sprint(i), p.exact, p.exact.Cost(p.job.Bounds()) / seconds * r / sum}
					}
					report, err := Run(context.Background(), p.job, devices, nowhere{}, Options{Cost: p.sampled})
					if err != nil {
						t.Fatal(err)
					}
					// A perfect schedule takes the given seconds; tiles of the least
					// grain count in short jobs.
					if ratio := report.Makespan.Seconds() / seconds; ratio > 1.03+0.01/seconds {
						t.Errorf("%s on %v in %g s: makespan ÷ ideal is %.3f", name, rates, seconds, ratio)
					}
				})
			}
		}
	}
}

// TestScheduleOfThousands has so many devices that the queue does not look for duplicates
// whenever something happens, nor for late leases: one in ten of them stops for good in the
// middle of the job, and none of their tiles is waited for at the end.
func TestScheduleOfThousands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seconds, n = 20, 3000
		// Of ten devices one is as fast as one, two, … ten; the first stops half-way.
		each := 4000 * 3000. / seconds / (n / 10 * 54.5)
		var devices []Device
		for i := range n {
			s := sleeper{fmt.Sprint(i), tiler.Uniform(1), each * float64(1+i%10)}
			if i%10 == 0 {
				devices = append(devices, stopping{s, time.Now().Add(seconds / 2 * time.Second)})
			} else {
				devices = append(devices, s)
			}
		}
		job := fakeJob{4000, 3000}
		sink := &covered{bounds: job.Bounds()}
		report, err := Run(t.Context(), job, devices, sink, Options{MaxResultBytes: 1 << 12})
		if err != nil || sink.area != sink.bounds.Area() {
			t.Fatalf("%d of %d elements: %v", sink.area, sink.bounds.Area(), err)
		}
		if ratio := report.Makespan.Seconds() / seconds; ratio > 1.05 {
			t.Errorf("makespan ÷ ideal is %.3f", ratio)
		}
		if report.Lost < n/10 {
			t.Errorf("%d leases were lost, on %d devices that stopped", report.Lost, n/10)
		}
	})
}

// stopping is a device that answers nothing more from a time on.
type stopping struct {
	sleeper
	at time.Time
}

func (s stopping) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return s, nil }

func (s stopping) Run(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	if d := duration(s.cost.Cost(t) / s.rate); time.Until(s.at) < d {
		return hang(ctx)
	}
	return s.sleeper.Run(ctx, t, r)
}

// covered adds up the elements that are put.
type covered struct {
	bounds kernels.Tile
	mu     sync.Mutex
	area   int
}

func (c *covered) Put(t kernels.Tile, _ *kernels.Result) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.area += t.Area()
	return nil
}

// distantDevice is one whose results take longer on their way than a tile is meant to take.
type distantDevice struct {
	sleeper
	way  time.Duration
	turn chan struct{}
}

func (d distantDevice) Slots() int                                                 { return 1 + prefetched }
func (d distantDevice) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return d, nil }

func (d distantDevice) Run(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	began := time.Now()
	d.turn <- struct{}{}
	r.Waited, r.Busy = time.Since(began), duration(d.cost.Cost(t)/d.rate)
	err := pause(ctx, r.Busy)
	<-d.turn
	if err != nil {
		return err
	}
	return pause(ctx, d.way)
}

// Tiles whose results wait for long, as there are more than the coordinator can take, do not
// become ever smaller, which would be ever more.
func TestTilesThatWaitOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seconds, way = 100, 3 * ceiling / 2
		job := fakeJob{1000, 1000}
		distant := distantDevice{sleeper{"distant", tiler.Uniform(1), 1e6 / seconds}, way, make(chan struct{}, 1)}
		report, err := Run(t.Context(), job, []Device{distant}, nowhere{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		// Tiles first have to grow, with one and a half seconds for each.
		if ratio := report.Makespan.Seconds() / seconds; ratio > 1.5 {
			t.Errorf("makespan ÷ ideal is %.2f, with %d tiles", ratio, report.Devices[0].Tiles)
		}
	})
}

// crowdedDevice is like a device of another host with one slot: it has more tiles
// than that, computes one at a time, and only of this one it says that it comes on.
type crowdedDevice struct {
	turn chan struct{} // holds one token
	tile time.Duration // what each takes
}

func (d crowdedDevice) ID() string                                                 { return "crowded" }
func (d crowdedDevice) Slots() int                                                 { return 1 + prefetched }
func (d crowdedDevice) Close() error                                               { return nil }
func (d crowdedDevice) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return d, nil }

func (d crowdedDevice) Run(ctx context.Context, _ kernels.Tile, r *kernels.Result) error {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range d.tile / heartbeat {
		if err := pause(ctx, heartbeat); err != nil {
			return err
		}
		r.Advance()
	}
	return nil
}

// A device that never says that it comes on is given more time with every lease.
func TestALongTileOfADeviceThatNeverSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		report, err := runFakes(t, ctx, fakeJob{10, 10}, Options{Tiles: 1}, &fakeDevice{id: "a", rate: 100 / (10 * time.Minute).Seconds()})
		if err != nil || report.Lost != 3 {
			t.Errorf("got %v, with %d lost", err, report.Lost)
		}
	})
}

// Nothing is lost of tiles that take much longer than silence may last, though
// most of them wait on the device for longer than that before they come on.
func TestLongTilesThatWaitOnTheirDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tiles, each = 8, 30 * time.Minute
		crowded := crowdedDevice{make(chan struct{}, 1), each}
		report, err := Run(t.Context(), fakeJob{40, 40}, []Device{crowded}, nowhere{}, Options{Tiles: tiles})
		if err != nil {
			t.Fatal(err)
		}
		if report.Lost > 0 || report.Makespan != tiles*each {
			t.Errorf("%d leases were lost, and it took %v", report.Lost, report.Makespan)
		}
	})
}

// knottyDevice computes an element in a millisecond, but one that takes much longer, and says
// now and then that it comes on.
type knottyDevice struct {
	knot  kernels.Tile
	takes time.Duration
}

func (d knottyDevice) ID() string                                                 { return "knotty" }
func (d knottyDevice) Slots() int                                                 { return 1 }
func (d knottyDevice) Close() error                                               { return nil }
func (d knottyDevice) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return d, nil }

func (d knottyDevice) Run(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	left := time.Duration(t.Area()) * time.Millisecond
	if !t.Intersect(d.knot).Empty() {
		left += d.takes
	}
	for ; left > 0; left -= time.Second {
		if err := pause(ctx, min(left, time.Second)); err != nil {
			return err
		}
		r.Advance()
	}
	return nil
}

// A tile that takes a hundred times as long as it was predicted to is not lost while its
// device comes on: all would have to be done again.
func TestATileThatTakesMuchLongerThanPredicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 100 * time.Second
		job := fakeJob{100, 100}
		knotty := knottyDevice{kernels.Tile{X: 50, Y: 50, W: 1, H: 1}, takes}
		report, err := Run(t.Context(), job, []Device{knotty}, nowhere{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := takes + time.Duration(job.Bounds().Area())*time.Millisecond; report.Lost > 0 || report.Makespan > want+time.Second {
			t.Errorf("%d leases were lost, and it took %v in place of %v", report.Lost, report.Makespan, want)
		}
	})
}
