package dist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/gpurun/gpurun/kernels"
)

// This file has what peers can do that is no nonsense, and would take more of a
// host, or of a coordinator, than a peer is due.

// readyNever is a device that never is ready for a job, so that no tile of one is
// ever computed.
type readyNever struct{ mandelDevice }

func (d *readyNever) Begin(ctx context.Context, _ kernels.Job) (kernels.Runner, error) {
	return nil, hang(ctx)
}

// refuses fails the test unless the host ends the session of a peer that leases
// t of job.
func refuses(t *testing.T, job *kernels.Mandelbrot, tile kernels.Tile) {
	t.Helper()
	h := startHostOf(t, nil, &mandelDevice{id: "d"}, &readyNever{})
	p := connectPeer(t, h, nil)
	ended := p.heard()
	p.begin(t, job, 1)
	_, _ = p.control.Write(mustFrame(typeLease, leaseMessage{Lease: 1, Job: 1, X: tile.X, Y: tile.Y, W: tile.W, H: tile.H}))
	select {
	case <-ended:
	case <-time.After(time.Second):
		t.Errorf("a lease for %v of %v, of %d bytes, was taken", tile, job.Bounds(), kernels.ResultBytes(job, tile))
	}
}

// A lease whose x or y is so large that x+w is negative passes for one within
// the job. Whatever device computes it indexes out of range: that ends the host,
// and all its coordinators' work.
func TestTileOverflow(t *testing.T) {
	for _, tile := range []kernels.Tile{{X: math.MaxInt64, W: 1, H: 1}, {Y: math.MaxInt64 - 8, W: 5, H: 10}} {
		refuses(t, remoteJob(), tile)
	}
}

// A lease may be for a tile of any size, where spec.md allows results of at most
// 2 GiB. The axes in a begin of 32 MiB make up to 2^44 bytes, and the attempt to
// allocate those ends the host.
func TestHugeTile(t *testing.T) {
	job := wideJob(24_000, 24_000)
	refuses(t, job, job.Bounds())
}

// A peer that leases and does not read makes the host compute one result after
// the other, and keep all of them until the limit of writing ends the session.
func TestResultsPileUp(t *testing.T) {
	h, idle := startIdleHost(t, nil)
	before := footprintNow()
	p := connectPeer(t, h, nil)
	const n = 256
	p.begin(t, wideJob(512, 256), 1)
	p.lease(t, n, 512, 256) // 1 MiB each
	p.conn.take()
	for deadline := time.Now().Add(2 * time.Second); idle.tiles.Load() < n && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if cost := footprintNow().since(before); cost.bytes() > 32<<20 {
		t.Errorf("%d results of 1 MiB wait for a peer that does not read, and take %d MiB", idle.tiles.Load(), cost.bytes()>>20)
	}
}

// As many silent strangers as a host looks at, and every coordinator that comes
// is turned away at once, for the 10 s that the strangers take; and they can come
// again.
func TestStrangersKeepOthersOut(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	h := startHost(t, trust, &mandelDevice{id: "d"})
	leave := comeAll(t, h.addr, 300, stalled(""), 0)
	defer leave()
	runHonestly(t, h, trust)
}

// flakyListener is a listener whose first Accept fails as it does where a
// process has too many files open.
type flakyListener struct {
	net.Listener
	failed bool
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// An Accept that fails for the moment ends the host: so a few hundred
// connections can, where the process may have few files.
func TestAcceptFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost("host", []Device{&mandelDevice{id: "d"}}, make([]DeviceInfo, 1), nil)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, &flakyListener{Listener: l}, nil) }()
	select {
	case err := <-served:
		t.Errorf("Serve returned: %v", err)
		served <- err
	case <-time.After(time.Second):
		runHonestly(t, &testHost{Host: h, addr: l.Addr().String()}, nil)
	}
	cancel()
	<-served
}

// Each of yamux's own pings starts a goroutine, which ends when the answer has
// been written: for a peer that does not read, never before the session ends. An
// honest peer sends none.
func TestPings(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d"})
	before := runtime.NumGoroutine()
	p := connectPeer(t, h, nil)
	p.conn.take()
	pings := bytes.Repeat(muxFrame(muxPing, muxSYN, 0, 1), 1000)
	_ = p.conn.Conn.SetWriteDeadline(time.Now().Add(3 * time.Second))
	sent, most := 0, 0
	for range 2000 {
		n, err := p.conn.Conn.Write(pings)
		sent += n
		if most = max(most, runtime.NumGoroutine()-before); err != nil || most > 5000 {
			break
		}
	}
	if most > 500 {
		t.Errorf("%d bytes of pings started %d goroutines", sent, most)
	}
	p.leave()
}

// Where a hello is due, readFrame takes a begin too, and the 32 MiB that it may
// have, on the word of 16 bytes from a peer that has not yet said who it is.
func TestHelloMemory(t *testing.T) {
	opening, _ := sent(t)
	at := 0 // where the header of the hello is
	for at+frameHeader < len(opening) && (!rightHeader(opening[at:]) || opening[at] != byte(typeHello) || opening[at+4] < 10) {
		at++
	}
	if at+frameHeader >= len(opening) {
		t.Fatal("there is no hello")
	}
	claim := bytes.Clone(opening)
	claim[at] = byte(typeBegin)
	binary.LittleEndian.PutUint32(claim[at+4:], maxBegin)
	h := startHost(t, nil, &mandelDevice{id: "d"})
	runHonestly(t, h, nil)
	before := footprintNow()
	const n = 8
	leave := comeAll(t, h.addr, n, stalled(string(claim)), 0)
	if cost := footprintNow().since(before); cost.bytes() > n<<20 {
		t.Errorf("%d strangers, who sent %d bytes each, cost %d KiB each", n, len(claim), cost.bytes()/n>>10)
	}
	leave()
}

// A host that wants to leave has one lease left, which the coordinator has
// cancelled, and answers it with a result: the coordinator does not let go.
func TestDrainAfterCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	job := &knownJobs()[0]
	var lease leaseMessage
	r := startScriptedHost(t, job, func(h *scriptedHost, f frame) {
		switch {
		case h.begin(f):
		case f.typ == typeLease:
			_ = f.decode(&lease)
			h.say(h.control, mustFrame(typeDrain, struct{}{}))
			cancel()
		case f.typ == typeCancel: // too late: it is done
			h.say(h.control, h.result(lease))
		}
	})
	runner, err := r.Devices()[0].Begin(t.Context(), job.Mandelbrot)
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Run(ctx, job.Bounds(), kernels.NewResult(job, job.Bounds())); !errors.Is(err, context.Canceled) {
		t.Errorf("the tile: %v", err)
	}
	select {
	case <-r.Done():
	case <-time.After(time.Second):
		t.Error("the session with a host that wants to leave, and has answered everything, goes on")
	}
}

// A host that drains waits for strangers, as long as they are looked at.
func TestDrainWaitsForStrangers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost("host", nil, nil, nil)
	served := make(chan error, 1)
	go func() { served <- h.Serve(t.Context(), l, nil) }()
	leave := comeAll(t, l.Addr().String(), 1, stalled(""), 0)
	h.Drain()
	select {
	case <-served:
		leave()
	case <-time.After(2 * time.Second):
		t.Error("a host without coordinators is still there 2 s after Drain")
		leave()
		<-served
	}
}

// What a peer calls itself, and what it asks for, gets into the log and into
// errors as it is: with line ends and escape codes, and of any length.
func TestWordsOfPeers(t *testing.T) {
	for name, say := range map[string]func(p *peer){
		"name": func(*peer) {},
		"kernel": func(p *peer) {
			_, _ = p.control.Write(mustFrame(typeBegin, beginMessage{Kernel: strings.Repeat("\x00", 1<<16)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, nil, &mandelDevice{id: "d"})
			conn, dialled, err := dial(t.Context(), h.addr)
			if err == nil {
				conn, err = secure(t.Context(), conn, nil, dialled)
			}
			if err != nil {
				t.Fatal(err)
			}
			p := &peer{}
			p.session, err = newSession(t.Context(), conn, true, helloMessage{Name: "a\ntime=0 level=INFO msg=b\x1b[2J"})
			if err != nil {
				t.Fatal(err)
			}
			ended := p.heard()
			say(p)
			if name == "kernel" {
				<-ended
			}
			within(t, time.Second, "it is in the log", func() bool { return h.logged() != "" })
			p.leave()
			h.stop()
			for _, line := range strings.SplitAfter(h.logged(), "\n") {
				if line != "" && !strings.HasPrefix(line, "time=2") || strings.Contains(line, "\x1b") || len(line) > 1000 {
					t.Errorf("a line of the log, of %d bytes: %.80q", len(line), line)
				}
			}
		})
	}
}

// Numbers are the coordinator's, up to 2^64-1, and the hand-written encoder makes
// those from 2^63 on negative.
func TestLargeNumbers(t *testing.T) {
	lease := leaseMessage{Lease: 1 << 63, Job: math.MaxUint64, W: 1, H: 1}
	result := resultMessage{Lease: 1<<63 + 5}
	for _, m := range []any{lease, result} {
		b := mustFrame(typeLease, m)[frameHeader:]
		if want, err := encoding.Marshal(m); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%+v is % x, want % x", m, b, want)
		}
	}
}

// The memory of results that have been written is kept by the outbox, when
// several have waited, until as many wait again.
func TestOutboxKeepsPlanes(t *testing.T) {
	bulk := &keptStream{t: t, gate: make(chan struct{})}
	s := sessionOn(t, &keptStream{t: t}, bulk)
	written := make(chan bool, 100)
	first := func() { written <- true }
	go s.send(outgoing{typ: typeResult, message: resultMessage{}, planes: [][]byte{make([]byte, 8<<10)}, free: first})
	within(t, time.Second, "the first is being written", bulk.writing.Load)
	var planes []weak.Pointer[[1 << 20]byte]
	for range 8 {
		plane := new([1 << 20]byte)
		planes = append(planes, weak.Make(plane))
		s.send(outgoing{typ: typeResult, message: resultMessage{}, planes: [][]byte{plane[:]}, free: first})
	}
	close(bulk.gate)
	for range 9 {
		<-written
	}
	bulk.size(true)
	s.send(outgoing{typ: typeResult, message: resultMessage{}, planes: [][]byte{make([]byte, 8<<10)}, free: first})
	<-written
	kept := 0
	within(t, time.Second, "nothing is written", func() bool { return !bulk.writing.Load() })
	footprintNow()
	for _, p := range planes {
		if p.Value() != nil {
			kept++
		}
	}
	if kept > 0 {
		t.Errorf("%d of %d results are kept after they have been written", kept, len(planes))
	}
}

// An axis that is not a whole number of float64 is taken, without its rest.
func TestHalfANumber(t *testing.T) {
	spec, err := encoding.Marshal(mandelbrotSpec{Type: 2, CX: make([]byte, 17), CY: make([]byte, 8), MaxIter: 1, R2: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeJob("mandelbrot", spec); !errors.Is(err, ErrProtocol) {
		t.Errorf("an axis of 17 bytes: %v", err)
	}
}

// Every lease that is out has a goroutine, which stays until its job has ended:
// a peer makes the host keep 4096 for each of 64 jobs, though it has no lease
// out.
func TestIdleGoroutines(t *testing.T) {
	gate := make(chan struct{})
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(ctx context.Context) error {
		select {
		case <-gate:
			return errors.New("no")
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	before := footprintNow()
	p := connectPeer(t, h, nil)
	spec, _ := encodeJob(wideJob(1, 1))
	const jobs, leases = 6, 4000
	for job := range uint64(jobs) {
		say := mustFrame(typeBegin, beginMessage{Job: job, Kernel: "mandelbrot", Spec: spec})
		for i := range uint64(leases) {
			say = append(say, mustFrame(typeLease, leaseMessage{Lease: job*leases + i + 1, Job: job, W: 1, H: 1})...)
		}
		if _, err := p.control.Write(say); err != nil {
			t.Fatal(err)
		}
		for answered := 0; answered < leases; { // the first turn is the one that waits
			select {
			case gate <- struct{}{}:
				continue
			default:
			}
			f, err := readFrame(p.control)
			if err != nil {
				t.Fatal(err)
			}
			if f.typ == typeFailed {
				answered++
			}
			select {
			case gate <- struct{}{}:
			case <-time.After(50 * time.Microsecond):
			}
		}
	}
	if cost := footprintNow().since(before); cost.goroutines > leases {
		t.Errorf("a peer without a lease keeps %d goroutines and %d KiB", cost.goroutines, cost.bytes()>>10)
	}
}

// A hello has room for thousands of devices. Each is begun, and each begin holds
// the job's axes: so only as many as a machine can have are let in.
func TestManyDevices(t *testing.T) {
	r, err := acceptDevices(t, maxDevices+1)
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "a host of 65 devices") {
		t.Errorf("the error is %v", err)
	}

	before := footprintNow()
	if r, err = acceptDevices(t, maxDevices); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	job := wideJob(4000, 1)
	most := int64(0)
	sampled := &mandelDevice{id: "good", pause: 100 * time.Millisecond, fault: func(context.Context) error {
		most = max(most, footprintNow().since(before).bytes())
		return nil
	}}
	if _, err := Run(t.Context(), job, append(r.Devices(), sampled), newImageSink(job), Options{Tiles: 3}); err != nil {
		t.Error(brief(err))
	}
	if most > 32<<20 {
		t.Errorf("a host of %d devices, and a job of 4000×1 pixels, cost %d MiB", len(r.Devices()), most>>20)
	}
}

// acceptDevices accepts a host that has n devices and answers nothing.
func acceptDevices(t *testing.T, n int) (*RemoteHost, error) {
	here, there := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if conn, err := secure(t.Context(), there, nil, "coordinator"); err == nil {
			if s, err := newSession(t.Context(), conn, true, helloMessage{Devices: make([]DeviceInfo, n)}); err == nil {
				_, _ = io.Copy(io.Discard, s.control)
				s.close(errors.New("the end"))
			}
		}
	}()
	t.Cleanup(func() { <-ended })
	return Accept(t.Context(), here, "test", nil)
}
