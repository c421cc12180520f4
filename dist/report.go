package dist

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// Report says how a job went.
type Report struct {
	// Done is the part of the job's cost that is done, from 0 to 1.
	Done float64

	// Makespan runs from the first pull to the last result stored.
	Makespan time.Duration

	// Ideal is what Makespan would have been had all devices that began been
	// busy to the end: the sum of their Busy ÷ their number.
	Ideal time.Duration

	// Retries counts the tiles that went back to the queue, failed or lost;
	// Duplicates the leases on what another device already had; Lost the
	// leases that ended in no answer.
	Retries, Duplicates, Lost int

	// Late counts the results that came, or began to, for leases that had been lost, and
	// were refused; those that come when the job has ended are not counted.
	Late int

	// Before is the part of the job's cost that was done in runs before, from 0 to 1:
	// what is not in Options.Todo.
	Before float64

	// Devices are in the order in which they were given, without those that
	// Options.Convicted leaves out.
	Devices []DeviceReport

	// Convicted is Options.Convicted, and the devices that this run has found to be
	// wrong.
	Convicted Convicted

	// Spans lists every lease, by when it was granted, if Options.Spans asks for them.
	Spans []Span
}

// DeviceReport says what one device did. It counts only tiles of which the
// result, or a part of it, was used.
type DeviceReport struct {
	ID    string
	Key   string // what it is known by from one session with its host to the next; see Convicted
	State State
	Slots int
	Tiles int

	// InFlight counts the leases that it has now.
	InFlight int

	// Busy is the time in which the device computed, on one tile or several.
	Busy time.Duration

	// Cost is the cost of the results used, in the job's unit; Share is its
	// part of the cost of what there was to compute, from 0 to 1; Rate is Cost a second
	// of Busy, 0 where Busy is.
	Cost, Share, Rate float64

	// BytesIn and BytesOut were copied to and from the device's memory.
	BytesIn, BytesOut int64

	// SetAside says why the device was given up before the job was done, or
	// why it could not be closed; it is nil for a device without fault, else it
	// is a *DeviceError. SetAsideAt is when that was, from the first pull on.
	SetAside   error
	SetAsideAt time.Duration

	// Failures counts the leases that failed, were lost, or had a result that was
	// found to be wrong. LastError, a *DeviceError or nil, says why the last one did that
	// the device answered so or left unanswered, and LastErrorAt when, from the first
	// pull on.
	Failures    int
	LastError   error
	LastErrorAt time.Duration

	Late int // as in Report, the results of this device
}

// Span is one lease. Its times count from the first pull, on the clock of this
// process.
type Span struct {
	Device  string
	Slot    int
	Tile    kernels.Tile
	Outcome Outcome

	// Granted is when the lease was, and Ended when its result had been stored or it
	// ended otherwise.
	Granted, Ended time.Duration

	// Start and End are when the device began to compute, and ended; both are Granted
	// where no result came. Before that the tile lay Waited beside a device of a host,
	// for which Start and End may be off by Within.
	Start, End     time.Duration
	Waited, Within time.Duration

	// Late is when a result came, or began to, though the lease had been lost; 0 if none did.
	Late time.Duration
}

// Outcome is how a lease ended.
type Outcome string

// The outcomes of a lease.
const (
	OutcomeDone    Outcome = "done"
	OutcomeBeaten  Outcome = "beaten" // other leases on the same elements were answered first
	OutcomeFailed  Outcome = "failed"
	OutcomeWrong   Outcome = "wrong" // or by a device of which another answer was
	OutcomeLost    Outcome = "lost"
	OutcomeStopped Outcome = "stopped" // the job ended first
)

// counts are the queue's entries for the report.
type counts struct {
	began, last               time.Time // the first grant, the last result stored
	retries, duplicates, lost int
	late                      int
}

// at returns how long after the first grant t is; 0 before that.
func (c *counts) at(t time.Time) time.Duration {
	if c.began.IsZero() {
		return 0
	}
	return max(0, t.Sub(c.began))
}

// work is one device's entries for the report.
type work struct {
	tiles             int
	cost              float64
	bytesIn, bytesOut int64
	busy              busyTime
	spans             []Span // if they are kept
}

// add enters the answer r to l, as far as it is used.
func (w *work) add(l *lease, r *kernels.Result) {
	w.tiles++
	w.cost += costOf(l.pieces)
	w.bytesIn += r.BytesIn
	w.bytesOut += r.BytesOut
}

// discard makes nothing of what was done count any more.
func (w *work) discard() {
	w.tiles, w.cost, w.busy = 0, 0, busyTime{}
	for i := range w.spans {
		if w.spans[i].Outcome == OutcomeDone {
			w.spans[i].Outcome = OutcomeWrong
		}
	}
}

// addSpan keeps what is known of l, which ends now. q.mu is held.
func (q *queue) addSpan(l *lease, outcome Outcome, now time.Time, c computed) {
	granted := l.start.Sub(q.counts.began)
	if c == (computed{}) {
		c.from, c.to = granted, granted
	}
	w := &l.puller.device.work
	l.span = len(w.spans)
	w.spans = append(w.spans, Span{
		Device: l.puller.device.id, Slot: l.puller.slot, Tile: l.tile, Outcome: outcome,
		Granted: granted, Ended: now.Sub(q.counts.began),
		Start: c.from, End: c.to, Waited: c.waited, Within: c.within,
	})
}

// endSpan notes that the result of l has been stored now. q.mu is held.
func (q *queue) endSpan(l *lease) {
	if q.spans {
		l.puller.device.work.spans[l.span].Ended = time.Since(q.counts.began)
	}
}

// allSpans returns the spans of all devices, by when they were granted.
func (q *queue) allSpans() []Span {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []Span
	for _, d := range q.devices {
		all = append(all, d.work.spans...)
	}
	slices.SortStableFunc(all, func(a, b Span) int { return cmp.Compare(a.Granted, b.Granted) })
	return all
}

// report says how the job went so far. It takes no longer for many leases than for
// few, and has no spans.
func (q *queue) report() *Report {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := &Report{Retries: q.counts.retries, Duplicates: q.counts.duplicates, Lost: q.counts.lost, Late: q.counts.late, Convicted: maps.Clone(q.convicted)}
	if q.total > 0 {
		r.Before = q.before / q.total
	}
	r.Done = q.done()
	if !q.counts.last.IsZero() {
		r.Makespan = q.counts.last.Sub(q.counts.began)
	}
	began := 0
	for _, d := range q.devices {
		e := DeviceReport{
			ID: d.id, Key: d.key, State: d.state(), Slots: d.slots, Tiles: d.work.tiles, InFlight: d.out, Failures: d.faults.count, Late: d.late, Busy: d.work.busy.total(),
			Cost: d.work.cost, BytesIn: d.work.bytesIn, BytesOut: d.work.bytesOut,
		}
		if todo := q.total - q.before; todo > 0 {
			e.Share = e.Cost / todo
		}
		if e.Busy > 0 {
			e.Rate = e.Cost / e.Busy.Seconds()
		}
		if d.aside != nil && (!d.left || d.wrong) {
			e.SetAside, e.SetAsideAt = d.aside, q.counts.at(d.asideAt)
		}
		if d.faults.last != nil {
			e.LastError, e.LastErrorAt = d.faults.last, d.faults.lastAt.Sub(q.counts.began)
		}
		if d.began {
			began++
			r.Ideal += e.Busy
		}
		r.Devices = append(r.Devices, e)
	}
	r.Ideal /= time.Duration(max(1, began))
	return r
}

// done returns the part of the job's cost that is done. q.mu is held.
func (q *queue) done() float64 {
	if q.completed() {
		return 1
	}
	return min(1, q.costDone/q.total)
}

// progressEvery is the least time between two calls of Options.Progress.
const progressEvery = 50 * time.Millisecond

// progress calls Options.Progress.
type progress struct {
	report func(done float64)
	mu     sync.Mutex // held while report runs
	last   time.Time
	most   float64
}

// tell reports how far q is, unless that is being done or has just been done.
func (p *progress) tell(q *queue) {
	if p.report == nil || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.last) < progressEvery {
		return
	}
	q.mu.Lock()
	done, over := q.done(), q.over
	q.mu.Unlock()
	if !over {
		p.last = now
		p.most = max(p.most, done) // what a device had done may not count any more
		p.report(p.most)
	}
}

// finish reports that the job is done.
func (p *progress) finish() {
	if p.report == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report(1)
}
