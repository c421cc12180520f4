package sim

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// slots is how many tiles a device of another host has at a time, of which it computes one:
// the next, which is there when one is done, and one while the result of that is on the way.
// So have those of package dist.
const slots = 3

// instants is how many of the cluster's instants a device has for itself: see at.
const instants = 2 * slots

// device stands for one of another host, and the way to it. It sleeps for as long as its
// tiles take.
type device struct {
	nature
	id      string
	number  int
	cluster *cluster
	host    *host

	// All from the start of the job.
	begins  time.Duration // when it is ready for the job
	lost    time.Duration // when it is no more there; never if it is 0
	noticed time.Duration // when the coordinator notices

	mu        sync.Mutex
	calls     []*call // of Run, that have not returned
	computing *call   // one of them, or nil
	sent      int     // results
	worked    float64 // cost of what it has computed, whatever became of it
}

// nature is what a device has in common with those that come in its place.
type nature struct {
	speed   float64       // cost a second, in the mean
	swing   float64       // the part by which it goes up and down …
	period  time.Duration // … in this time
	phase   float64       // from 0 to 1
	latency time.Duration // one way
}

// call is a call of Run.
type call struct {
	tile    kernels.Tile
	arrives time.Duration
	asked   bool          // for its operands
	ready   time.Duration // when they have come too
	turn    chan struct{} // closed when it is computed
	done    bool          // it has been, or need not be
}

func (d *device) ID() string   { return d.id }
func (d *device) Slots() int   { return slots }
func (d *device) Close() error { return nil }

// Begin takes until d.begins.
func (d *device) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	d.cluster.sleep(ctx, d.at(d.begins, 0))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.cluster.field.line > 0 {
		return gridded{d}, nil
	}
	return d, nil
}

// gridded is a device that keeps the operands of a product.
type gridded struct{ *device }

// Grid is that of a host which names none.
func (g gridded) Grid() tiler.Grid { return tiler.Grid{StepX: lineUnit, StepY: lineUnit, High: 2016} }

// at returns the first of d's own instants that is not before t. No two devices have one
// in common, and none does two things in one, so that the order in which the
// queue is told does not depend on that in which goroutines run: the same seed gives
// the same schedule.
func (d *device) at(t time.Duration, one int) time.Duration {
	step := d.cluster.step
	own := time.Duration(d.number*instants + one)
	return t + ((own-t)%step+step)%step
}

// Run takes as long for t as the message on its way, the tiles before it, the computing
// and the result on its way back do.
func (d *device) Run(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	c := &call{tile: t, turn: make(chan struct{})}
	d.mu.Lock()
	c.arrives = d.at(d.cluster.now()+d.latency, 0)
	d.calls = append(d.calls, c)
	d.mu.Unlock()

	err := d.answer(ctx, c, r)
	if err != nil { // several may end so together, and be called again at once
		d.mu.Lock()
		rank := 0
		for _, other := range d.calls {
			if inOrder(other, c) < 0 {
				rank++
			}
		}
		d.mu.Unlock()
		d.cluster.sleep(context.Background(), d.at(d.cluster.now()+time.Duration(rank)*d.cluster.step+1, slots+rank%slots))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = slices.DeleteFunc(d.calls, func(other *call) bool { return other == c })
	return err
}

// inOrder compares calls by when they came.
func inOrder(a, b *call) int {
	return cmp.Or(cmp.Compare(a.arrives, b.arrives), cmp.Compare(a.tile.Y, b.tile.Y), cmp.Compare(a.tile.X, b.tile.X))
}

// answer is Run without the accounts of the calls.
func (d *device) answer(ctx context.Context, c *call, r *kernels.Result) error {
	if err := d.sleep(ctx, c.arrives); err != nil {
		return err
	}
	if err := d.sleep(ctx, d.fetch(c)); err != nil {
		return err
	}
	if err := d.takeTurn(ctx, c); err != nil {
		return err
	}
	began := d.cluster.now()
	err := d.compute(ctx, c, r)
	now := d.cluster.now()
	d.mu.Lock()
	c.done, d.computing = true, nil
	d.next(now)
	one := d.sent % slots
	if err == nil {
		d.sent++
	}
	d.worked += max(0, d.done(d.there(now))-d.done(began+d.cluster.overhead))
	d.mu.Unlock()
	if err != nil {
		return err
	}
	r.Busy, r.Waited = now-began, began-c.ready
	bytes := c.tile.Area() * d.cluster.field.element
	r.BytesOut = int64(bytes)
	return d.sleep(ctx, d.at(d.cluster.coordinator.take(now+d.latency, bytes), one))
}

// fetch returns when the operands of c are there, and asks for those of all calls that have
// arrived.
func (d *device) fetch(c *call) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cluster.now()
	slices.SortFunc(d.calls, inOrder)
	for _, other := range d.calls {
		if other.asked || other.arrives > now {
			continue
		}
		other.asked, other.ready = true, other.arrives
		if bytes := d.host.lacks(other.tile) * d.cluster.field.line; bytes > 0 {
			other.ready = d.at(d.cluster.coordinator.send(now+2*d.latency, bytes), 0)
		}
	}
	return c.ready
}

// takeTurn waits until d computes c.
func (d *device) takeTurn(ctx context.Context, c *call) error {
	d.mu.Lock()
	d.next(d.cluster.now())
	d.mu.Unlock()
	var gone <-chan time.Time
	if d.lost > 0 {
		timer := time.NewTimer(d.noticed - d.cluster.now())
		defer timer.Stop()
		gone = timer.C
	}
	select {
	case <-c.turn:
		return nil
	case <-gone:
		return errGone
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		c.done = true
		if d.computing == c { // its turn came at the same moment
			d.computing = nil
			d.next(d.cluster.now())
		}
		return ctx.Err()
	}
}

// next gives the turn to the call that came first, if nothing is computed. d.mu is held.
func (d *device) next(now time.Duration) {
	if d.computing != nil {
		return
	}
	for _, c := range d.calls {
		if !c.done && c.asked && c.ready <= now && (d.computing == nil || inOrder(c, d.computing) < 0) {
			d.computing = c
		}
	}
	if d.computing != nil {
		close(d.computing.turn)
	}
}

// compute takes as long as the tile of c does, and says now and then that it comes on.
func (d *device) compute(ctx context.Context, c *call, r *kernels.Result) error {
	now := d.cluster.now()
	ends := d.at(d.ends(now+d.cluster.overhead, d.cluster.field.exact.Cost(c.tile)), 0)
	for ; ends-now > heartbeat; now += heartbeat {
		if err := d.sleep(ctx, now+heartbeat); err != nil {
			return err
		}
		r.Advance()
	}
	return d.sleep(ctx, ends)
}

// heartbeat is how often a host says that its devices come on.
const heartbeat = 2 * time.Second

// host is what devices of one machine have in common: the rows and columns of operands
// that it has fetched, in units of several.
type host struct {
	mu            sync.Mutex
	rows, columns map[int]bool
}

const lineUnit = 64

// lacks returns how many rows and columns of operands the host has to fetch for t, and
// notes that it has them.
func (h *host) lacks(t kernels.Tile) (lines int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	add := func(have map[int]bool, first, n int) {
		for unit := first / lineUnit; unit*lineUnit < first+n; unit++ {
			if !have[unit] {
				have[unit] = true
				lines += lineUnit
			}
		}
	}
	add(h.rows, t.Y, t.H)
	add(h.columns, t.X, t.W)
	return lines
}

var errGone = fmt.Errorf("%w: its host does not answer", dist.ErrLost)

// sleep sleeps until a time, or until it is noticed that d was lost before.
func (d *device) sleep(ctx context.Context, until time.Duration) error {
	gone := d.lost > 0 && until > d.lost
	if gone {
		until = d.noticed
	}
	d.cluster.sleep(ctx, until)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case gone:
		return errGone
	}
	return nil
}

// there returns t, or when d was lost if that was before.
func (d *device) there(t time.Duration) time.Duration {
	if d.lost > 0 {
		return min(t, d.lost)
	}
	return t
}

// done returns how much d computes from 0 to t if it does nothing else, in the job's
// unit: the integral of speed·(1 + swing·sin(2π(t/period + phase))).
func (d *device) done(t time.Duration) float64 {
	seconds, turn := t.Seconds(), 2*math.Pi/d.period.Seconds()
	wave := math.Cos(2*math.Pi*d.phase) - math.Cos(turn*seconds+2*math.Pi*d.phase)
	return d.speed * (seconds + d.swing*wave/turn)
}

// ends returns when d has computed cost, if it began at t.
func (d *device) ends(t time.Duration, cost float64) time.Duration {
	if d.swing == 0 {
		return t + time.Duration(cost/d.speed*1e9)
	}
	from := d.done(t)
	low, high := t, t+time.Duration(cost/(d.speed*(1-d.swing))*1e9)+1
	for high-low > 1 {
		middle := low + (high-low)/2
		if d.done(middle)-from < cost {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}
