package dist

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// skewed is a cost map with one expensive corner, over the bounds of job.
func skewed(job fakeJob) tiler.Cost {
	samples := make([]float64, 32*32)
	for i := range samples {
		x, y := float64(i%32), float64(i/32)
		samples[i] = 1000 * math.Exp(-(x*x+y*y)/60)
	}
	return tiler.NewCostMap(job.w, job.h, 32, 32, samples, 1)
}

func TestDevicesOfAllSpeedsFinishTogether(t *testing.T) {
	job := fakeJob{1200, 900}
	for name, cost := range map[string]tiler.Cost{"uniform": tiler.Uniform(1), "skewed": skewed(job)} {
		for slots := 1; slots <= 2; slots++ {
			t.Run(fmt.Sprintf("%s, %d slots", name, slots), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					unit := cost.Cost(job.Bounds()) / 1110
					fakes := []*fakeDevice{
						{id: "slow", slots: 1, rate: unit, cost: cost},
						{id: "middle", slots: slots, rate: 10 * unit, cost: cost},
						{id: "fast", slots: slots, rate: 100 * unit, cost: cost},
					}
					r, err := runFakes(t, t.Context(), job, Options{Cost: cost}, fakes...)
					if err != nil {
						t.Fatal(err)
					}
					if ratio := float64(r.Makespan) / float64(r.Ideal); ratio > 1.1 || r.Makespan < 10*time.Second {
						t.Errorf("makespan %v is %.3f of ideal %v", r.Makespan, ratio, r.Ideal)
					}
					if r.Devices[2].Share < 0.85 || r.Devices[0].Share > 0.012 {
						t.Errorf("shares %.3f and %.3f", r.Devices[0].Share, r.Devices[2].Share)
					}
					checkFactoring(t, r, "fast")
				})
			})
		}
	}
}

// checkFactoring fails unless the tiles of a device grow from small, to no
// more than the ceiling, and fall to small again.
func checkFactoring(t *testing.T, r *Report, id string) {
	t.Helper()
	var spans []Span
	for _, s := range r.Spans {
		if s.Device == id && s.Outcome == OutcomeDone {
			spans = append(spans, s)
		}
	}
	length := func(s Span) time.Duration { return s.End - s.Start }
	longest := length(slices.MaxFunc(spans, func(a, b Span) int { return int(length(a) - length(b)) }))
	first, last := length(spans[0]), length(spans[len(spans)-1])
	if first > longest/10 || last > longest/10 || longest > 3*ceiling/2 || longest < ceiling/4 {
		t.Errorf("tiles of %s take %v at first, %v at most, %v in the end", id, first, longest, last)
	}
}

func TestAWrongCostIsMadeGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{1000, 1000}
		truth := skewed(job)
		rate := truth.Cost(job.Bounds()) / 20
		r, err := runFakes(t, t.Context(), job, Options{}, // the queue takes it for uniform
			&fakeDevice{id: "a", rate: rate, cost: truth}, &fakeDevice{id: "b", rate: 3 * rate, cost: truth})
		if err != nil {
			t.Fatal(err)
		}
		if ratio := float64(r.Makespan) / float64(r.Ideal); ratio > 1.3 {
			t.Errorf("makespan %v is %.3f of ideal %v", r.Makespan, ratio, r.Ideal)
		}
	})
}

func TestTilesAreAsManyAsAsked(t *testing.T) {
	for _, c := range []struct {
		job         fakeJob
		tiles, want int
	}{
		{fakeJob{40, 30}, 1, 1}, {fakeJob{40, 30}, 7, 7}, {fakeJob{40, 30}, 1000, 1000},
		{fakeJob{4, 3}, 1000, 12}, {fakeJob{1, 1}, 0, 1},
	} {
		for devices := 1; devices <= 3; devices++ {
			t.Run(fmt.Sprintf("%v in %d on %d", c.job, c.tiles, devices), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var fakes []*fakeDevice
					for i := range devices {
						fakes = append(fakes, &fakeDevice{id: fmt.Sprint(i), rate: 1000})
					}
					r, err := runFakes(t, t.Context(), c.job, Options{Tiles: c.tiles}, fakes...)
					if err != nil {
						t.Fatal(err)
					}
					done := 0
					for _, d := range r.Devices {
						done += d.Tiles
					}
					if done != c.want {
						t.Errorf("%d tiles were done, want %d", done, c.want)
					}
				})
			})
		}
	}
}

func TestMaxResultBytesBoundsTiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := runFakes(t, t.Context(), fakeJob{100, 100}, Options{MaxResultBytes: 12 * 250}, &fakeDevice{id: "a"})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Spans {
			if s.Tile.Area() > 250 {
				t.Errorf("tile %v is above the bound of 250 elements", s.Tile)
			}
		}
	})
}

func TestNothingToDo(t *testing.T) {
	for _, job := range []fakeJob{{0, 0}, {5, 0}, {0, 5}} {
		last := -1.0
		r, err := runFakes(t, t.Context(), job, Options{Progress: func(done float64) { last = done }}, &fakeDevice{id: "a", begins: hang})
		if err != nil || len(r.Devices) != 1 || last != 1 {
			t.Errorf("%v: error %v, report %+v, progress %g", job, err, r, last)
		}
	}
}

func TestMoreDevicesThanElements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fakes []*fakeDevice
		for i := range 9 {
			fakes = append(fakes, &fakeDevice{id: fmt.Sprint(i), slots: 2, rate: 10})
		}
		if _, err := runFakes(t, t.Context(), fakeJob{2, 2}, Options{}, fakes...); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASlowBeginHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fakeDevice{id: "slow to begin", rate: 1000, begins: func(ctx context.Context) error { return pause(ctx, time.Minute) }}
		r, err := runFakes(t, t.Context(), fakeJob{100, 100}, Options{}, slow, &fakeDevice{id: "ready", rate: 10000})
		if err != nil {
			t.Fatal(err)
		}
		if r.Makespan > 1100*time.Millisecond || r.Devices[0].SetAside != nil || r.Ideal != r.Devices[1].Busy {
			t.Errorf("makespan %v, ideal %v, %+v", r.Makespan, r.Ideal, r.Devices)
		}
	})
}

func TestALateDeviceTakesItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &fakeDevice{id: "late", rate: 30000, begins: func(ctx context.Context) error { return pause(ctx, 2*time.Second) }}
		r, err := runFakes(t, t.Context(), fakeJob{1000, 100}, Options{}, late, &fakeDevice{id: "ready", rate: 10000})
		if err != nil {
			t.Fatal(err)
		}
		if r.Devices[0].Share < 0.5 {
			t.Errorf("the late device did %.2f", r.Devices[0].Share)
		}
	})
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []float64
		var last time.Time
		progress := func(done float64) {
			if now := time.Now(); done < 1 && now.Sub(last) < progressEvery {
				t.Errorf("told twice within %v", now.Sub(last))
			}
			last = time.Now()
			told = append(told, done)
		}
		_, err := runFakes(t, t.Context(), fakeJob{1000, 100}, Options{Progress: progress},
			&fakeDevice{id: "a", slots: 2, rate: 40000}, &fakeDevice{id: "b", rate: 10000})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSorted(told) || len(told) < 5 || told[len(told)-1] != 1 {
			t.Errorf("told %v", told)
		}
	})
}

func TestReportCountsBytesAndBusyTimeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{300, 100}
		r, err := runFakes(t, t.Context(), job, Options{}, &fakeDevice{id: "a", slots: 2, rate: 10000})
		if err != nil {
			t.Fatal(err)
		}
		d := r.Devices[0]
		if d.BytesOut != int64(kernels.ResultBytes(job, job.Bounds())) || d.BytesIn != int64(d.Tiles) {
			t.Errorf("%d bytes in, %d out", d.BytesIn, d.BytesOut)
		}
		if d.Busy < 2990*time.Millisecond || d.Busy > 3010*time.Millisecond || d.Rate < 9900 || d.Rate > 10100 || d.Cost != 30000 {
			t.Errorf("busy %v, rate %g, cost %g; want 3s, 10000, 30000", d.Busy, d.Rate, d.Cost)
		}
	})
}

func TestSinkErrorEndsTheJob(t *testing.T) {
	job := fakeJob{100, 100}
	sink := newCheckSink(job)
	sink.err = errors.New("disk full")
	_, err := Run(t.Context(), job, []Device{&fakeDevice{id: "a"}, &fakeDevice{id: "b"}}, sink, Options{})
	if !errors.Is(err, sink.err) || !strings.Contains(err.Error(), "tile") {
		t.Errorf("got %v", err)
	}
}

func TestCancelReturnsPromptly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, cancel)
		start := time.Now()
		_, err := runFakes(t, ctx, fakeJob{1000, 1000}, Options{Progress: func(done float64) {
			if done == 1 {
				t.Error("progress says that the job is done")
			}
		}}, &fakeDevice{id: "a", slots: 2, rate: 1000}, &fakeDevice{id: "b", begins: hang})
		if took := time.Since(start); err != context.Canceled || took != 1500*time.Millisecond {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

// A device that takes its time to stop does not hold up the caller; its
// Runner is closed all the same.
func TestCancelDoesNotWaitForASlowDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		slow := &fakeDevice{id: "a", fault: func(ctx context.Context, _ kernels.Tile, _ int) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil
		}}
		start := time.Now()
		_, err := runFakes(t, ctx, fakeJob{10, 10}, Options{}, slow)
		if took := time.Since(start); err != context.DeadlineExceeded || took > 110*time.Millisecond {
			t.Errorf("got %v after %v", err, took)
		}
		if slow.closed.Load() {
			t.Error("the device was closed while it ran")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !slow.closed.Load() {
			t.Error("the device was never closed")
		}
	})
}

func TestCancelledBeforeTheStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runFakes(t, ctx, fakeJob{10, 10}, Options{}, &fakeDevice{id: "a"}); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// A job that waited for a device leaves no timer behind, which would hold what
// the job was put into.
func TestNothingIsHeldOfAJobThatWaited(t *testing.T) {
	join := make(chan Device, 1)
	join <- &fakeDevice{id: "a"}
	sink := newCheckSink(fakeJob{10, 10})
	held := weak.Make(sink)
	if _, err := Run(t.Context(), sink.job, nil, sink, Options{Join: join, Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the sink is let go", func() bool { runtime.GC(); return held.Value() == nil })
}

// On the real clock, with devices that take no time, for the race detector.
func TestManyQuickDevices(t *testing.T) {
	for tiles := range 3 {
		var fakes []*fakeDevice
		for i := range 8 {
			fakes = append(fakes, &fakeDevice{id: fmt.Sprint(i), slots: 1 + i%2})
		}
		_, err := runFakes(t, t.Context(), fakeJob{640, 480}, Options{Tiles: 500 * tiles, MaxResultBytes: 1 << 12}, fakes...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		for i, d := range fakes {
			fakes[i] = &fakeDevice{id: d.id, slots: d.slots, rate: 1e5}
		}
		if _, err := runFakes(t, ctx, fakeJob{640, 480}, Options{}, fakes...); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		cancel()
	}
}

// What a tile costs besides computing.
func BenchmarkTiles(b *testing.B) {
	for _, devices := range []int{1, 8} {
		b.Run(fmt.Sprintf("devices=%d", devices), func(b *testing.B) {
			job := fakeJob{1000, 1000}
			list := make([]Device, devices)
			for i := range list {
				list[i] = &fakeDevice{id: fmt.Sprint(i)}
			}
			tiles := 0
			for b.Loop() {
				for _, d := range list {
					d.(*fakeDevice).closed.Store(false)
				}
				r, err := Run(b.Context(), job, list, discard{}, Options{Tiles: 50000})
				if err != nil {
					b.Fatal(err)
				}
				for _, d := range r.Devices {
					tiles += d.Tiles
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(tiles), "ns/tile")
		})
	}
}

type discard struct{}

func (discard) Put(kernels.Tile, *kernels.Result) error { return nil }
