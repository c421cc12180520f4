package dist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// RemoteHost is a host as its coordinator has it: a session with it, and its
// devices, which compute tiles like any other. When the session ends the tiles
// that are out are lost, and the devices are of no more use. Its methods may be
// called by several goroutines.
type RemoteHost struct {
	*session
	addr    string
	called  string // in the ids of its devices, and in errors
	dialled bool   // from here, at addr
	devices []Device

	mu       sync.Mutex
	draining bool // the host takes no more leases
	begins   map[uint64]chan beganMessage
	leases   map[uint64]wanted
	fetches  *fetches
	clock    hostClock
}

// wanted is a lease that is out.
type wanted struct {
	answered chan reply
	runner   *remoteRunner
	tile     kernels.Tile
	sent     time.Duration // when it was, on the session's clock here
	progress func()        // or nil
	late     func()        // see lender
	begun    bool          // its result has begun to come
}

// reply is what a host says to a lease.
type reply struct {
	result *buffer
	err    error
}

// Dial connects to the host that listens at addr, "host:port" or
// "unix:/path". name is what this machine calls itself.
func Dial(ctx context.Context, addr, name string, trust *Trust) (*RemoteHost, error) {
	conn, dialled, err := dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", addr, err)
	}
	r, err := newRemoteHost(ctx, conn, addr, name, trust, dialled)
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", addr, err)
	}
	return r, nil
}

// dial connects to addr, "host:port" or "unix:/path", and returns the name that
// was dialled, which the peer's certificate has to be for: the host, or localhost
// where addr has none.
func dial(ctx context.Context, addr string) (conn net.Conn, dialled string, err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	const here = "localhost" // a socket, and ":9473", are of this machine
	var d net.Dialer
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		conn, err = d.DialContext(ctx, "unix", path)
		return conn, here, err
	}
	if dialled, _, err = net.SplitHostPort(addr); err != nil {
		return nil, "", err
	}
	conn, err = d.DialContext(ctx, "tcp", addr)
	if dialled == "" {
		dialled = here
	}
	return conn, dialled, err
}

// Accept begins a session with the host that has dialled conn, and makes sure of
// it first. name is what this machine calls itself. On an error conn is closed.
func Accept(ctx context.Context, conn net.Conn, name string, trust *Trust) (*RemoteHost, error) {
	addr := conn.RemoteAddr().String()
	r, err := newRemoteHost(ctx, conn, addr, name, trust, "")
	if err != nil {
		return nil, fmt.Errorf("host at %s: %w", addr, err)
	}
	return r, nil
}

func newRemoteHost(ctx context.Context, conn net.Conn, addr, name string, trust *Trust, dialled string) (*RemoteHost, error) {
	s, err := begin(ctx, conn, trust, dialled, helloMessage{Name: name})
	if err != nil {
		return nil, err
	}
	r := &RemoteHost{session: s, addr: addr, called: addr, dialled: dialled != "", begins: map[uint64]chan beganMessage{}, leases: map[uint64]wanted{}, fetches: newFetches()}
	for i, info := range s.peer.Devices {
		r.devices = append(r.devices, &remoteDevice{host: r, index: i, info: info})
	}
	s.loops.Go(func() { s.read(s.control, maxMessage, r.handle) })
	s.loops.Go(func() { s.read(s.bulk, maxMessage, r.handle) })
	return r, nil
}

// Name returns what the host calls itself, and Addr where it was reached.
func (r *RemoteHost) Name() string { return r.peer.Name }

// Addr returns the address at which the host was reached.
func (r *RemoteHost) Addr() string { return r.addr }

// Call has the host called so in the ids of its devices and in errors, in place of its
// address: of one that has joined, the port says nothing. It is called before the devices
// are used.
func (r *RemoteHost) Call(name string) { r.called = name }

// Called returns how the host is called: as Call says, or else Addr.
func (r *RemoteHost) Called() string { return r.called }

// Devices returns the host's devices. Their ids have how the host is called before
// them: "gpu1:9473/ocl:0.0".
func (r *RemoteHost) Devices() []Device { return r.devices }

// Infos describes the devices, in the same order.
func (r *RemoteHost) Infos() []DeviceInfo { return r.peer.Devices }

// Done is closed when the session has ended, and Err then says why.
func (r *RemoteHost) Done() <-chan struct{} { return r.ctx.Done() }

// Err returns why the session has ended, or nil.
func (r *RemoteHost) Err() error { return context.Cause(r.ctx) }

// Close ends the session, and lets the host know that this is in peace: it waits for it to
// hang up, for up to 2 s.
func (r *RemoteHost) Close() error {
	r.leave(errors.New("closed"))
	return nil
}

// Abandon ends the session without a word, as it ends when this process is killed: a host that
// looks for who takes its place then goes on to do so.
func (r *RemoteHost) Abandon() { r.close(errors.New("closed")) }

// handle acts on a message of the host.
func (r *RemoteHost) handle(f frame, bulk io.Reader) error {
	switch f.typ {
	case typePing:
		return r.ping(f)
	case typeDrain:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.draining = true
		r.leaveIfDrained()
		return nil
	case typeBegan:
		var m beganMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if ch := r.begins[m.Job]; ch != nil {
			delete(r.begins, m.Job)
			ch <- m
		}
		return nil
	case typeProgress:
		var m progressMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		r.comeOn(m.Leases)
		return nil
	case typeFailed:
		var m failedMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		err := errors.New(printableLines(m.Error))
		if m.Lost {
			err = fmt.Errorf("%w: %w", ErrLost, err)
		}
		r.answer(m.Lease, reply{err: err})
		return nil
	case typeResult:
		var m resultMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		return r.receive(m, f.bulk, bulk)
	case typeFetch:
		var m fetchMessage
		if err := f.decode(&m); err != nil {
			return err
		}
		return r.fetch(m)
	}
	return protocolError("message %d from a host", f.typ)
}

// ping notes the host's time.
func (r *RemoteHost) ping(f frame) error {
	received := r.now()
	var m pingMessage
	if err := f.decode(&m); err != nil {
		return err
	}
	r.clock.heard(time.Duration(m.Time), received)
	return nil
}

// comeOn says of leases that they have come some way.
func (r *RemoteHost) comeOn(leases []uint64) {
	for _, id := range leases {
		r.mu.Lock()
		w := r.leases[id]
		r.mu.Unlock()
		if w.progress != nil {
			w.progress()
		}
	}
}

// receive reads the size bytes of a result. Memory is taken only for a lease
// that is out, and as much as its result has.
func (r *RemoteHost) receive(m resultMessage, size int64, bulk io.Reader) error {
	received := r.now()
	r.mu.Lock()
	w, ok := r.leases[m.Lease]
	if w.begun = true; ok {
		r.leases[m.Lease] = w
	}
	r.mu.Unlock()
	if !ok {
		// Nobody waits for it, a lease least of all that goes out under its number
		// while it is read.
		r.refuse(m.Lease, true)
		_, err := io.CopyN(io.Discard, bulk, size)
		return err
	}
	due := int64(kernels.ResultBytes(w.runner.job, w.tile))
	if m.Encoding > encodedZstd || m.Encoding == encodedRaw && size != due || m.Encoding == encodedZstd && size >= due {
		return protocolError("result of %d bytes with encoding %d where %d were due", size, m.Encoding, due)
	}
	b := w.runner.buffers.Get().(*buffer)
	out := b.result(w.runner.job, w.tile)
	if err := readPlanes(bulk, m.Encoding, size, out.Planes); err != nil {
		return err
	}
	out.BytesIn, out.BytesOut = m.BytesIn, m.BytesOut
	out.Busy, out.Waited = max(time.Duration(m.Busy), 1), max(time.Duration(m.Waited), 0)
	computing := r.clock.place(hostTimes{w.sent, time.Duration(m.Read), out.Waited, out.Busy, received})
	out.Began, out.BeganWithin = r.began.Add(computing.from), computing.within
	r.answer(m.Lease, reply{result: b})
	return nil
}

// readPlanes reads the planes of a result, of which r has size bytes.
func readPlanes(r io.Reader, encoding encodingType, size int64, planes [][]byte) error {
	if encoding == encodedZstd {
		return decompress(io.LimitReader(r, size), planes)
	}
	for _, plane := range planes {
		if _, err := io.ReadFull(r, plane); err != nil {
			return err
		}
	}
	return nil
}

// answer hands a to whoever waits for it; nobody does after a cancellation.
func (r *RemoteHost) answer(lease uint64, a reply) {
	r.mu.Lock()
	w, out := r.leases[lease]
	if out {
		delete(r.leases, lease)
		w.answered <- a
	}
	r.leaveIfDrained()
	r.mu.Unlock()
	if !out {
		r.refuse(lease, a.err == nil)
	}
}

// leaveIfDrained ends the session with a host that wants to leave and has
// answered everything. r.mu is held.
func (r *RemoteHost) leaveIfDrained() {
	if r.draining && len(r.leases) == 0 {
		go r.leave(errDrained)
	}
}

// errDrained is the cause of a session whose host wanted to leave.
var errDrained = errors.New("it has been asked to stop")

// remoteDevice is a device of a host.
type remoteDevice struct {
	host  *RemoteHost
	index int
	info  DeviceInfo
}

func (d *remoteDevice) ID() string { return d.host.called + "/" + d.info.ID }

// prefetched is how many tiles a device of a host gets beyond its slots: the
// next, which is there when one is done, and one while the result of that is on
// the way.
const prefetched = 2

// deepest bounds how many tiles a device of a host has at a time where they are
// so small that a round trip takes longer.
const deepest = 256

func (d *remoteDevice) depth() int { return deepest }

func (d *remoteDevice) Slots() int { return min(max(d.info.Slots, 1), 16) + prefetched }

func (d *remoteDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	spec, err := encodeJob(job)
	if err != nil {
		return nil, err
	}
	if len(spec) > maxSpec {
		return nil, fmt.Errorf("a job that takes %d bytes to describe, where hosts take at most %d: "+
			"compute its image in parts, of fewer rows and columns each", len(spec), maxSpec)
	}
	h := d.host
	served := h.serve(job)
	r, err := d.begin(ctx, &remoteRunner{host: h, key: d.key(), job: job, running: ctx, served: served}, spec)
	if err != nil {
		h.letGo(served)
		return nil, err
	}
	context.AfterFunc(ctx, unanswered.forgetEnded)
	return r, nil
}

// begin has the host begin r's job.
func (d *remoteDevice) begin(ctx context.Context, r *remoteRunner, spec []byte) (kernels.Runner, error) {
	h := d.host
	id := numbers.Add(1)
	r.id = id
	r.buffers.New = func() any { return new(buffer) }
	message := beginMessage{Job: id, Device: d.index, Kernel: r.job.Kernel(), Spec: spec}
	if r.served != nil {
		message.Operands = r.served.number
	}
	began := make(chan beganMessage, 1)
	h.mu.Lock()
	h.begins[id] = began
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.begins, id)
	}()
	if !h.send(outgoing{typ: typeBegin, message: message}) {
		return nil, h.gone()
	}
	select {
	case m := <-began:
		if m.Error != "" {
			r.end()
			return nil, errors.New(printableLines(m.Error))
		}
		if p, ok := productOf(r.job); ok {
			return &remoteProduct{r, gridOf(m, p.element())}, nil
		}
		return r, nil
	case <-ctx.Done():
		r.end()
		return nil, ctx.Err()
	case <-h.ctx.Done():
		return nil, h.gone()
	}
}

// gone is the error of a tile whose host has gone: the tile is lost.
func (r *RemoteHost) gone() error {
	cause := context.Cause(r.ctx)
	if cause == nil {
		cause = errDrained
	}
	return fmt.Errorf("%w: %w: %s: %w", ErrLost, errHostGone, r.called, cause)
}

// remoteRunner runs one job on a device of a host.
type remoteRunner struct {
	host *RemoteHost
	key  string // of the device
	id   uint64
	job  kernels.Job

	running context.Context // done when the job has ended

	served  *servedOperands // nil if the job has no operands
	buffers sync.Pool       // of *buffer
}

func (r *remoteRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	b, err := r.lend(ctx, t, out.Progress, nil)
	if err != nil {
		return err
	}
	defer r.takeBack(b)
	for i, plane := range out.Planes {
		copy(plane, b.view.Planes[i])
	}
	planes := out.Planes
	*out = b.view
	out.Planes = planes
	return nil
}

func (r *remoteRunner) takeBack(b *buffer) { r.buffers.Put(b) }

func (r *remoteRunner) lend(ctx context.Context, t kernels.Tile, progress, late func()) (*buffer, error) {
	h := r.host
	if bytes := kernels.ResultBytes(r.job, t); bytes > maxBulk {
		return nil, fmt.Errorf("a tile of %d bytes, where hosts compute at most %d: cut the job into more tiles", bytes, maxBulk)
	}
	id := numbers.Add(1)
	answered := make(chan reply, 1)
	h.mu.Lock()
	if h.draining {
		h.mu.Unlock()
		return nil, h.gone()
	}
	h.leases[id] = wanted{answered: answered, runner: r, tile: t, sent: h.now(), progress: progress, late: late}
	h.mu.Unlock()
	if !h.send(outgoing{typ: typeLease, message: leaseMessage{Lease: id, Job: r.id, X: t.X, Y: t.Y, W: t.W, H: t.H}}) {
		return r.giveUp(id, answered, h.gone())
	}
	var unreadable <-chan struct{}
	if r.served != nil {
		unreadable = r.served.failed.Done()
	}
	select {
	case a := <-answered:
		return a.result, r.blame(a.err)
	case <-ctx.Done():
		return r.giveUp(id, answered, ctx.Err())
	case <-unreadable:
		return r.giveUp(id, answered, context.Cause(r.served.failed))
	case <-h.ctx.Done():
		return r.giveUp(id, answered, h.gone())
	}
}

// blame returns the error of a tile, which is not the host's where an operand could
// not be read.
func (r *remoteRunner) blame(err error) error {
	if err != nil && r.served != nil && r.served.failed.Err() != nil {
		return context.Cause(r.served.failed)
	}
	return err
}

// end ends the job on the host.
func (r *remoteRunner) end() {
	r.host.send(outgoing{typ: typeEnd, message: endMessage{Job: r.id}})
}

func (r *remoteRunner) Close() error {
	r.end()
	r.host.letGo(r.served)
	return nil
}
