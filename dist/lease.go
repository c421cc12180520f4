package dist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// When a lease is given up.
const (
	// A lease is lost deadlineFactor × its predicted time + deadlineSlack
	// after it was granted, but not before nothing of its device has come on for
	// patience: predictions may be off by more, and what was done would have to be done
	// again. Hosts say at each heartbeat what has come on.
	deadlineFactor = 4
	deadlineSlack  = time.Second
	patience       = 2*heartbeat + deadlineSlack

	// A lease of a puller with an unknown rate is lost when nothing of its
	// device has come on for so long, and the next one of the puller after twice
	// as long, so that a device which is only slow ends its tile some day. A
	// driver may take its time to wake up.
	silenceLimit = 2 * time.Minute

	// A lease that is predicted to take longer than longTile, or for which operands may
	// have to come first, is not lost before nothing of its device has come on for
	// progressLimit: much would have to be done again, and if others are idle they
	// duplicate it.
	longTile      = 2 * time.Second
	progressLimit = 10 * time.Second

	// A device that has not answered a lease so long after the lease was
	// revoked is set aside. A Runner has 100 ms for it.
	hangLimit = 3 * time.Second

	// alarmEach times the leases beyond searchFree is how long the next look at all of
	// them waits, like the next search: some tenths of a second where there are tens of
	// thousands.
	alarmEach = 10 * time.Microsecond
)

// lease is the right of a puller to answer for one tile. It is live from the
// grant until it is answered, revoked, or the job ends. What comes after that
// is refused, by live alone: a tile that goes out again does so in a new lease.
// The puller answers exactly once, by done, failed or lost, also when the lease
// has been revoked: that says that the device is free again.
type lease struct {
	tile      kernels.Tile
	puller    *puller
	duplicate bool

	// ctx is done when the lease is no longer live; the device may then stop.
	ctx    context.Context
	cancel context.CancelFunc

	// All that follows is guarded by the queue's mutex.
	live, answered bool
	at             int      // its place in queue.live
	pieces         []*piece // of tile, what nobody has answered yet
	cost           float64  // of tile
	start          time.Time
	predicted      time.Duration
	rated          bool      // predicted rests on a measured rate
	keeps          bool      // its progress matters to a lease that is not rated
	due            time.Time // see dueAt
	span           int       // its place in the spans of its device, if they are kept
	outcome        Outcome   // how it ended; empty while it is live
	late           time.Time // when a result came that nobody waited for; zero if none did
}

// grant leases x to p. q.mu is held.
func (q *queue) grant(p *puller, x *piece, now time.Time) *lease {
	l := &lease{
		tile: x.tile, puller: p, duplicate: len(x.holders) > 0,
		live: true, pieces: []*piece{x}, cost: x.cost, start: now,
		predicted: p.rate.predict(x.cost), rated: p.rate.perSecond() > 0,
	}
	l.ctx, l.cancel = context.WithCancel(q.ctx)
	l.keeps = !l.rated || l.long() || p.device.learning > 0
	x.holders = append(x.holders, l)
	l.at = len(q.live)
	q.live = append(q.live, l)
	p.device.out++
	if q.counts.began.IsZero() {
		q.counts.began = now
	}
	if l.duplicate {
		q.counts.duplicates++
		q.helpers.add(p)
	}
	limit := q.limit(l)
	l.due = now.Add(limit)
	q.setAlarm(l.due, now)
	return l
}

// limit returns how long l lasts unless it is answered or kept alive.
func (q *queue) limit(l *lease) time.Duration {
	if l.rated {
		return deadlineFactor*l.predicted + deadlineSlack
	}
	return silenceLimit << l.puller.givenUp
}

// dueAt returns when the queue's alarm has something to say about l. A live lease lasts
// for as long as its device comes on. q.mu is held.
func (l *lease) dueAt() time.Time {
	if !l.live {
		return l.due
	}
	limit := patience
	switch {
	case !l.rated:
		limit = l.puller.q.limit(l)
	case l.long():
		limit = progressLimit
	}
	if kept := l.puller.device.cameOn.Add(limit); kept.After(l.due) {
		return kept
	}
	return l.due
}

// long reports whether l may take much longer than its tile is worth.
func (l *lease) long() bool { return l.predicted > longTile || l.puller.device.grid != nil }

// setAlarm makes sure that overdue runs at due. One timer does for all leases:
// most are answered long before they are due. q.mu is held.
func (q *queue) setAlarm(due, now time.Time) {
	if !q.alarmAt.IsZero() && !due.Before(q.alarmAt) {
		return
	}
	q.alarmAt = due
	if q.alarm == nil {
		q.alarm = time.AfterFunc(due.Sub(now), q.overdue)
	} else {
		q.alarm.Reset(due.Sub(now))
	}
}

// overdue revokes the leases that have reached their deadlines, and sets aside
// the devices that have not answered a lease that was revoked.
func (q *queue) overdue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alarmAt = time.Time{}
	now := time.Now()
	for _, l := range slices.Concat(q.live, q.revoked) {
		l.puller.device.noteMoved(now)
		switch {
		case q.over:
			return
		case l.answered || now.Before(l.dueAt()):
		case l.live:
			if !l.rated {
				l.puller.givenUp++
			}
			q.note(l, OutcomeLost, errLate)
			q.revoke(l, OutcomeLost)
			q.dispatch()
			q.lookForDevices() // its device may have left, as the last one
		default:
			q.setAside(l.puller.device, computing(l.puller.device.id, l.tile, errHung))
		}
	}
	q.revoked = slices.DeleteFunc(q.revoked, func(l *lease) bool { return l.answered || !l.puller.device.inUse() })
	next := now.Add(alarmEach * time.Duration(max(0, len(q.live)-searchFree)))
	for _, l := range slices.Concat(q.live, q.revoked) {
		if due := l.dueAt(); due.After(next) {
			q.setAlarm(due, now)
		} else {
			q.setAlarm(next, now)
		}
	}
}

// computed is when a device computed the tile of a lease, from the first grant on:
// to within some time, after the tile had waited beside the device. It is zero where
// nobody knows.
type computed struct{ from, to, within, waited time.Duration }

// computed returns when r was computed, which has come now. busy is how long it took
// to come.
func (l *lease) computed(r *kernels.Result, busy time.Duration, now time.Time) computed {
	began := l.puller.q.counts.began
	granted, to := l.start.Sub(began), now.Sub(began)
	waited := min(r.Waited, to-granted)
	if !r.Began.IsZero() {
		from := min(max(granted, r.Began.Sub(began)), to)
		return computed{from, from + min(r.Busy, to-from), r.BeganWithin, waited}
	}
	if r.Busy > 0 {
		busy = min(r.Busy, busy)
	}
	if busy <= 0 {
		return computed{granted, to, 0, waited}
	}
	return computed{max(granted, to-busy), to, 0, waited}
}

// close makes l no longer live and notes its outcome, and when it was computed. q.mu
// is held.
func (q *queue) close(l *lease, outcome Outcome, now time.Time, c computed) {
	l.live = false
	// There may be hundreds, and none is looked for by its place in time.
	last := len(q.live) - 1
	q.live[l.at], q.live[last].at = q.live[last], l.at
	q.live[last] = nil
	q.live = q.live[:last]
	for _, x := range l.pieces {
		x.holders = slices.DeleteFunc(x.holders, func(m *lease) bool { return m == l })
	}
	l.puller.device.out--
	if l.duplicate {
		q.helpers.remove(l.puller)
	}
	switch outcome {
	case OutcomeDone:
		l.puller.device.work.busy.add(c.from, c.to)
	case OutcomeLost:
		q.counts.lost++
		fallthrough
	case OutcomeFailed, OutcomeWrong:
		l.puller.device.faults.count++
	}
	if q.spans {
		q.addSpan(l, outcome, now, c)
	}
	if l.outcome = outcome; outcome == OutcomeLost && !l.late.IsZero() {
		q.countLate(l)
	}
}

// revoke takes l back from its puller, which has not answered, and makes
// pending what l alone held. q.mu is held.
func (q *queue) revoke(l *lease, outcome Outcome) {
	now := time.Now()
	q.close(l, outcome, now, computed{})
	l.cancel()
	// Slower than was thought, at least by so much. Without a prediction it is
	// not known whether the device had begun: it may have had other tiles to do.
	if elapsed := now.Sub(l.start); l.rated && elapsed > l.predicted {
		l.puller.learn(l.cost, elapsed, elapsed)
	}
	if n := q.giveBack(l.pieces); outcome == OutcomeLost {
		q.counts.retries += n
	}
	if !l.answered && l.puller.device.inUse() {
		l.due = now.Add(hangLimit)
		q.revoked = append(q.revoked, l)
		q.setAlarm(l.due, now)
	}
}

// setBack counts an answer without a result, which speaks against the device
// if others like it came before. A deadline that passed does not: the rate
// may have been wrong, and is put right by it. q.mu is held.
func (q *queue) setBack(l *lease, err error) {
	d := l.puller.device
	if d.setback++; d.setback >= deviceSetbacks {
		q.setAside(d, computing(d.id, l.tile, fmt.Errorf("%d tiles running failed or were lost, the last: %w", d.setback, err)))
	}
}

// answer notes that the puller of l has answered and whether the answer
// counts. q.mu is held.
func (l *lease) answer() bool {
	l.answered = true
	return l.live
}

// progress returns what to call when the device has come some way. Of leases that are
// expected to end soon it takes nanoseconds.
func (l *lease) progress() func() {
	if !l.keeps {
		return l.puller.device.move
	}
	return l.keep
}

// keep says that the device is still at it. It keeps alive all leases of the
// device of which it is not known how long they should take: a device of
// another host has more tiles than it computes at a time, and those that wait
// there do not come on themselves.
func (l *lease) keep() {
	q := l.puller.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.live {
		l.puller.device.cameOn = time.Now()
	}
}

// done answers l with the result of its tile, which took busy to compute, and
// puts into the sink as much of it as nobody has answered before. r may be
// used again when done has returned.
func (l *lease) done(r *kernels.Result, busy time.Duration) error {
	q, p := l.puller.q, l.puller
	q.mu.Lock()
	if !l.answer() {
		q.mu.Unlock()
		return errRefused
	}
	now := time.Now()
	computing, waited := busy, time.Duration(0)
	if r.Busy > 0 {
		computing, waited = min(r.Busy, busy), r.Waited
	}
	outcome := OutcomeDone
	if p.device.wrong {
		outcome = OutcomeWrong // settle will take it back
	}
	q.close(l, outcome, now, l.computed(r, busy, now))
	l.cancel()
	p.learn(l.cost, busy, computing+waited)
	p.device.setback = 0
	q.claim(l)
	if !p.device.wrong {
		p.device.work.add(l, r)
	}
	q.putting.Add(1)
	defer q.putting.Done()
	q.dispatch()
	q.mu.Unlock()

	err := q.put(l, r)

	q.mu.Lock()
	q.endSpan(l)
	p.noteOverhead(time.Since(l.start) - computing - waited)
	p.tile = (p.tile + computing) / 2
	if err != nil {
		q.end(fmt.Errorf("storing the result of tile %v: %w", l.tile, err))
	} else {
		q.settle(l)
		q.lookForDevices()
	}
	q.mu.Unlock()
	q.progress.tell(q)
	return nil
}

// claim takes the pieces of l for l alone. Leases left with no piece have
// been beaten. q.mu is held.
func (q *queue) claim(l *lease) {
	for _, x := range l.pieces {
		for _, m := range x.holders {
			m.pieces = slices.DeleteFunc(m.pieces, func(y *piece) bool { return y == x })
			if len(m.pieces) == 0 {
				q.revoke(m, OutcomeBeaten)
			}
		}
		x.holders = nil
	}
}

// put hands the claimed pieces of l to the sink: as the tile that it is, or
// one by one if others have answered some.
func (q *queue) put(l *lease, r *kernels.Result) error {
	if l.area() == l.tile.Area() {
		return q.sink.Put(l.tile, r)
	}
	for _, x := range l.pieces {
		part := kernels.NewResult(q.job, x.tile)
		within := x.tile
		within.X, within.Y = within.X-l.tile.X, within.Y-l.tile.Y
		for i, d := range q.job.Planes() {
			tiler.Cut(part.Planes[i], within, r.Planes[i], l.tile.W, d.Size())
		}
		if err := q.sink.Put(x.tile, part); err != nil {
			return err
		}
	}
	return nil
}

// area returns the number of elements in the pieces of l.
func (l *lease) area() int {
	n := 0
	for _, x := range l.pieces {
		n += x.tile.Area()
	}
	return n
}

// settle notes that the claimed pieces of l are in the sink. q.mu is held.
func (q *queue) settle(l *lease) {
	q.counts.last = time.Now()
	if d := l.puller.device; d.wrong {
		q.takeBack(l.pieces)
		return
	} else if q.verify != nil {
		d.answered = append(d.answered, l.pieces...)
	}
	q.areaDone += l.area()
	for _, x := range l.pieces {
		q.costDone += x.cost
	}
	if q.areaDone == q.area {
		q.end(nil)
	}
}

// failed answers l with the error of its device: the kernel said no.
func (l *lease) failed(err error) error {
	q, d := l.puller.q, l.puller.device
	q.mu.Lock()
	defer q.mu.Unlock()
	if !l.answer() {
		return errRefused
	}
	q.close(l, OutcomeFailed, time.Now(), computed{})
	l.cancel()
	q.note(l, OutcomeFailed, err)
	for _, x := range l.pieces {
		x.failures = append(x.failures, failure{d, computing(d.id, l.tile, err)})
	}
	q.counts.retries += q.giveBack(l.pieces)
	q.checkFailures(l.pieces)
	q.setBack(l, err)
	q.dispatch()
	return nil
}

// wrong answers l with r, which took busy to compute and was found to be wrong, as err
// says. That convicts the device also where the answer is refused.
func (l *lease) wrong(r *kernels.Result, busy time.Duration, err error) error {
	q, d := l.puller.q, l.puller.device
	q.mu.Lock()
	defer q.mu.Unlock()
	var refused error
	if !l.answer() {
		refused = errRefused
	} else {
		now := time.Now()
		q.close(l, OutcomeWrong, now, l.computed(r, busy, now))
		l.cancel()
		q.note(l, OutcomeWrong, err)
		q.counts.retries += q.giveBack(l.pieces)
	}
	q.takeBack(q.convict(d, computing(d.id, l.tile, err)))
	q.dispatch()
	return refused
}

// stop ends the job with err, which is not about the device.
func (l *lease) stop(err error) error {
	q := l.puller.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if !l.answer() {
		return errRefused
	}
	q.end(err)
	return nil
}

// lost answers l with the news that there will be no answer.
func (l *lease) lost(err error) error {
	q := l.puller.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if !l.answer() {
		return errRefused
	}
	switch {
	case errors.Is(err, errDrained):
		q.revoke(l, OutcomeStopped) // the host has never seen it
		q.leave(l.puller.device)
	case errors.Is(err, errHostGone):
		q.note(l, OutcomeLost, err)
		q.revoke(l, OutcomeLost)
		q.setAside(l.puller.device, computing(l.puller.device.id, l.tile, err))
	default:
		q.note(l, OutcomeLost, err)
		q.revoke(l, OutcomeLost)
		q.setBack(l, err)
	}
	q.lookForDevices()
	q.dispatch()
	return nil
}
