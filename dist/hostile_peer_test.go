package dist

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// This file has peers that have the key and a session, and then do what no
// gpurun does. Beside each an honest coordinator runs a job.

// hijacked is the connection below a session. Once it is taken, the session
// hears nothing and says nothing any more, and the test writes to the connection
// itself.
type hijacked struct {
	net.Conn
	taken  atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (h *hijacked) Read(p []byte) (int, error) {
	if !h.taken.Load() {
		n, err := h.Conn.Read(p)
		if !h.taken.Load() {
			return n, err
		}
	}
	<-h.closed
	return 0, net.ErrClosed
}

func (h *hijacked) Write(p []byte) (int, error) {
	if h.taken.Load() {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func (h *hijacked) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Conn.Close()
}

// take takes the connection from the session.
func (h *hijacked) take() {
	h.taken.Store(true)
	_ = h.Conn.SetReadDeadline(time.Unix(1, 0)) // who reads stops
}

// peer is a peer with the key.
type peer struct {
	*session
	conn *hijacked
}

// connectPeer begins a session with h, as a coordinator.
func connectPeer(t *testing.T, h *testHost, trust *Trust) *peer {
	t.Helper()
	conn, dialled, err := dial(t.Context(), h.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(1 << 16)
	conn, err = secure(t.Context(), conn, trust, dialled)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{conn: &hijacked{Conn: conn, closed: make(chan struct{})}}
	if p.session, err = newSession(t.Context(), p.conn, true, helloMessage{Name: "peer"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.leave)
	return p
}

func (p *peer) leave() { p.close(errors.New("the peer has had its say")) }

// heard returns a channel that is closed when the host has ended the session.
func (p *peer) heard() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, p.control)
	}()
	return ended
}

// The types and flags of yamux's frames.
const (
	muxData, muxUpdate, muxPing = 0, 1, 2
	muxSYN                      = 1
)

func muxFrame(typ byte, flags uint16, stream, length uint32) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, typ}, flags)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, stream), length)
}

// idleDevice answers every tile at once and computes nothing.
type idleDevice struct {
	mandelDevice
	tiles atomic.Int32
}

func (d *idleDevice) Begin(context.Context, kernels.Job) (kernels.Runner, error) {
	d.open.Add(1)
	return &idleRunner{d}, nil
}

type idleRunner struct{ *idleDevice }

func (r *idleRunner) Close() error {
	r.open.Add(-1)
	return nil
}

func (r *idleRunner) Run(context.Context, kernels.Tile, *kernels.Result) error {
	r.idleDevice.tiles.Add(1)
	return nil
}

// wideJob is a job of rows×columns pixels of which each has 8 bytes of result.
func wideJob(columns, rows int) *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: 1, R2: 4, Magnitudes: true}
	job.CX, job.CY = make([]float64, columns), make([]float64, rows)
	return job
}

// begin begins job as number 1 on a device.
func (p *peer) begin(t *testing.T, job kernels.Job, device int) {
	t.Helper()
	spec, err := encodeJob(job)
	if err != nil {
		t.Fatal(err)
	}
	if err := writePieces(p.control, mustFrame(typeBegin, beginMessage{Job: 1, Device: device, Kernel: job.Kernel(), Spec: spec})); err != nil {
		t.Fatal(err)
	}
}

// lease asks for n tiles of w×h.
func (p *peer) lease(t *testing.T, n, w, h int) {
	t.Helper()
	var all []byte
	for i := range n {
		all = append(all, mustFrame(typeLease, leaseMessage{Lease: uint64(i) + 1, Job: 1, W: w, H: h})...)
	}
	if err := writePieces(p.control, all); err != nil {
		t.Fatal(err)
	}
}

// startIdleHost is startHost with an idleDevice beside the other.
func startIdleHost(t *testing.T, trust *Trust) (*testHost, *idleDevice) {
	t.Helper()
	idle := &idleDevice{mandelDevice: mandelDevice{id: "idle"}}
	return startHostOf(t, trust, &mandelDevice{id: "d"}, idle), idle
}

// TestPeerThatOpensStreams has a peer open thousands of streams, and send on
// each as much as it may and more.
func TestPeerThatOpensStreams(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	h := startHost(t, trust, &mandelDevice{id: "d"})
	runHonestly(t, h, trust)
	before := footprintNow()
	p := connectPeer(t, h, trust)
	p.conn.take()
	chunk := make([]byte, 1<<18) // yamux's first window
	for i := range uint32(5000) {
		n := len(chunk)
		if i >= 20 {
			n = 1000
		}
		frame := append(muxFrame(muxUpdate, muxSYN, 5+2*i, 0), muxFrame(muxData, 0, 5+2*i, uint32(n))...)
		if _, err := p.conn.Conn.Write(append(frame, chunk[:n]...)); err != nil {
			break // it may well have had enough
		}
	}
	runHonestly(t, h, trust)
	cost := footprintNow().since(before)
	t.Logf("%d bytes and %d goroutines", cost.bytes(), cost.goroutines)
	if cost.bytes() > 8<<20 || cost.goroutines > 30 {
		t.Errorf("the peer cost %d bytes and %d goroutines", cost.bytes(), cost.goroutines)
	}
	p.leave()
	settle(t, before.goroutines)
}

// TestPeerThatClaimsMuch has a peer announce far more than it sends. The session
// ends, and no memory has been taken.
func TestPeerThatClaimsMuch(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	h := startHost(t, trust, &mandelDevice{id: "d"})
	header := func(typ messageType, length uint32, bulk uint64) []byte {
		b := binary.LittleEndian.AppendUint32([]byte{byte(typ), 0, 0, 0}, length)
		return binary.LittleEndian.AppendUint64(b, bulk)
	}
	for name, claim := range map[string]struct {
		raw bool // below the streams
		say []byte
	}{
		"a message of 2^31":      {false, header(typeLease, 1<<31, 0)},
		"a begin of 2^31":        {false, header(typeBegin, 1<<31, 0)},
		"a begin of 2^32-1":      {false, header(typeBegin, math.MaxUint32, 0)},
		"a ping of 2^31":         {false, header(typePing, 1<<31, 0)},
		"bulk of 2^31":           {false, header(typeResult, 0, 1<<31)},
		"bulk of 2^64-1":         {false, header(typeResult, 0, math.MaxUint64)},
		"an array of 2^31":       {false, append(header(typeBegin, 6, 0), 0xa1, 4, 0x9a, 0x80, 0, 0, 0)},
		"bytes of 2^31":          {false, append(header(typeBegin, 7, 0), 0xa1, 4, 0x5a, 0x80, 0, 0, 0)},
		"2^31 on control":        {true, muxFrame(muxData, 0, 1, 1<<31)},
		"2^32-1 on control":      {true, muxFrame(muxData, 0, 1, math.MaxUint32)},
		"2^31 on another stream": {true, muxFrame(muxData, muxSYN, 5, 1<<31)},
	} {
		t.Run(name, func(t *testing.T) {
			before := footprintNow()
			p := connectPeer(t, h, trust)
			ended := p.heard()
			if claim.raw {
				_, _ = p.conn.Conn.Write(claim.say)
			} else {
				_ = writePieces(p.control, claim.say)
			}
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("the session goes on")
			}
			runHonestly(t, h, trust)
			if cost := footprintNow().since(before); cost.bytes() > 1<<20 {
				t.Errorf("the claim cost %d bytes", cost.bytes())
			}
			p.leave()
			settle(t, before.goroutines)
		})
	}
}

// TestPeerThatVanishes has a peer leave in the middle of a job, in the three ways
// in which that can show: the host stops its tiles and ends its job.
func TestPeerThatVanishes(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	for name, vanish := range map[string]func(p *peer){
		"closed": func(p *peer) { p.leave() },
		"reset": func(p *peer) {
			_ = underneath(p.conn.Conn).SetLinger(0)
			_ = underneath(p.conn.Conn).Close()
		},
		"half closed": func(p *peer) {
			p.conn.take()
			_ = underneath(p.conn.Conn).CloseWrite()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var running atomic.Int32
			h := startHost(t, trust, &mandelDevice{id: "d", fault: func(ctx context.Context) error {
				if running.Add(1) == 1 {
					return hang(ctx)
				}
				return nil
			}})
			p := connectPeer(t, h, trust)
			p.begin(t, remoteJob(), 0)
			p.lease(t, 30, 3, 3)
			within(t, 5*time.Second, "a tile runs", func() bool { return running.Load() == 1 })
			vanish(p)
			within(t, 5*time.Second, "the job ends", func() bool { return h.device.open.Load() == 0 })
			runHonestly(t, h, trust)
		})
	}
}

// TestPeerThatEndsAJob has a peer end a job of which a tile runs, and others
// wait, and stay: the tile is stopped, and the runner closed when it has.
func TestPeerThatEndsAJob(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond)
		return ctx.Err()
	}})
	p := connectPeer(t, h, nil)
	ended := p.heard()
	p.begin(t, remoteJob(), 0)
	p.lease(t, 30, 3, 3)
	within(t, 5*time.Second, "a tile runs", func() bool { return h.device.tiles.Load() == 1 })
	_, _ = p.control.Write(mustFrame(typeEnd, endMessage{Job: 1}))
	within(t, 5*time.Second, "the job ends", func() bool { return h.device.open.Load() == 0 })
	select {
	case <-ended:
		t.Error("the session has ended with the job")
	default:
	}
}

// underneath returns the TCP connection below TLS.
func underneath(c net.Conn) *net.TCPConn {
	if s, ok := c.(interface{ NetConn() net.Conn }); ok {
		return underneath(s.NetConn())
	}
	return c.(*net.TCPConn)
}

// TestPeerThatDoesNotRead has peers that neither read nor go: one that has asked
// for results, and goes on sending, and one from which nothing is heard. The
// limits of writing and of silence end their sessions. It takes as long as they
// are, beside the other tests.
func TestPeerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	trust := mustTrustKey(t, NewKey())
	for name, silent := range map[string]bool{"silent": true, "talking": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, idle := startIdleHost(t, trust)
			p := connectPeer(t, h, trust)
			start := time.Now()
			p.begin(t, wideJob(512, 256), 1)
			if f, err := readFrame(p.control); err != nil || f.typ != typeBegan {
				t.Fatalf("message %d, %v", f.typ, err)
			}
			if !silent {
				p.lease(t, 24, 512, 256)
				within(t, 5*time.Second, "a result is there", func() bool { return idle.tiles.Load() > 0 })
			}
			p.conn.take()
			runHonestly(t, h, trust)
			ended := func() bool {
				if !silent { // a heart that beats, on control
					ping := mustFrame(typePing, struct{}{})
					_, _ = p.conn.Conn.Write(append(muxFrame(muxData, 0, 1, uint32(len(ping))), ping...))
					time.Sleep(20 * time.Millisecond)
				}
				return idle.open.Load() == 0
			}
			if within(t, silence+silence, "the session ends", ended) && time.Since(start) < silence-time.Second {
				t.Errorf("the session ended after %v", time.Since(start))
			}
			within(t, time.Second, "the log says why", func() bool {
				return strings.Contains(h.logged(), "peer: "+map[bool]string{true: "nothing was heard", false: ""}[silent]) &&
					(silent || strings.Contains(h.logged(), "write to peer"))
			})
			runHonestly(t, h, trust)
		})
	}
}

// TestPeerThatAsksForTooMuch has peers with the key exceed what a host takes of
// one coordinator. One less of each it takes.
func TestPeerThatAsksForTooMuch(t *testing.T) {
	spec, err := encodeJob(remoteJob())
	if err != nil {
		t.Fatal(err)
	}
	begins := func(first, n int) (all []byte) {
		for i := range n {
			all = append(all, mustFrame(typeBegin, beginMessage{Job: uint64(first + i), Kernel: "mandelbrot", Spec: spec})...)
		}
		return all
	}
	leases := func(first, n int) (all []byte) {
		for i := range n {
			all = append(all, mustFrame(typeLease, leaseMessage{Lease: uint64(first + i), Job: 1, W: 1, H: 1})...)
		}
		return all
	}
	for name, test := range map[string]struct{ good, bad []byte }{
		"jobs":            {begins(1, 64), begins(65, 1)},
		"leases":          {append(begins(1, 1), leases(1, 4096)...), leases(4097, 1)},
		"a job twice":     {begins(1, 2), begins(2, 1)},
		"a lease twice":   {append(begins(1, 1), leases(1, 2)...), leases(2, 1)},
		"for another job": {append(begins(1, 1), mustFrame(typeLease, leaseMessage{Lease: 1, Job: 2, W: 1 << 30})...), leases(1, 2)[:0]},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, nil, &mandelDevice{id: "d", fault: hang})
			p := connectPeer(t, h, nil)
			ended := p.heard()
			_ = writePieces(p.control, test.good)
			select {
			case <-ended:
				t.Error("the session has ended, and should not")
			case <-time.After(50 * time.Millisecond):
			}
			if len(test.bad) == 0 {
				return
			}
			_ = writePieces(p.control, test.bad)
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("the session goes on")
			}
		})
	}
}
