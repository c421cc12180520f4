package dist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Host computes tiles for coordinators, on the devices of its machine. It may
// serve several coordinators at once, and its methods may be called by several
// goroutines.
type Host struct {
	name    string
	devices []hostDevice
	log     *slog.Logger

	operands operandMemory
	counts   hostCounts

	// drain is done when the host takes no more leases.
	drain    context.Context
	setDrain context.CancelFunc
}

// hostDevice is a device and the turns that coordinators take on it.
type hostDevice struct {
	Device
	info   DeviceInfo
	turns  *turns
	counts *deviceCounts

	// kernels runs those of users on the device, apart from all else; nil if nobody may have
	// any run.
	kernels Device

	// streaming holds a token while a product streams on the device, whose memory is
	// planned for one.
	streaming chan struct{}
}

// NewHost returns a host called name with devices, which infos describe in the
// same order. log is told of coordinators that come, go, or are turned away, and of
// tiles that fail; it may be nil.
func NewHost(name string, devices []Device, infos []DeviceInfo, log *slog.Logger) *Host {
	h := &Host{name: name, log: log}
	h.operands.limit = defaultOperandBytes
	h.drain, h.setDrain = context.WithCancel(context.Background())
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	for i, d := range devices {
		slots := max(1, d.Slots())
		infos[i].Slots = slots
		h.devices = append(h.devices, hostDevice{Device: d, info: infos[i], turns: newTurns(slots), counts: &deviceCounts{}, streaming: make(chan struct{}, 1)})
	}
	return h
}

// LimitOperands bounds the bytes that the matrices of all products together take in
// this machine's memory, for all coordinators: 1 GiB unless it is called. Of a product that
// takes more the devices read a part at a time, into memory of their own; one that also
// reads C is refused. It is called before the host serves anybody.
func (h *Host) LimitOperands(bytes int64) { h.operands.limit = bytes }

// AllowKernels has the host run the kernels of users that its coordinators send. runners has a device
// for each of the host's, in their order, that begins them, or nil where none does. One that takes
// OpenCL C, as its DeviceInfo says, has to keep it from all else: it is code that may do anything, and
// those that the host serves must have a trust. It is called before the host serves anybody.
func (h *Host) AllowKernels(runners []Device) {
	for i := range h.devices {
		h.devices[i].kernels = runners[i]
	}
}

// Draining reports whether Drain has been called.
func (h *Host) Draining() bool { return h.drain.Err() != nil }

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

// Drain makes the host finish the tiles that it has, for at most 30 s, and take
// no more. Serve, ServeConn and Join return once their coordinators have let go.
func (h *Host) Drain() { h.setDrain() }

// drainLimitHost bounds how long a host that drains goes on. What it has not
// finished then is lost, and computed by others.
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
	accepting, stop := either(ctx, h.drain)
	defer stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	err := AcceptEach(accepting, l, func(conn net.Conn) {
		serving.Go(func() {
			_ = h.ServeConn(ctx, conn, trust, "") // which logs it
		})
	})
	if ctx.Err() == nil && h.Draining() {
		// The coordinators end their sessions when they have been told.
		serving.Wait()
		return nil
	}
	return err
}

// either returns a context that is done when one of the two is.
func either(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() { stop(); cancel() }
}

// acceptPause is how long to wait after an Accept that failed for the moment,
// such as for want of files.
const acceptPause = 100 * time.Millisecond

// AcceptEach calls serve, which is not to block, with each connection that l
// accepts, until ctx is done or l is closed by others. Then it closes l and
// returns ctx's error, or else why l accepts no more.
func AcceptEach(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			serve(conn)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept connections: %w", err)
		default:
			time.Sleep(acceptPause)
		}
	}
}

// ServeConn serves the coordinator at the other end of conn until either side
// ends the session. dialled is the name of the coordinator's machine if conn was
// dialled from here, and else empty. It returns nil where the coordinator has
// said that it leaves, or was still a stranger when the host began to drain. The log is told
// how a session ended, and of a coordinator that was turned away unless it was dialled.
func (h *Host) ServeConn(ctx context.Context, conn net.Conn, trust *Trust, dialled string) error {
	hello := helloMessage{Name: h.name}
	for _, d := range h.devices {
		hello.Devices = append(hello.Devices, d.info)
	}
	shaking, stop := either(ctx, h.drain)
	s, err := begin(shaking, conn, trust, dialled, hello)
	stop()
	switch {
	case errors.Is(err, errGoodbye), dialled == "" && errors.Is(err, errPeerLeft), err != nil && ctx.Err() == nil && h.Draining():
		return nil
	case err != nil && dialled == "" && ctx.Err() == nil:
		h.counts.refuse(err)
		h.log.Warn("coordinator turned away", "addr", conn.RemoteAddr().String(), "err", err)
		return err
	case err != nil:
		return err
	}
	h.counts.sessions.Add(1)
	h.counts.coordinators.Add(1)
	defer h.counts.coordinators.Add(-1)
	log := h.log.With("coordinator", s.peer.Name, "addr", conn.RemoteAddr().String())
	log.Info("coordinator connected")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.drain, func() { // in a goroutine of its own
		select {
		case <-time.After(drainLimitHost):
			cancel()
		case <-ctx.Done():
		}
	})()
	c := &hosting{host: h, log: log, session: s, jobs: map[uint64]*hostedJob{}, leases: map[uint64]*hostedLease{}, fetching: newFetching(h, s.send)}
	if err = c.run(ctx); err != nil && ctx.Err() == nil {
		log.Warn("coordinator lost", "err", err)
	} else {
		log.Info("coordinator left")
	}
	return err
}
