package dist

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeJob is a job whose every element holds its own place.
type fakeJob struct{ w, h int }

func (j fakeJob) Kernel() string          { return "fake" }
func (j fakeJob) Bounds() kernels.Tile    { return kernels.Tile{W: j.w, H: j.h} }
func (j fakeJob) DType() kernels.DType    { return kernels.Float64 }
func (j fakeJob) Planes() []kernels.DType { return []kernels.DType{kernels.Uint32, kernels.Float64} }

func (j fakeJob) fill(t kernels.Tile, r *kernels.Result) {
	counts, values := kernels.Elements[uint32](r.Planes[0]), kernels.Elements[float64](r.Planes[1])
	for y := range t.H {
		for x := range t.W {
			place := (t.Y+y)*j.w + t.X + x
			counts[y*t.W+x], values[y*t.W+x] = uint32(place), 0.5*float64(place)
		}
	}
}

// fakeDevice computes fakeJobs in the time that their cost takes.
type fakeDevice struct {
	id     string
	slots  int
	rate   float64 // cost a second; 0: no time at all
	cost   tiler.Cost
	begins func(ctx context.Context) error

	// fault, if not nil, is asked before each tile, with the number of tiles
	// before it. Its error is the tile's.
	fault func(ctx context.Context, t kernels.Tile, n int) error

	closeErr error // what Close returns

	computing chan struct{} // holds one token: one tile computes at a time
	tiles     atomic.Int32
	closed    atomic.Bool
}

func (d *fakeDevice) ID() string { return d.id }
func (d *fakeDevice) Slots() int { return d.slots }

func (d *fakeDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	if d.begins != nil {
		if err := d.begins(ctx); err != nil {
			return nil, err
		}
	}
	if d.cost == nil {
		d.cost = tiler.Uniform(1)
	}
	d.computing = make(chan struct{}, 1)
	return fakeRunner{d, job.(fakeJob)}, nil
}

type fakeRunner struct {
	*fakeDevice
	job fakeJob
}

func (r fakeRunner) Close() error {
	if r.closed.Swap(true) {
		return fmt.Errorf("%s was closed twice", r.id)
	}
	return r.closeErr
}

func (r fakeRunner) Run(ctx context.Context, t kernels.Tile, result *kernels.Result) error {
	if r.closed.Load() {
		panic(r.id + " ran after it was closed")
	}
	n := int(r.tiles.Add(1)) - 1
	select {
	case r.computing <- struct{}{}:
		defer func() { <-r.computing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.fault != nil {
		if err := r.fault(ctx, t, n); err != nil {
			return err
		}
	}
	if r.rate > 0 {
		if err := pause(ctx, duration(r.cost.Cost(t)/r.rate)); err != nil {
			return err
		}
	}
	r.job.fill(t, result)
	result.BytesIn, result.BytesOut = 1, int64(kernels.ResultBytes(r.job, t))
	return nil
}

// pause sleeps for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hang waits until ctx is done.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// checkSink is a Sink that checks every element that is put.
type checkSink struct {
	job fakeJob
	err error // what Put returns

	mu    sync.Mutex
	times []int // how often each element was put
	wrong error
}

func newCheckSink(job fakeJob) *checkSink {
	return &checkSink{job: job, times: make([]int, job.w*job.h)}
}

func (s *checkSink) Put(t kernels.Tile, r *kernels.Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	counts, values := kernels.Elements[uint32](r.Planes[0]), kernels.Elements[float64](r.Planes[1])
	if !s.job.Bounds().Contains(t) || len(counts) != t.Area() || len(values) != t.Area() {
		s.wrong = fmt.Errorf("put tile %v with %d and %d elements", t, len(counts), len(values))
		return nil
	}
	for i := range counts {
		place := (t.Y+i/t.W)*s.job.w + t.X + i%t.W
		s.times[place]++
		if counts[i] != uint32(place) || values[i] != 0.5*float64(place) {
			s.wrong = fmt.Errorf("element %d of tile %v holds %d and %g", i, t, counts[i], values[i])
		}
	}
	return nil
}

// check fails the test unless what was put is right and, if whole, complete.
func (s *checkSink) check(t *testing.T, whole bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != nil {
		t.Fatal(s.wrong)
	}
	for place, n := range s.times {
		if n > 1 || whole && n != 1 {
			t.Fatalf("element %d was put %d times", place, n)
		}
	}
}

// runFakes runs job on fakes and checks what every run has to keep.
func runFakes(t *testing.T, ctx context.Context, job fakeJob, opts Options, fakes ...*fakeDevice) (*Report, error) {
	t.Helper()
	sink := newCheckSink(job)
	devices := make([]Device, len(fakes))
	for i, d := range fakes {
		devices[i] = d
	}
	opts.Spans = true
	report, err := Run(ctx, job, devices, sink, opts)
	sink.check(t, err == nil)
	checkReport(t, report, err == nil)
	return report, err
}

func checkReport(t *testing.T, r *Report, whole bool) {
	t.Helper()
	share, lost, done, tiles := 0.0, 0, 0, 0
	for i, d := range r.Devices {
		if d.Busy > r.Makespan && whole {
			t.Errorf("device %d was busy for %v of %v", i, d.Busy, r.Makespan)
		}
		share += d.Share
		done += d.Tiles
		tiles += d.Tiles
	}
	for _, s := range r.Spans {
		switch s.Outcome {
		case OutcomeLost:
			lost++
		case OutcomeDone:
			done--
		}
		if s.Granted < 0 || s.Start < s.Granted || s.End < s.Start || s.Ended < s.End {
			t.Errorf("a lease from %v to %v was computed from %v to %v", s.Granted, s.Ended, s.Start, s.End)
		}
	}
	if len(r.Spans) > 0 && (lost != r.Lost || done != 0) {
		t.Errorf("%d lost in the spans, %d in the report; %d tiles are not in the spans", lost, r.Lost, done)
	}
	if tiles > 0 && whole && (share < 1-1e-9 || share > 1+1e-9) {
		t.Errorf("the shares add up to %g", share)
	}
}
