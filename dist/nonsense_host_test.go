package dist

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// badHost is a host that answers what its script says. What it computes it
// computes right: a wrong result of the right size is no business of these
// tests.
type badHost struct {
	t    testing.TB
	job  *knownJob
	conn net.Conn
	*session
	script

	heard   chan frame
	begun   []uint64       // jobs
	held    []leaseMessage // leases without an answer
	broken  chan struct{}  // closed when it has broken the protocol, and the coordinator must notice
	vague   bool           // the coordinator may have noticed
	drained bool
	left    bool
}

// odd are numbers that nobody expects.
var odd = []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 40}

func newBadHost(t testing.TB, conn net.Conn, job *knownJob, s script) (*badHost, error) {
	secured, err := secure(t.Context(), conn, nil, "coordinator")
	if err != nil {
		return nil, err
	}
	h := &badHost{t: t, job: job, conn: conn, script: s, heard: make(chan frame), broken: make(chan struct{})}
	hello := helloMessage{Name: "bad"}
	for range 1 + h.next()%2 { // three could fail a tile for good
		hello.Devices = append(hello.Devices, DeviceInfo{ID: "same", Slots: int(odd[h.next()%len(odd)])})
	}
	h.session, err = newSession(t.Context(), secured, true, hello)
	return h, err
}

// listen hands on what the coordinator says, until the session has ended.
func (h *badHost) listen() {
	defer close(h.heard)
	r := bufio.NewReader(h.control)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		select {
		case h.heard <- f:
		case <-h.ctx.Done():
		}
	}
}

// run does what the script says, until it or the session has ended. Then the
// host leaves, or keeps to the protocol from now on.
func (h *badHost) run() {
	go h.listen()
	loyal := h.next()%2 == 1
	for {
		if len(h.script) == 0 && !loyal || h.left {
			h.left = true
			h.conn.Close()
			break
		}
		if h.hasBroken() {
			for range h.heard { // until the coordinator ends it
			}
			return
		}
		select {
		case f, ok := <-h.heard:
			if !ok {
				return
			}
			h.hear(f)
		case <-time.After(time.Millisecond):
			if len(h.script) == 0 {
				h.catchUp()
			} else {
				h.idle()
			}
		}
	}
	for range h.heard {
	}
}

// catchUp answers all that it has not.
func (h *badHost) catchUp() {
	for _, m := range h.held {
		h.result(m, true)
	}
	h.held = nil
}

func (h *badHost) say(stream net.Conn, b []byte) { _ = writePieces(stream, b) }

func (h *badHost) hear(f frame) {
	m := messageOf(f.typ)
	if err := f.decode(m); err != nil {
		h.t.Errorf("from the coordinator: %v", err)
	}
	switch m := m.(type) {
	case *beginMessage:
		h.begun = append(h.begun, m.Job)
		h.begin(m)
	case *leaseMessage:
		if t := (kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H}); t.Empty() || !h.job.Bounds().Contains(t) {
			h.t.Errorf("a lease for %v of %v", t, h.job.Bounds())
			return
		}
		h.lease(*m)
	case *cancelMessage:
		for i, l := range h.held {
			if l.Lease == m.Lease && h.next()%2 == 0 {
				h.held = append(h.held[:i], h.held[i+1:]...)
				h.result(l, h.next()%2 == 0) // too late
				return
			}
		}
	case *helloMessage, *beganMessage, *resultMessage, *failedMessage:
		h.t.Errorf("message %d from a coordinator", f.typ)
	}
}

func (h *badHost) begin(m *beginMessage) {
	yes := mustFrame(typeBegan, beganMessage{Job: m.Job})
	switch h.next() % 16 {
	case 1:
		h.say(h.control, mustFrame(typeBegan, beganMessage{Job: m.Job, Error: "no\x1b[2J"}))
	case 2:
		h.say(h.control, append(yes, yes...))
	case 3:
		h.say(h.control, append(mustFrame(typeBegan, beganMessage{Job: m.Job + 1}), yes...))
	case 4: // never
	case 5:
		h.say(h.bulk, yes)
	default:
		h.say(h.control, yes)
	}
}

func (h *badHost) lease(m leaseMessage) {
	failed := func(lost bool) {
		h.say(h.control, mustFrame(typeFailed, failedMessage{Lease: m.Lease, Lost: lost, Error: "no"}))
	}
	switch h.next() % 24 {
	case 1:
		h.result(m, true)
		h.result(m, h.next()%2 == 0) // again, perhaps on the other stream
	case 2:
		other := m
		other.Lease = uint64(odd[h.next()%len(odd)]) &^ (1 << 63)
		h.result(other, true)
		h.result(m, true)
	case 3, 4:
		h.held = append(h.held, m)
	case 5:
		failed(true)
	case 6:
		failed(false)
	case 7:
		failed(h.next()%2 == 0)
		h.result(m, true)
	case 8:
		h.drained = true
		h.say(h.control, mustFrame(typeDrain, struct{}{}))
		h.result(m, true)
	case 9:
		h.result(m, false) // on the stream that is not for it
	case 10:
		if h.next() > 128 {
			h.breakOff(m)
			return
		}
		fallthrough
	default:
		h.result(m, true)
	}
}

// result answers m, on the stream that the result belongs on or on the other.
func (h *badHost) result(m leaseMessage, right bool) {
	bulk := h.job.result(kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H})
	stream := h.control
	if (len(bulk) > 4096) == right {
		stream = h.bulk
	}
	h.say(stream, mustFrame(typeResult, resultMessage{
		Lease: m.Lease, Busy: odd[h.next()%len(odd)], Waited: odd[h.next()%len(odd)], BytesIn: odd[h.next()%len(odd)],
		Read: odd[h.next()%len(odd)],
	}, bulk...))
}

// breakOff does what no host may, instead of answering m.
func (h *badHost) breakOff(m leaseMessage) {
	bulk := h.job.result(kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H})
	whole := mustFrame(typeResult, resultMessage{Lease: m.Lease}, bulk...)
	how := h.next() % 10
	switch how {
	case 0:
		h.say(h.bulk, mustFrame(typeResult, resultMessage{Lease: m.Lease}, bulk[1:]...))
	case 1:
		h.say(h.bulk, mustFrame(typeResult, resultMessage{Lease: m.Lease}, append(bulk, 0)...))
	case 2:
		h.say(h.control, mustFrame(typeResult, resultMessage{Lease: m.Lease}))
	case 3:
		h.say(h.bulk, whole[:len(whole)-1-h.next()%16])
	case 4:
		whole[frameHeader] = 0xff // no CBOR
		h.say(h.bulk, whole)
	case 5:
		whole[15] = 1 // 2^56 bytes
		h.say(h.bulk, whole)
	case 6:
		h.say(h.bulk, bytes.Repeat([]byte{0xff}, 100))
	case 7:
		h.say(h.control, mustFrame([]messageType{typeHello, typeBegin, typeEnd, typeLease, typeCancel, typePanel}[h.next()%6], struct{}{}))
	case 8:
		h.say(h.control, mustFrame([]messageType{typeFailed, typePing}[h.next()%2], map[int]string{1: "no"}))
	case 9: // of operands that nobody has
		h.say(h.control, mustFrame(typeFetch, fetchMessage{Fetch: 1, Operands: 1 << 50, W: 1, H: 1}))
	}
	switch {
	case how < 3:
		h.vague = true // where nobody waits for the result, its size is anybody's
	case how == 3:
		h.left = true // in the middle of a result
	default:
		close(h.broken)
	}
}

func (h *badHost) hasBroken() bool {
	select {
	case <-h.broken:
		return true
	default:
		return false
	}
}

// idle says what nobody has asked for, when nothing is heard.
func (h *badHost) idle() {
	switch unknown := uint64(odd[h.next()%len(odd)])&^(1<<63) | 1<<50; h.next() % 7 {
	case 0:
		h.say(h.bulk, mustFrame(typeResult, resultMessage{Lease: unknown}, make([]byte, 300*h.next())...))
	case 1:
		h.say(h.control, mustFrame(typeFailed, failedMessage{Lease: unknown}))
	case 2:
		h.say(h.control, mustFrame(typeBegan, beganMessage{Job: unknown}))
	case 3:
		h.say(h.control, mustFrame(typePing, pingMessage{Time: odd[h.next()%len(odd)]}))
	case 4: // of a job that has no operands
		if len(h.begun) > 0 {
			h.say(h.control, mustFrame(typeFetch, fetchMessage{Fetch: unknown, Operands: h.begun[0], W: 1, H: 1}))
		}
	default:
		if n := len(h.held); n > 0 {
			h.result(h.held[n-1], true)
			h.held = h.held[:n-1]
		}
	}
}

// nonsenseToCoordinator has a host answer what the script says, beside a device
// that is good.
func nonsenseToCoordinator(t testing.TB, s script) {
	before := runtime.NumGoroutine()
	defer settle(t, before)
	job := &knownJobs()[1+2*(s.next()%2)]
	opts := Options{Tiles: 12 * (s.next() % 2)}
	here, there := net.Pipe()
	type begun struct {
		h   *badHost
		err error
	}
	began := make(chan begun, 1)
	go func() {
		h, err := newBadHost(t, there, job, s)
		began <- begun{h, err}
	}()
	r, err := Accept(t.Context(), here, "test", nil)
	b := <-began
	if err != nil || b.err != nil {
		t.Fatal(err, b.err)
	}
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		b.h.run()
	}()

	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	sink := newImageSink(job.Mandelbrot)
	devices := append(r.Devices(), &mandelDevice{id: "good", pause: 200 * time.Microsecond})
	if _, err := Run(ctx, job.Mandelbrot, devices, sink, opts); err != nil {
		t.Errorf("beside a good device: %v", brief(err))
	}
	for i, plane := range sink.planes {
		if !bytes.Equal(plane, job.planes[i]) {
			t.Error("the result differs")
		}
	}
	noticed := b.h.hasBroken() && within(t, 8*time.Second, "the coordinator notices that the protocol is broken", func() bool {
		return r.Err() != nil
	})
	err = r.Err()
	r.Close()
	<-acted
	b.h.close(errors.New("the script has ended"))
	switch {
	case b.h.drained, b.h.left:
	case noticed && !errors.Is(err, ErrProtocol), err != nil && !b.h.hasBroken() && !b.h.vague:
		t.Errorf("the protocol is broken: %v; the session ended with %v", noticed, brief(err))
	}
}

func TestNonsenseToCoordinator(t *testing.T) {
	randomScripts(t, 100, func(t *testing.T, s script) { nonsenseToCoordinator(t, s) })
}

// FuzzRemoteHost has a coordinator hear what its script makes of a host.
func FuzzRemoteHost(f *testing.F) {
	for how := range byte(24) {
		f.Add([]byte{1, 1, 0, 1, 1, 0, how, 0, 0, 0, how, 1, 1, 1, 0, 0, 0})
		f.Add([]byte{0, 0, 1, 2, 3, 0, 0, 0, how, 0, how, how, 0, 0, 0})
	}
	for how := range byte(16) {
		f.Add([]byte{1, 0, 0, 1, 1, how, 0, 0, 0, 0, 0, 0})
		f.Add([]byte{1, 1, 0, 1, 1, 0, 10, 255, how, 5, 0, 0})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2000 {
			nonsenseToCoordinator(t, data)
		}
	})
}
