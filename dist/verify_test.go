package dist

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// mapSink keeps what was last put at each place.
type mapSink struct {
	job    fakeJob
	mu     sync.Mutex
	counts []uint32
	puts   int
}

func (s *mapSink) Put(t kernels.Tile, r *kernels.Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	counts := kernels.Elements[uint32](r.Planes[0])
	for y := range t.H {
		copy(s.counts[(t.Y+y)*s.job.w+t.X:][:t.W], counts[y*t.W:])
	}
	return nil
}

// lyingDevice computes wrongly from its second tile on.
type lyingDevice struct {
	fakeDevice
	lies atomic.Int32
}

func (d *lyingDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	r, err := d.fakeDevice.Begin(ctx, job)
	return lyingRunner{r, d}, err
}

type lyingRunner struct {
	kernels.Runner
	d *lyingDevice
}

const lie = 1 << 31

func (r lyingRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	err := r.Runner.Run(ctx, t, out)
	if n := r.d.lies.Add(1); n > 1 {
		kernels.Elements[uint32](out.Planes[0])[0] ^= lie
	}
	return err
}

// TestVerifyTakesBack has a device lie that is found out only when it has lied several
// times: all that it had computed is computed again.
func TestVerifyTakesBack(t *testing.T) {
	for _, slots := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			job := fakeJob{60, 50}
			honest := &fakeDevice{id: "honest", slots: 2, rate: 1000}
			liar := &lyingDevice{fakeDevice: fakeDevice{id: "liar", slots: slots, rate: 1000}}
			sink := &mapSink{job: job, counts: make([]uint32, job.w*job.h)}
			seen := atomic.Int32{}
			last := 0.0
			report, err := Run(t.Context(), job, []Device{honest, liar}, sink, Options{
				Tiles: 40, Spans: true,
				Verify: func(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
					time.Sleep(time.Millisecond)
					if kernels.Elements[uint32](r.Planes[0])[0]&lie != 0 && seen.Add(1) > 4 {
						return ErrWrong
					}
					return nil
				},
				Progress: func(done float64) {
					if done < last {
						t.Errorf("the progress fell from %g to %g", last, done)
					}
					last = done
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			for place, n := range sink.counts {
				if n != uint32(place) {
					t.Fatalf("element %d is %d", place, n)
				}
			}
			checkReport(t, report, true)
			d := report.Devices[1]
			if d.Tiles != 0 || d.SetAside == nil || !errors.Is(d.SetAside, ErrWrong) || report.Devices[0].SetAside != nil {
				t.Errorf("the report is %+v", report.Devices)
			}
			if report.Retries < 5 || sink.puts < 44 {
				t.Errorf("%d retries, %d results", report.Retries, sink.puts)
			}
		})
	}
}

// TestVerifyEnds has nobody left who is right, and a verification that fails itself.
func TestVerifyEnds(t *testing.T) {
	broken := errors.New("no memory")
	for _, c := range []struct {
		name   string
		verify error
		want   error
		part   string
	}{
		{"wrong", ErrWrong, ErrNoDevice, "fake: computing tile"},
		{"broken", broken, broken, "verifying the result of tile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				device := &fakeDevice{id: "fake", slots: 2, rate: 1000}
				_, err := runFakes(t, t.Context(), fakeJob{20, 20}, Options{
					Tiles: 4, Verify: func(context.Context, kernels.Tile, *kernels.Result) error { return c.verify },
				}, device)
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.part) {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}
