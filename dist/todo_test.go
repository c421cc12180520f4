package dist

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// TestTodo computes what is left of jobs of which random parts are done: that, and nothing
// else, whether tiles are cut by cost or beforehand.
func TestTodo(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			job := fakeJob{1 + rng.IntN(60), 1 + rng.IntN(40)}
			all := tiler.Split(job.Bounds(), 1+rng.IntN(30))
			rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
			done := all[:rng.IntN(len(all)+1)]
			todo := tiler.Subtract(job.Bounds(), done)
			before := 0
			sink := newCheckSink(job)
			for _, tile := range done {
				before += tile.Area()
				for y := range tile.H {
					for x := range tile.W {
						sink.times[(tile.Y+y)*job.w+tile.X+x] = 1 // again would be twice
					}
				}
			}
			first := -1.
			report, err := Run(t.Context(), job, []Device{
				&fakeDevice{id: "slow", slots: 1, rate: 500}, &fakeDevice{id: "fast", slots: 2, rate: 2000},
			}, sink, Options{
				Spans: true, Todo: append([]kernels.Tile{}, todo...), Tiles: rng.IntN(2) * rng.IntN(20),
				Progress: func(done float64) {
					if first < 0 {
						first = done
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			sink.check(t, true)
			checkReport(t, report, true)
			part := float64(before) / float64(job.Bounds().Area())
			if report.Before < part-1e-9 || report.Before > part+1e-9 || first < part-1e-9 {
				t.Fatalf("%g was done before, and is said to have been %g; the progress began at %g", part, report.Before, first)
			}
		})
	}
}

// retractSink is a mapSink that notes what is taken back, and what is then put again.
type retractSink struct {
	mapSink
	refuse error

	retracting sync.Mutex
	retracted  []kernels.Tile
	early      bool // something was put again before it had been retracted
	times      []int
}

func (s *retractSink) Put(t kernels.Tile, r *kernels.Result) error {
	s.retracting.Lock()
	for y := t.Y; y < t.Y+t.H; y++ {
		for x := t.X; x < t.X+t.W; x++ {
			if s.times[y*s.job.w+x]++; s.times[y*s.job.w+x] > 1 {
				s.early = true
			}
		}
	}
	s.retracting.Unlock()
	return s.mapSink.Put(t, r)
}

func (s *retractSink) Retract(tiles []kernels.Tile) error {
	time.Sleep(50 * time.Millisecond) // others go on meanwhile
	s.retracting.Lock()
	defer s.retracting.Unlock()
	s.retracted = append(s.retracted, tiles...)
	for _, t := range tiles {
		for y := t.Y; y < t.Y+t.H; y++ {
			for x := t.X; x < t.X+t.W; x++ {
				s.times[y*s.job.w+x]--
			}
		}
	}
	return s.refuse
}

// TestRetract has a device found out after several answers: the sink is told of each
// element that it has, before that is computed again. An error of the sink ends the job.
func TestRetract(t *testing.T) {
	full := errors.New("the disk is full")
	for _, refuse := range []error{nil, full} {
		synctest.Test(t, func(t *testing.T) {
			job := fakeJob{60, 50}
			sink := &retractSink{mapSink: mapSink{job: job, counts: make([]uint32, job.w*job.h)}, refuse: refuse, times: make([]int, job.w*job.h)}
			honest := &fakeDevice{id: "honest", slots: 2, rate: 1000}
			liar := &lyingDevice{fakeDevice: fakeDevice{id: "liar", slots: 3, rate: 1000}}
			var seen atomic.Int32
			report, err := Run(t.Context(), job, []Device{honest, liar}, sink, Options{
				Tiles: 40, Spans: true,
				Verify: func(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
					if kernels.Elements[uint32](r.Planes[0])[0]&lie != 0 && seen.Add(1) > 4 {
						return ErrWrong
					}
					return nil
				},
			})
			if refuse != nil {
				if !errors.Is(err, full) || !strings.Contains(err.Error(), "taking back") {
					t.Errorf("it ended with %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkReport(t, report, true)
			for place, n := range sink.counts {
				if n != uint32(place) || sink.times[place] != 1 {
					t.Fatalf("element %d is %d, put %d times", place, n, sink.times[place])
				}
			}
			if sink.early || len(sink.retracted) < 4 || slices.ContainsFunc(sink.retracted, kernels.Tile.Empty) {
				t.Errorf("retracted %v, early %t", sink.retracted, sink.early)
			}
		})
	}
}

// TestRetractAtTheEnd has a device found out when the job has just been cancelled: what it
// had put is retracted all the same, before Run returns.
func TestRetractAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{60, 50}
		sink := &retractSink{mapSink: mapSink{job: job, counts: make([]uint32, job.w*job.h)}, times: make([]int, job.w*job.h)}
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int32
		_, err := Run(ctx, job, []Device{&fakeDevice{id: "liar", slots: 1, rate: 1000}}, sink, Options{
			Tiles: 40,
			Verify: func(context.Context, kernels.Tile, *kernels.Result) error {
				if seen.Add(1) < 6 {
					return nil
				}
				cancel()
				synctest.Wait()         // the job has ended
				time.Sleep(time.Second) // which is longer than it waits for devices
				return ErrWrong
			},
		})
		if !errors.Is(err, context.Canceled) || sink.puts != 5 || len(sink.retracted) != 5 {
			t.Errorf("%d results were put, and %v retracted (%v)", sink.puts, sink.retracted, err)
		}
	})
}

// TestATileTakenBackThatFailedElsewhere has a tile fail on two devices, and the third, which
// computed it, found out: the job ends, as nobody is left for the tile.
func TestATileTakenBackThatFailedElsewhere(t *testing.T) {
	job := fakeJob{20, 20}
	boom := errors.New("boom")
	q := newQueue(job, newCheckSink(job), Options{Tiles: 2, Verify: func(context.Context, kernels.Tile, *kernels.Result) error { return nil }})
	var pullers []*puller
	for _, id := range []string{"a", "b", "liar"} {
		pullers = append(pullers, q.join(q.add(&deviceUse{id: id, key: id}), 0))
	}
	pull := func(p *puller) *lease {
		l, err := p.pull(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := pull(pullers[0])
	_ = first.failed(boom)
	for _, p := range pullers[1:] {
		l := pull(p)
		if l.tile != first.tile {
			t.Fatalf("%s got %v and not %v, which has failed", p.device.id, l.tile, first.tile)
		}
		if p == pullers[1] {
			_ = l.failed(boom)
			continue
		}
		r := kernels.NewResult(job, l.tile)
		job.fill(l.tile, r)
		_ = l.done(r, time.Millisecond)
	}
	other := pull(pullers[2])
	_ = other.wrong(kernels.NewResult(job, other.tile), time.Millisecond, ErrWrong)
	if !q.over || !errors.Is(q.err, ErrTileFailed) || !errors.Is(q.err, boom) {
		t.Errorf("over: %t, with %v", q.over, q.err)
		q.stop(boom)
	}
}
