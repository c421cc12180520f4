package dist

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// slowSink takes some time to store a result.
type slowSink struct{ *checkSink }

func (s slowSink) Put(t kernels.Tile, r *kernels.Result) error {
	time.Sleep(3 * time.Second)
	return s.checkSink.Put(t, r)
}

// TestSpans checks the times of leases of a device whose times are known, one of which
// is lost, and that without Options.Spans the report is the same but for them.
func TestSpans(t *testing.T) {
	for _, kept := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			job := fakeJob{40, 10}
			d := &fakeDevice{id: "d", rate: 10, fault: func(_ context.Context, _ kernels.Tile, n int) error {
				if n == 1 {
					time.Sleep(time.Second)
					return ErrLost
				}
				return nil
			}}
			other := &fakeDevice{id: "late", begins: func(ctx context.Context) error {
				return errors.Join(pause(ctx, 5*time.Second), errors.New("cannot"))
			}}
			sink := newCheckSink(job)
			r, err := Run(t.Context(), job, []Device{d, other}, slowSink{sink}, Options{Tiles: 4, Spans: kept})
			if err != nil {
				t.Fatal(err)
			}
			sink.check(t, true)
			checkReport(t, r, true)
			if got := r.Devices[0]; got.Busy != 40*time.Second || got.Tiles != 4 {
				t.Errorf("the report is %+v", got)
			}
			if r.Devices[1].SetAside == nil || r.Devices[1].SetAsideAt != 5*time.Second {
				t.Errorf("set aside at %v: %v", r.Devices[1].SetAsideAt, r.Devices[1].SetAside)
			}
			if !kept {
				if r.Spans != nil {
					t.Errorf("%d spans were kept", len(r.Spans))
				}
				return
			}
			at := time.Duration(0)
			for i, s := range spansOf(r, "d") {
				want := Span{Device: "d", Tile: s.Tile, Outcome: OutcomeDone, Granted: at, Start: at, End: at + 10*time.Second, Ended: at + 13*time.Second}
				if i == 1 {
					want = Span{Device: "d", Tile: s.Tile, Outcome: OutcomeLost, Granted: at, Start: at, End: at, Ended: at + time.Second}
				}
				if s != want {
					t.Errorf("lease %d is\n%+v, want\n%+v", i, s, want)
				}
				at = want.Ended
			}
		})
	}
}

func spansOf(r *Report, id string) (spans []Span) {
	for _, s := range r.Spans {
		if s.Device == id {
			spans = append(spans, s)
		}
	}
	return spans
}

// TestConvictedSpans checks that what a convicted device did counts as wrong, and as no
// time in which it was busy.
func TestConvictedSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{40, 10}
		q := newQueue(job, newCheckSink(job), Options{Tiles: 4, Spans: true})
		p := q.join(q.use("bad", 1), 0)
		for range 2 {
			l := mustPull(t, p)
			time.Sleep(time.Second)
			if err := answer(l, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if busy := q.report().Devices[0].Busy; busy != 2*time.Second {
			t.Errorf("it was busy for %v", busy)
		}
		l := mustPull(t, p)
		time.Sleep(time.Second)
		if err := l.wrong(kernels.NewResult(job, l.tile), time.Second, ErrWrong); err != nil {
			t.Fatal(err)
		}
		if busy := q.report().Devices[0].Busy; busy != 0 {
			t.Errorf("it was busy for %v, for nothing", busy)
		}
		for i, s := range q.allSpans() {
			at := time.Duration(i) * time.Second
			if s.Outcome != OutcomeWrong || s.Start != at || s.End != at+time.Second {
				t.Errorf("span %d is %+v", i, s)
			}
		}
	})
}

// TestReportIsCheap checks that a report in the middle of a job has no spans, and takes
// no more memory for many leases than for few.
func TestReportIsCheap(t *testing.T) {
	job := fakeJob{3000, 1}
	q := newQueue(job, discard{}, Options{Tiles: 3000, Spans: true})
	p := q.join(q.use("d", 1), 0)
	for range 2999 {
		if err := answer(mustPull(t, p), 1); err != nil {
			t.Fatal(err)
		}
	}
	allocates(t, 4<<10, "a report", func() {
		if r := q.report(); r.Spans != nil || r.Devices[0].Tiles != 2999 {
			t.Errorf("the report is %+v", r)
		}
	})
	q.stop(errHung)
}

// TestClockOfAHost has a host whose clock is hours off, or that says what it likes: the
// computing is placed on this machine's time line, as near as is said, or within the
// lease.
func TestClockOfAHost(t *testing.T) {
	began := time.Now()
	off := func(by time.Duration) func(time.Time) int64 {
		return func(at time.Time) int64 { return int64(at.Sub(began) + by) }
	}
	always := func(said int64) func(time.Time) int64 { return func(time.Time) int64 { return said } }
	for name, test := range map[string]struct {
		show   func(time.Time) int64
		honest bool
	}{
		"equal": {off(0), true}, "ahead": {off(5 * time.Hour), true}, "far ahead": {off(1000 * time.Hour), true},
		"no time": {always(math.MinInt64), false}, "the last": {always(math.MaxInt64), false},
	} {
		t.Run(name, func(t *testing.T) { checkClock(t, test.show, test.honest) })
	}
}

// checkClock has a host whose clock shows what show says compute tiles.
func checkClock(t *testing.T, show func(time.Time) int64, honest bool) {
	const waits, takes = 3 * time.Millisecond, 5 * time.Millisecond
	job := &knownJobs()[1]
	var computed time.Time
	r := startScriptedHost(t, job, func(h *scriptedHost, f frame) {
		var m leaseMessage
		if h.begin(f) || f.typ != typeLease || f.decode(&m) != nil {
			return
		}
		h.say(h.control, mustFrame(typePing, pingMessage{Time: show(time.Now())}))
		read := time.Now()
		time.Sleep(waits)
		computed = time.Now()
		time.Sleep(takes)
		busy := time.Since(computed)
		h.say(h.bulk, mustFrame(typeResult, resultMessage{
			Lease: m.Lease, Busy: int64(busy), Waited: int64(computed.Sub(read)), Read: show(read),
		}, job.result(kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H})...))
	})
	runner, err := r.Devices()[0].Begin(t.Context(), job.Mandelbrot)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		asked := time.Now()
		b, err := runner.(lender).lend(t.Context(), job.Bounds(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := &b.view
		end := v.Began.Add(v.Busy)
		if v.Began.Before(asked) || end.After(time.Now()) || v.BeganWithin < 0 || v.BeganWithin > time.Since(asked) {
			t.Errorf("asked at %v, it was computed from %v to %v, within %v", asked, v.Began, end, v.BeganWithin)
		}
		if off := v.Began.Sub(computed).Abs(); honest && off > v.BeganWithin {
			t.Errorf("it is off by %v, and said to be by %v at most", off, v.BeganWithin)
		}
		runner.(lender).takeBack(b)
	}
	sink := newImageSink(job.Mandelbrot)
	report, err := Run(t.Context(), job.Mandelbrot, r.Devices(), sink, Options{Tiles: 3, Spans: true})
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	checkReport(t, report, true)
	for _, s := range report.Spans {
		if honest && s.Outcome == OutcomeDone && (s.Waited < waits || s.End-s.Start < takes || s.Within <= 0) {
			t.Errorf("the span is %+v", s)
		}
	}
}
