package dist

import (
	"container/heap"
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// queue holds the tiles of one job that are still to do and the leases that
// are out. Pullers, local or remote, pull from it.
//
// Everything happens in events: a pull, an answer, a timer, a device that is
// set aside. Each changes the state under the mutex and then, if there may be
// work for a waiting puller, calls dispatch.
type queue struct {
	job        kernels.Job
	sink       Sink
	cost       tiler.Cost
	rows       bool    // tiles are whole rows: see kernels.RowJob
	total      float64 // the cost of the whole job
	before     float64 // the part of it that the sink has from a run before
	area       int     // elements to compute
	maxArea    int     // of a tile
	longest    time.Duration
	expected   map[string]float64 // Options.Rates
	fixed      bool               // tiles were cut beforehand and stay as they are
	fixedBytes int                // of such a tile's result

	// ctx is the parent of the leases' contexts. It is done when the job has
	// ended, and not before: a lease whose context is done is always over.
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{} // closed when the job has ended

	verify func(context.Context, kernels.Tile, *kernels.Result) error // or nil
	known  Convicted                                                  // when the job began

	// putting counts the answers that are being put into the sink. It only
	// grows while the job has not ended.
	putting  sync.WaitGroup
	progress progress
	log      *slog.Logger  // or nil
	messages chan message  // to be logged
	joinable bool          // devices may come
	wait     time.Duration // for a device, when there is none
	absent   func() []error

	mu       sync.Mutex
	over     bool // the job has ended, with err
	err      error
	devices  []*deviceUse
	pullers  []*puller
	rates    rateSum // of those of devices in use
	slots    int     // of the devices in use
	pending  pendingPieces
	given    []*piece // pending too: the tiles cut beforehand, the first one last
	givenFor float64  // their cost
	unsaid   int      // messages that are left out
	live     []*lease
	waiting  []*request // in the order of their pulls
	helpers  rateSum    // of the pullers that wait or are busy with duplicates
	revoked  []*lease   // that may not have been answered yet
	searchAt time.Time  // before which nothing is looked for to duplicate
	wake     *time.Timer
	giveUp   *time.Timer // for want of a device
	alarm    *time.Timer // for what is due
	alarmAt  time.Time   // zero: it is not set
	areaDone int         // elements put into the sink
	costDone float64     // their cost
	counts   counts
	spans    bool // are kept

	convicted Convicted // before this job, and in it
}

// request is a pull that waits for its lease.
type request struct {
	puller *puller
	lease  *lease        // nil if there is no more work
	ready  chan struct{} // closed when lease is final
}

func newQueue(job kernels.Job, sink Sink, opts Options) *queue {
	bounds := job.Bounds()
	q := &queue{
		job: job, sink: sink, cost: opts.Cost, fixed: opts.Tiles > 0,
		ended:  make(chan struct{}),
		verify: opts.Verify,
		known:  opts.Convicted, convicted: Convicted{}, longest: opts.Longest, expected: opts.Rates,
		progress: progress{report: opts.Progress},
		log:      opts.Log, messages: make(chan message, mostMessages),
		joinable: opts.Join != nil, absent: opts.Absent,
		spans: opts.Spans,
	}
	maps.Copy(q.convicted, q.known)
	if q.joinable {
		q.wait = opts.Wait
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	if of, ok := job.(kernels.RowJob); ok {
		q.rows = of.WholeRows()
	}
	if q.cost != nil {
		q.total = q.cost.Cost(bounds)
	}
	if !(q.total > 0) || math.IsInf(q.total, 1) {
		q.cost, q.total = tiler.Uniform(1), float64(bounds.Area())
	}
	maxBytes := opts.MaxResultBytes
	if maxBytes <= 0 {
		maxBytes = DefaultMaxResultBytes
	}
	q.maxArea = max(1, maxBytes/max(1, kernels.ResultBytes(job, kernels.Tile{W: 1, H: 1})))
	q.giveAll(q.split(bounds, max(1, opts.Tiles)), opts.Todo)
	if q.area == 0 {
		q.end(nil)
	}
	return q
}

// split cuts bounds into so many tiles, if it has as many elements, or rows where they stay whole.
func (q *queue) split(bounds kernels.Tile, n int) []kernels.Tile {
	if !q.rows || bounds.Empty() {
		return tiler.Split(bounds, n)
	}
	tiles := tiler.Split(kernels.Tile{W: 1, H: bounds.H}, n)
	for i := range tiles {
		tiles[i].W = bounds.W
	}
	return tiles
}

// giveAll makes tiles the ones that are given out, or what they have of todo unless that
// is nil.
func (q *queue) giveAll(tiles, todo []kernels.Tile) {
	q.fixedBytes = kernels.ResultBytes(q.job, q.job.Bounds()) / max(1, len(tiles))
	if todo != nil {
		tiles = tiler.Common(tiles, todo)
	}
	pieces := make([]piece, len(tiles))
	for i, t := range tiles {
		pieces[i] = piece{tile: t, cost: q.cost.Cost(t)}
		q.given = append(q.given, &pieces[i])
		q.area += t.Area()
		q.givenFor += pieces[i].cost
	}
	if todo != nil {
		q.before = max(q.total-q.givenFor, 0)
		q.costDone = q.before
	}
	slices.SortFunc(q.given, func(a, b *piece) int {
		switch {
		case a.before(b):
			return 1
		case b.before(a):
			return -1
		}
		return 0
	})
}

// add takes a device into the job. It counts as in use, and can still save a
// tile that failed elsewhere, even before its pullers join. q.mu is held.
func (q *queue) add(d *deviceUse) *deviceUse {
	d.slots, d.serving = max(1, d.slots), true
	q.devices = append(q.devices, d)
	q.slots += d.slots
	return d
}

// join adds a puller for a slot of d.
func (q *queue) join(d *deviceUse, slot int) *puller {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &puller{q: q, device: d, slot: slot, learning: true, expected: q.expected[d.id] / float64(d.slots)}
	d.began = true
	d.learning++
	q.addPuller(p)
	return p
}

// addPuller takes p into the accounts of all. q.mu is held.
func (q *queue) addPuller(p *puller) {
	q.pullers = append(q.pullers, p)
	p.device.rates.add(p)
	if p.device.inUse() {
		q.rates.add(p)
	}
}

// pull waits for a tile for p. It returns errOver when there will be none,
// and ctx's error when ctx is done first.
func (p *puller) pull(ctx context.Context) (*lease, error) {
	q := p.q
	q.mu.Lock()
	if q.over || !p.device.inUse() || q.rest(p) {
		q.mu.Unlock()
		return nil, errOver
	}
	// Whoever waits already waits for other work than this.
	if l := q.fresh(p, time.Now()); l != nil || p.spare() {
		defer q.mu.Unlock()
		if l == nil {
			q.sendToRest(p)
			return nil, errOver
		}
		return l, nil
	}
	r := &request{puller: p, ready: make(chan struct{})}
	q.waiting = append(q.waiting, r)
	q.helpers.add(p)
	q.dispatch()
	q.mu.Unlock()

	select {
	case <-r.ready:
	case <-ctx.Done():
		q.mu.Lock()
		defer q.mu.Unlock()
		if i := slices.Index(q.waiting, r); i >= 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			q.helpers.remove(p)
			return nil, ctx.Err()
		}
	}
	if r.lease == nil {
		return nil, errOver
	}
	return r.lease, nil
}

// dispatch gives every waiting puller a lease for which there is one, and
// sets the alarm for the time when a lease becomes late enough to duplicate.
// q.mu is held.
func (q *queue) dispatch() {
	if q.over {
		return
	}
	now := time.Now()
	if q.pending.Len()+len(q.given) > 0 {
		q.give(func(p *puller) *lease { return q.fresh(p, now) })
	}
	// Failing that, on what others have leased.
	if len(q.waiting) > 0 && !now.Before(q.searchAt) {
		q.searchAt = now.Add(q.searchPause())
		owing := q.owing(now)
		q.give(func(p *puller) *lease { return owing.duplicate(p) })
	}
	q.setWake(now)
}

// give gives each waiting puller the lease that there is for it. q.mu is held.
func (q *queue) give(find func(*puller) *lease) {
	q.waiting = slices.DeleteFunc(q.waiting, func(r *request) bool {
		if r.lease = find(r.puller); r.lease == nil {
			return false
		}
		q.helpers.remove(r.puller)
		close(r.ready)
		return true
	})
}

// setWake has dispatch called when there may be something to duplicate for those who
// wait: when a lease gets late, but not before the next search. q.mu is held.
func (q *queue) setWake(now time.Time) {
	if q.wake != nil {
		q.wake.Stop()
		q.wake = nil
	}
	if len(q.waiting) == 0 {
		return
	}
	at, ok := q.searchAt, now.Before(q.searchAt)
	if !ok {
		at, ok = q.nextLate(now)
	}
	if ok {
		q.wake = time.AfterFunc(at.Sub(now), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.dispatch()
		})
	}
}

// fresh returns a lease for p on what is pending, or nil. q.mu is held.
func (q *queue) fresh(p *puller, now time.Time) *lease {
	remaining := 0.0
	if !q.fixed {
		remaining = q.pending.cost + q.givenFor
	}
	x := q.next(p.device)
	if last := len(q.given) - 1; x == nil && last >= 0 {
		x, q.given = q.given[last], q.given[:last]
		q.givenFor = max(q.givenFor-x.cost, 0)
	}
	if x == nil {
		return nil
	}
	if !q.fixed {
		want, maxArea := q.want(p, remaining, q.totalRate())
		if p.device.keeps() {
			x = q.settleOn(x, p.device, want)
		}
		head, rest := q.cut(x, p.device.grid, want, maxArea)
		for _, y := range rest {
			heap.Push(&q.pending, y)
		}
		x = head
	}
	p.device.lines.add(x.tile)
	return q.grant(p, x, now)
}

// giveBack makes those of the pieces pending that no live lease holds, and
// returns how many.
func (q *queue) giveBack(pieces []*piece) (n int) {
	for _, x := range pieces {
		if len(x.holders) == 0 {
			heap.Push(&q.pending, x)
			n++
		}
	}
	return n
}

// setAside ends the use of d for this job: its leases are lost, its pullers
// get no more work. The job ends if no device is left, or none for a tile.
// q.mu is held.
func (q *queue) setAside(d *deviceUse, cause *DeviceError) {
	if q.over || !d.inUse() {
		return
	}
	q.withdraw(d, cause)
	q.say("device "+string(d.state()), "device", d.id, "err", cause.Err)
	for _, l := range slices.Clone(q.live) {
		if l.puller.device == d {
			q.revoke(l, OutcomeLost)
		}
	}
	q.dismiss(d)
}

// leave ends the use of d, which wants to leave in peace: it gets no more work,
// and its leases are still answered. q.mu is held.
func (q *queue) leave(d *deviceUse) {
	if q.over || !d.inUse() {
		return
	}
	q.withdraw(d, &DeviceError{Device: d.id, Op: "leaving", Err: errDrained})
	d.left = true
	q.dismiss(d)
}

// withdraw takes d, which was in use and is not any more, out of the accounts of all. q.mu
// is held.
func (q *queue) withdraw(d *deviceUse, cause *DeviceError) {
	d.putAside(cause)
	q.slots -= d.slots
	q.rates.subtract(d.rates)
}

// dismiss sends the waiting pullers of d away, and has the others go on if there
// are any. q.mu is held.
func (q *queue) dismiss(d *deviceUse) {
	q.waiting = slices.DeleteFunc(q.waiting, func(r *request) bool {
		if r.puller.device == d {
			q.helpers.remove(r.puller)
			close(r.ready)
		}
		return r.puller.device == d
	})
	if slices.ContainsFunc(q.devices, (*deviceUse).inUse) {
		q.checkFailures(q.pending.pieces)
		q.dispatch()
		return
	}
	q.lookForDevices()
}

// lookForDevices waits for a device, or ends the job, if there is work and none
// is left that could do it. Leases of a device that leaves may still be out.
// q.mu is held.
func (q *queue) lookForDevices() {
	work := q.pending.Len()+len(q.given) > 0 && len(q.live) == 0
	if !q.over && work && !slices.ContainsFunc(q.devices, (*deviceUse).inUse) {
		q.awaitDevice()
	}
}

// awaitDevice ends the job for want of a device, unless one comes in time.
// q.mu is held.
func (q *queue) awaitDevice() {
	if q.wait <= 0 {
		q.end(q.noDevice())
		return
	}
	came := len(q.devices)
	if q.giveUp != nil {
		q.giveUp.Stop() // it waits for a device that has come and gone
	}
	q.giveUp = time.AfterFunc(q.wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		// If more have come and gone, a later call waits for the next.
		if len(q.devices) == came && !slices.ContainsFunc(q.devices, (*deviceUse).inUse) {
			q.end(q.noDevice())
		}
	})
}

func (q *queue) noDevice() error {
	e := &JobError{Reason: ErrNoDevice, Causes: q.known.causes(), joinable: q.joinable, waited: q.wait}
	for _, d := range q.devices {
		e.Causes = append(e.Causes, d.aside)
	}
	if len(e.Causes) == 0 && q.absent != nil {
		e.absent = q.absent()
	}
	return e
}

// tileDevices is the number of devices on which a tile fails before it ends
// the job, and deviceSetbacks the number of answers running that are failures
// or losses before the device is set aside.
const (
	tileDevices    = 3
	deviceSetbacks = 3
)

// checkFailures ends the job if one of the pieces has failed on three devices
// or on all in use.
func (q *queue) checkFailures(pieces []*piece) {
	for _, x := range pieces {
		if len(x.failures) == 0 {
			continue
		}
		elsewhere := slices.ContainsFunc(q.devices, func(d *deviceUse) bool { return d.inUse() && !x.failedOn(d) })
		if len(x.failures) < tileDevices && elsewhere {
			continue
		}
		e := &JobError{Reason: ErrTileFailed}
		for _, f := range x.failures {
			e.Causes = append(e.Causes, f.err)
		}
		q.end(e)
		return
	}
}

// end ends the job, with err or, if it is nil, because it is done. All leases
// end, and all pulls. q.mu is held, or q is not yet shared.
func (q *queue) end(err error) {
	if q.over {
		return
	}
	q.over, q.err = true, err
	for _, l := range slices.Clone(q.live) {
		q.close(l, OutcomeStopped, time.Now(), computed{})
		l.cancel()
	}
	for _, r := range q.waiting {
		close(r.ready)
	}
	q.waiting = nil
	for _, timer := range []*time.Timer{q.wake, q.giveUp, q.alarm} {
		if timer != nil {
			timer.Stop()
		}
	}
	q.cancel()
	close(q.ended)
}

// stop ends the job with err, which is not nil, unless it has ended already.
func (q *queue) stop(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end(err)
}
