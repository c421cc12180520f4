package dist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// hosting is one coordinator that a host serves.
type hosting struct {
	host *Host
	log  *slog.Logger
	*session

	unsent   unsent
	fetching *fetching
	work     sync.WaitGroup

	mu     sync.Mutex
	jobs   map[uint64]*hostedJob
	leases map[uint64]*hostedLease // until their answers are written
	begins int                     // likewise, those of jobs that have ended among them
}

// hostedJob is a job that a device of the host has begun.
type hostedJob struct {
	device *hostDevice
	job    kernels.Job
	ready  chan struct{} // closed when runner or err is set
	runner kernels.Runner
	err    error
	cancel context.CancelFunc
	ctx    context.Context
	leases sync.WaitGroup

	// Of a product: its operands, and the steps of the device's panels. They are nil
	// and zero otherwise, and grid is set with runner.
	operands *hostedOperands
	grid     tiler.Grid
	streams  bool // the device does: no other product may there

	moved atomic.Bool // the device has come on with it since the coordinator was told

	// todo hands leases to goroutines that have computed others before, and
	// have the stack for it, and idle is how many of those wait.
	todo chan *hostedLease
	idle atomic.Int32

	buffers sync.Pool // of *buffer: for results, until they have been written
}

// hostedLease is a lease that a host has to answer.
type hostedLease struct {
	id     uint64
	tile   kernels.Tile
	job    *hostedJob
	read   time.Duration // when it was, on the session's clock
	ctx    context.Context
	cancel context.CancelFunc

	computing atomic.Bool
	moved     atomic.Bool // it has come some way since the coordinator was told
}

// The most that one coordinator may have on a host at a time, and the most
// goroutines that wait for more leases of a job. maxBegins bounds the answers that
// wait to be written, as maxLeases does: a job that ends makes room for another.
const (
	maxJobs   = 64
	maxBegins = 1024
	maxLeases = 4096
	maxIdle   = deepest
)

func (c *hosting) run(ctx context.Context) error {
	c.loops.Go(func() { c.read(c.control, maxBegin, c.handle) })
	c.loops.Go(func() {
		c.read(c.bulk, maxMessage, func(f frame, r io.Reader) error {
			if f.typ != typePanel {
				return protocolError("message %d on the host's bulk stream", f.typ)
			}
			return c.handle(f, r)
		})
	})
	var cause error
	draining := c.host.drain.Done()
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for cause == nil {
		select {
		case <-ticker.C:
			c.tellProgress()
		case <-draining:
			c.send(outgoing{typ: typeDrain, message: struct{}{}})
			draining = nil
		case <-ctx.Done():
			cause = ctx.Err()
		case <-c.ctx.Done():
			cause = context.Cause(c.ctx)
		}
	}
	c.end(cause)
	c.mu.Lock()
	for _, j := range c.jobs {
		j.cancel()
	}
	c.mu.Unlock()
	c.close(cause)
	c.work.Wait()
	c.host.counts.leases.Add(-int64(len(c.leases))) // those whose answers have not been written
	switch {
	case errors.Is(cause, errGoodbye):
		return nil
	case errors.Is(cause, errPeerLeft):
		return fmt.Errorf("%w without a word: it was killed, or the line is cut", cause)
	}
	return cause
}

// comeOn notes that the device has come some way with a lease of j.
func (j *hostedJob) comeOn() {
	if !j.moved.Load() { // it is looked at rarely, and a store has a price
		j.moved.Store(true)
	}
}

// tellProgress says which leases have come some way since it did last. One that
// is not being computed does when its device does: it waits for the others there,
// and would be given up if it were not heard of.
func (c *hosting) tellProgress() {
	var m progressMessage
	moved := map[*hostDevice]bool{}
	c.mu.Lock()
	for _, j := range c.jobs {
		if j.moved.Swap(false) {
			moved[j.device] = true
		}
	}
	for id, l := range c.leases {
		if l.moved.Swap(false) || moved[l.job.device] && !l.computing.Load() {
			m.Leases = append(m.Leases, id)
		}
	}
	c.mu.Unlock()
	if len(m.Leases) > 0 {
		c.send(outgoing{typ: typeProgress, message: m})
	}
}

// handle acts on a message of the coordinator.
func (c *hosting) handle(f frame, bulk io.Reader) error {
	switch f.typ {
	case typePing:
		return nil
	case typeBegin:
		var m beginMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		return c.begin(m)
	case typeEnd:
		var m endMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		c.endJob(m.Job)
		return nil
	case typeLease:
		var m leaseMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		return c.lease(m)
	case typeCancel:
		var m cancelMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if l := c.leases[m.Lease]; l != nil {
			l.cancel()
		}
		return nil
	case typePanel:
		var m panelMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		return c.fetching.receive(m, f.bulk, bulk)
	}
	return protocolError("message %d from a coordinator", f.typ)
}

func (c *hosting) begin(m beginMessage) error {
	if m.Device < 0 || m.Device >= len(c.host.devices) {
		return protocolError("device %d of %d", m.Device, len(c.host.devices))
	}
	job, err := decodeJob(m.Kernel, m.Spec)
	if err != nil {
		return err
	}
	j := &hostedJob{device: &c.host.devices[m.Device], job: job, ready: make(chan struct{}), todo: make(chan *hostedLease)}
	j.buffers.New = func() any { return new(buffer) }
	j.ctx, j.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	if c.jobs[m.Job] != nil || len(c.jobs) >= maxJobs || c.begins >= maxBegins {
		err := protocolError("job %d, beside %d, with %d to begin", m.Job, len(c.jobs), c.begins)
		c.mu.Unlock()
		j.cancel()
		return err
	}
	if j.operands, err = c.fetching.use(j, m.Operands); err != nil {
		c.mu.Unlock()
		j.cancel()
		return err
	}
	c.jobs[m.Job] = j
	c.begins++
	c.mu.Unlock()
	c.host.counts.jobs.Add(1)
	c.log.Debug("job begins", "device", j.device.info.ID, "kernel", m.Kernel)
	c.work.Go(func() {
		defer c.host.counts.jobs.Add(-1)
		if j.operands != nil {
			defer j.operands.letGo(j)
		}
		j.open()
		close(j.ready)
		answer := beganMessage{Job: m.Job, StepX: j.grid.StepX, StepY: j.grid.StepY, MaxW: j.grid.MaxW, MaxH: j.grid.MaxH}
		if j.err != nil {
			answer.Error = errorText(j.err)
		}
		c.send(outgoing{typ: typeBegan, message: answer, turn: c.forgetBegin})
		<-j.ctx.Done()
		c.awaitLeases(j)
		if j.runner != nil {
			if err := j.runner.Close(); err != nil {
				c.log.Warn("job did not close", "device", j.device.info.ID, "err", err)
			}
			j.runner = nil // which keeps the operands
		}
		if j.streams {
			<-j.device.streaming
		}
		c.log.Debug("job ends", "device", j.device.info.ID, "kernel", m.Kernel)
	})
	return nil
}

// open makes the device ready for j, of which it sets runner and grid, or err.
func (j *hostedJob) open() {
	job, device := j.job, j.device.Device
	if _, custom := job.(*kernels.Custom); custom {
		if device = j.device.kernels; device == nil {
			j.err = errNoKernels
			return
		}
	}
	if j.operands != nil {
		if job, j.err = j.operands.begin(j); j.err != nil {
			return
		}
	}
	if j.runner, j.err = device.Begin(j.ctx, job); j.err != nil {
		return
	}
	if g, ok := j.runner.(Gridded); ok {
		j.grid = g.Grid()
	}
}

// forgetBegin notes that the answer to a begin need not wait any more.
func (c *hosting) forgetBegin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begins--
}

// awaitLeases waits until all leases of j, whose context is done, are answered.
func (c *hosting) awaitLeases(j *hostedJob) {
	// Whoever has the lock may still be adding a lease; later nobody does.
	c.mu.Lock()
	leases := &j.leases
	c.mu.Unlock()
	leases.Wait()
}

func (c *hosting) endJob(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.jobs[id]; j != nil {
		j.cancel()
		delete(c.jobs, id)
	}
}

func (c *hosting) lease(m leaseMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.jobs[m.Job]
	if j == nil || j.ctx.Err() != nil {
		return nil // the job has just ended, and nobody waits for an answer
	}
	t := kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H}
	switch {
	case t.Empty() || !j.job.Bounds().Contains(t) || kernels.ResultBytes(j.job, t) > maxBulk:
		return protocolError("tile %v of a job of %v", t, j.job.Bounds())
	case c.leases[m.Lease] != nil || len(c.leases) >= maxLeases:
		return protocolError("lease %d, beside %d", m.Lease, len(c.leases))
	}
	l := &hostedLease{id: m.Lease, tile: t, job: j, read: c.now()}
	l.ctx, l.cancel = context.WithCancel(j.ctx)
	c.leases[m.Lease] = l
	c.host.counts.leases.Add(1)
	j.leases.Add(1)
	select {
	case j.todo <- l:
	default:
		c.work.Go(func() { c.computeAll(j, l) })
	}
	return nil
}

// computeAll answers l, and then others as they come, until the job ends.
func (c *hosting) computeAll(j *hostedJob, l *hostedLease) {
	for {
		o := c.compute(j, l)
		// Until then it counts as a lease: so there is a bound to the answers that
		// wait for a coordinator that does not read.
		id := l.id
		o.turn = func() { c.forgetLease(id) }
		c.send(o)
		l.cancel()
		j.leases.Done()
		if j.idle.Add(1) > maxIdle {
			j.idle.Add(-1)
			return
		}
		select {
		case l = <-j.todo:
			j.idle.Add(-1)
		case <-j.ctx.Done():
			return
		}
	}
}

// forgetLease notes that the answer to a lease need not wait any more.
func (c *hosting) forgetLease(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leases, id)
	c.host.counts.leases.Add(-1)
}

// compute computes the tile of l and returns the answer.
func (c *hosting) compute(j *hostedJob, l *hostedLease) outgoing {
	failed := func(err error, lost bool) outgoing {
		j.device.counts.failed(lost)
		if !lost {
			c.log.Warn("tile failed", "device", j.device.info.ID, "tile", l.tile.String(), "err", err)
		}
		return outgoing{typ: typeFailed, message: failedMessage{Lease: l.id, Lost: lost, Error: errorText(err)}}
	}
	select {
	case <-j.ready: // as a rule; ctx.Done has a price
	default:
		select {
		case <-j.ready:
		case <-l.ctx.Done():
			return failed(l.ctx.Err(), true)
		}
	}
	if j.err != nil {
		return failed(j.err, false)
	}
	if j.operands != nil {
		// While it waits for its turn, others compute.
		if err := j.operands.need(l.ctx, l.tile, j.grid); err != nil {
			return failed(err, l.ctx.Err() != nil)
		}
	}
	done, err := c.turn(l.ctx, j.device)
	if err != nil {
		return failed(err, true)
	}
	defer done()
	start := c.now()
	b := j.buffers.Get().(*buffer)
	r := b.result(j.job, l.tile)
	r.Progress = func() {
		l.moved.Store(true)
		j.comeOn()
	}
	l.computing.Store(true)
	j.device.counts.begin(time.Now())
	err = j.runner.Run(l.ctx, l.tile, r)
	end := c.now()
	j.device.counts.end(time.Now())
	l.computing.Store(false)
	j.comeOn()
	if err != nil {
		j.buffers.Put(b)
		return failed(err, l.ctx.Err() != nil || errors.Is(err, ErrLost))
	}
	j.device.counts.done(l.tile, r)
	size := planesSize(r.Planes)
	c.unsent.add(size)
	return outgoing{
		typ: typeResult, planes: r.Planes, free: func() { j.buffers.Put(b) }, sent: func() { c.unsent.add(-size) },
		message: resultMessage{
			Lease: l.id, Busy: int64(end - start), Waited: int64(start - l.read),
			BytesIn: r.BytesIn, BytesOut: r.BytesOut, Read: int64(l.read),
		},
	}
}

// turn waits for a slot of d, while the coordinator takes its results. The caller
// calls done when it has finished.
func (c *hosting) turn(ctx context.Context, d *hostDevice) (done func(), err error) {
	for {
		if done, err = d.turns.take(ctx, c); err != nil || !c.unsent.full() {
			return done, err
		}
		done() // others can use it
		if err := c.unsent.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// unsent is the bytes of results that have not been sent. A coordinator that is
// slow to read, or does not read at all, gets no more computed: else its results
// would pile up.
type unsent struct {
	mu      sync.Mutex
	bytes   int64
	changed chan struct{} // closed when bytes has become less; nil while nobody waits
}

// maxUnsent is how many bytes may wait when another tile is begun.
const maxUnsent = 16 << 20

func (u *unsent) add(bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes += bytes
	if bytes < 0 && u.changed != nil {
		close(u.changed)
		u.changed = nil
	}
}

func (u *unsent) full() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bytes >= maxUnsent
}

// wait waits until few enough bytes wait to be sent.
func (u *unsent) wait(ctx context.Context) error {
	for {
		u.mu.Lock()
		if u.bytes < maxUnsent {
			u.mu.Unlock()
			return nil
		}
		if u.changed == nil {
			u.changed = make(chan struct{})
		}
		changed := u.changed
		u.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
