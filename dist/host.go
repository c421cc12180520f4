package dist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// Host computes tiles for coordinators, on the devices of its machine. It may
// serve several coordinators at once, and its methods may be called by several
// goroutines.
type Host struct {
	name    string
	devices []hostDevice
	log     func(format string, args ...any)

	// drain is closed when the host takes no more leases.
	drain     chan struct{}
	drainOnce sync.Once
}

// hostDevice is a device and the turns that coordinators take on it.
type hostDevice struct {
	Device
	info  DeviceInfo
	turns *turns
}

// NewHost returns a host called name with devices, which infos describe in the
// same order. log is told of coordinators that come, go or are turned away; it
// may be nil.
func NewHost(name string, devices []Device, infos []DeviceInfo, log func(format string, args ...any)) *Host {
	h := &Host{name: name, log: log, drain: make(chan struct{})}
	if h.log == nil {
		h.log = func(string, ...any) {}
	}
	for i, d := range devices {
		slots := max(1, d.Slots())
		infos[i].Slots = slots
		h.devices = append(h.devices, hostDevice{Device: d, info: infos[i], turns: newTurns(slots)})
	}
	return h
}

// Draining reports whether Drain has been called.
func (h *Host) Draining() bool {
	select {
	case <-h.drain:
		return true
	default:
		return false
	}
}

// Join dials the coordinator that listens at addr, "host:port" or "unix:/path",
// and serves it as ServeConn does.
func (h *Host) Join(ctx context.Context, addr string, trust *Trust) error {
	conn, dialled, err := dial(ctx, addr)
	if err != nil {
		return fmt.Errorf("join the coordinator at %s: %w", addr, err)
	}
	if err := h.ServeConn(ctx, conn, trust, dialled); err != nil {
		return fmt.Errorf("join the coordinator at %s: %w", addr, err)
	}
	return nil
}

// Drain makes the host finish the tiles that it has and take no more. Serve
// then returns once each coordinator has let go.
func (h *Host) Drain() { h.drainOnce.Do(func() { close(h.drain) }) }

// drainLimitHost bounds how long a host that drains waits for coordinators.
const drainLimitHost = 30 * time.Second

// Serve accepts coordinators from l until ctx is done or the host has drained,
// and closes l. A nil trust serves plaintext, which only loopback addresses and
// unix sockets may. Errors of single connections go to the log.
func (h *Host) Serve(ctx context.Context, l net.Listener, trust *Trust) error {
	if trust == nil {
		if err := CheckPlain(l.Addr()); err != nil {
			l.Close()
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var serving sync.WaitGroup
	defer serving.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	go func() {
		select {
		case <-h.drain:
			l.Close()
		case <-ctx.Done():
		}
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			select {
			case <-h.drain:
				// The coordinators end their sessions when they have been told.
				go func() {
					select {
					case <-time.After(drainLimitHost):
						cancel()
					case <-ctx.Done():
					}
				}()
				serving.Wait()
				return nil
			default:
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept coordinators: %w", err)
		}
		serving.Go(func() {
			peer := conn.RemoteAddr()
			if err := h.ServeConn(ctx, conn, trust, ""); err != nil && ctx.Err() == nil {
				h.log("coordinator at %v: %v", peer, err)
			}
		})
	}
}

// ServeConn serves the coordinator at the other end of conn until either side
// ends the session. dialled is the name of the coordinator's machine if conn was
// dialled from here, and else empty. It returns nil where the coordinator has
// left in peace.
func (h *Host) ServeConn(ctx context.Context, conn net.Conn, trust *Trust, dialled string) error {
	hello := helloMessage{Name: h.name}
	for _, d := range h.devices {
		hello.Devices = append(hello.Devices, d.info)
	}
	s, err := begin(ctx, conn, trust, dialled, hello)
	if errors.Is(err, errPeerLeft) {
		return nil
	}
	if err != nil {
		return err
	}
	h.log("coordinator %s at %v: connected", s.peer.Name, conn.RemoteAddr())
	c := &hosting{host: h, session: s, jobs: map[uint64]*hostedJob{}, leases: map[uint64]*hostedLease{}}
	return c.run(ctx)
}

// hosting is one coordinator that a host serves.
type hosting struct {
	host *Host
	*session

	mu     sync.Mutex
	jobs   map[uint64]*hostedJob
	leases map[uint64]*hostedLease
	work   sync.WaitGroup
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

	// todo hands leases to goroutines that have computed others before, and
	// have the stack for it.
	todo chan *hostedLease

	buffers sync.Pool // of *buffer: for results, until they have been written
}

// hostedLease is a lease that a host has to answer.
type hostedLease struct {
	id     uint64
	tile   kernels.Tile
	ctx    context.Context
	cancel context.CancelFunc
	moved  atomic.Bool // it has come some way since the coordinator was told
}

// The most that one coordinator may have on a host at a time.
const (
	maxJobs   = 64
	maxLeases = 4096
)

func (c *hosting) run(ctx context.Context) error {
	c.loops.Go(func() { c.read(c.control, c.handle) })
	c.loops.Go(func() {
		c.read(c.bulk, func(f frame, _ io.Reader) error {
			return protocolError("message %d on the host's bulk stream", f.typ)
		})
	})
	var cause error
	draining := c.host.drain
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
	if errors.Is(cause, errPeerLeft) || errors.Is(cause, io.EOF) {
		return nil
	}
	return cause
}

// tellProgress says which leases have come some way since it did last.
func (c *hosting) tellProgress() {
	var m progressMessage
	c.mu.Lock()
	for id, l := range c.leases {
		if l.moved.Swap(false) {
			m.Leases = append(m.Leases, id)
		}
	}
	c.mu.Unlock()
	if len(m.Leases) > 0 {
		c.send(outgoing{typ: typeProgress, message: m})
	}
}

// handle acts on a message of the coordinator.
func (c *hosting) handle(f frame, _ io.Reader) error {
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
	if c.jobs[m.Job] != nil || len(c.jobs) >= maxJobs {
		c.mu.Unlock()
		j.cancel()
		return protocolError("job %d, beside %d", m.Job, len(c.jobs))
	}
	c.jobs[m.Job] = j
	c.mu.Unlock()
	c.work.Go(func() {
		j.runner, j.err = j.device.Begin(j.ctx, job)
		close(j.ready)
		answer := beganMessage{Job: m.Job}
		if j.err != nil {
			answer.Error = j.err.Error()
		}
		c.send(outgoing{typ: typeBegan, message: answer})
		<-j.ctx.Done()
		c.awaitLeases(j)
		if j.runner != nil {
			if err := j.runner.Close(); err != nil {
				c.host.log("device %s: close a job: %v", j.device.ID(), err)
			}
		}
	})
	return nil
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
	case t.Empty() || t.X < 0 || t.Y < 0 || t.W > j.job.Bounds().W || t.H > j.job.Bounds().H || !j.job.Bounds().Contains(t):
		return protocolError("tile %v of a job of %v", t, j.job.Bounds())
	case c.leases[m.Lease] != nil || len(c.leases) >= maxLeases:
		return protocolError("lease %d, beside %d", m.Lease, len(c.leases))
	}
	l := &hostedLease{id: m.Lease, tile: t}
	l.ctx, l.cancel = context.WithCancel(j.ctx)
	c.leases[m.Lease] = l
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
		c.mu.Lock()
		delete(c.leases, l.id)
		c.mu.Unlock()
		c.send(o)
		l.cancel()
		j.leases.Done()
		select {
		case l = <-j.todo:
		case <-j.ctx.Done():
			return
		}
	}
}

// compute computes the tile of l and returns the answer.
func (c *hosting) compute(j *hostedJob, l *hostedLease) outgoing {
	failed := func(err error, lost bool) outgoing {
		return outgoing{typ: typeFailed, message: failedMessage{Lease: l.id, Lost: lost, Error: err.Error()}}
	}
	asked := time.Now()
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
	done, err := j.device.turns.take(l.ctx, c)
	if err != nil {
		return failed(err, true)
	}
	defer done()
	start := time.Now()
	b := j.buffers.Get().(*buffer)
	r := b.result(j.job, l.tile)
	r.Progress = func() { l.moved.Store(true) }
	if err := j.runner.Run(l.ctx, l.tile, r); err != nil {
		j.buffers.Put(b)
		return failed(err, l.ctx.Err() != nil || errors.Is(err, ErrLost))
	}
	return outgoing{
		typ: typeResult, planes: r.Planes, written: func() { j.buffers.Put(b) },
		message: resultMessage{
			Lease: l.id, Busy: int64(time.Since(start)), Waited: int64(start.Sub(asked)),
			BytesIn: r.BytesIn, BytesOut: r.BytesOut,
		},
	}
}
