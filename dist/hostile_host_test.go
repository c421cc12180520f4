package dist

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// scriptedHost is a host that does with each message of the coordinator what a
// test says.
type scriptedHost struct {
	*session
	job *knownJob
}

// startScriptedHost returns a coordinator's end of a session with a host of one
// device, which does with each message what react does.
func startScriptedHost(t *testing.T, job *knownJob, react func(h *scriptedHost, f frame)) *RemoteHost {
	t.Helper()
	here, there := net.Pipe()
	return startScriptedHostOn(t, here, there, job, react)
}

// startScriptedHostOn does so on the two ends of a connection.
func startScriptedHostOn(t *testing.T, here, there net.Conn, job *knownJob, react func(h *scriptedHost, f frame)) *RemoteHost {
	t.Helper()
	h := &scriptedHost{job: job}
	began := make(chan error, 1)
	go func() {
		conn, err := secure(t.Context(), there, nil, "coordinator")
		if err == nil {
			h.session, err = newSession(t.Context(), conn, true, helloMessage{Devices: []DeviceInfo{{ID: "d", Slots: 1}}})
		}
		began <- err
	}()
	r, err := Accept(t.Context(), here, "test", nil)
	if err := errors.Join(err, <-began); err != nil {
		t.Fatal(err)
	}
	reacting := make(chan struct{})
	go func() {
		defer close(reacting)
		for {
			f, err := readFrame(h.control)
			if err != nil {
				return
			}
			react(h, f)
		}
	}()
	t.Cleanup(func() {
		r.Close()
		h.close(errors.New("the test has ended"))
		<-reacting
	})
	return r
}

// say writes to a stream; whether it got there, the test sees elsewhere.
func (h *scriptedHost) say(stream net.Conn, b []byte) { _ = writePieces(stream, b) }

// begin answers a begin, and reports whether f is one.
func (h *scriptedHost) begin(f frame) bool {
	var m beginMessage
	if f.typ != typeBegin || f.decode(&m) != nil {
		return false
	}
	h.say(h.control, mustFrame(typeBegan, beganMessage{Job: m.Job}))
	return true
}

// result returns the frame of the result of m.
func (h *scriptedHost) result(m leaseMessage) []byte {
	return mustFrame(typeResult, resultMessage{Lease: m.Lease}, h.job.result(kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H})...)
}

// wrongAnswer is what a host says to a lease.
type wrongAnswer struct {
	say     func(m leaseMessage) []byte
	on      string // the stream
	breaks  bool   // the protocol
	instead bool   // of an answer
}

// wrongAnswers are to a lease for the whole of job.
func wrongAnswers(job *knownJob) map[string]wrongAnswer {
	size := kernels.ResultBytes(job, job.Bounds())
	bare := func(lease uint64, n int) []byte {
		return mustFrame(typeResult, resultMessage{Lease: lease}, make([]byte, n)...)
	}
	claiming := func(lease uint64, n int64) []byte {
		b, _ := appendFrame(nil, typeResult, resultMessage{Lease: lease}, n)
		return b
	}
	return map[string]wrongAnswer{
		"nothing wrong":           {func(leaseMessage) []byte { return nil }, "bulk", false, false},
		"a byte short":            {func(m leaseMessage) []byte { return bare(m.Lease, size-1) }, "bulk", true, true},
		"a byte long":             {func(m leaseMessage) []byte { return bare(m.Lease, size+1) }, "bulk", true, true},
		"empty":                   {func(m leaseMessage) []byte { return bare(m.Lease, 0) }, "control", true, true},
		"2 GiB":                   {func(m leaseMessage) []byte { return claiming(m.Lease, 2<<30) }, "bulk", true, true},
		"more than 2 GiB":         {func(m leaseMessage) []byte { return claiming(m.Lease, 2<<30+1) }, "bulk", true, true},
		"of another lease":        {func(m leaseMessage) []byte { return bare(m.Lease+1, 100_000) }, "bulk", false, false},
		"of another, on control":  {func(m leaseMessage) []byte { return bare(m.Lease+1, 100_000) }, "control", false, false},
		"of another, never whole": {func(m leaseMessage) []byte { return claiming(m.Lease+1, 2<<30) }, "bulk", false, true},
		"failed, of another": {func(m leaseMessage) []byte {
			return mustFrame(typeFailed, failedMessage{Lease: m.Lease + 1, Error: "no"})
		}, "control", false, false},
		"began, of none": {func(leaseMessage) []byte { return mustFrame(typeBegan, beganMessage{Job: 99}) }, "control", false, false},
		"a lease":        {func(m leaseMessage) []byte { return mustFrame(typeLease, m) }, "control", true, true},
		"a hello":        {func(leaseMessage) []byte { return mustFrame(typeHello, helloMessage{}) }, "control", true, true},
		"no frame":       {func(leaseMessage) []byte { return bytes.Repeat([]byte{0x77}, 64) }, "bulk", true, true},
	}
}

// TestHostThatAnswersWrongly has a coordinator with a tile out hear what is no
// answer to it, or no good one. What breaks the protocol ends the session, and
// the tile is lost at once, and without memory for what was claimed; anything
// else is ignored.
func TestHostThatAnswersWrongly(t *testing.T) {
	job := &knownJobs()[1]
	for name, test := range wrongAnswers(job) {
		t.Run(name, func(t *testing.T) {
			r := startScriptedHost(t, job, func(h *scriptedHost, f frame) {
				var m leaseMessage
				if h.begin(f) || f.typ != typeLease || f.decode(&m) != nil {
					return
				}
				stream := h.control
				if test.on == "bulk" {
					stream = h.bulk
				}
				h.say(stream, test.say(m))
				if !test.instead {
					whole := h.result(m)
					h.say(h.bulk, append(whole, whole...)) // the second time for nobody
				}
			})
			runner, err := r.Devices()[0].Begin(t.Context(), job.Mandelbrot)
			if err != nil {
				t.Fatal(err)
			}
			defer runner.Close()
			ctx := t.Context()
			if test.instead && !test.breaks { // else it ends without
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			out := kernels.NewResult(job, job.Bounds())
			if n := allocatedBy(func() { err = runner.Run(ctx, job.Bounds(), out) }); n > 4<<20 {
				t.Errorf("the answer allocated %d bytes", n)
			}
			switch {
			case test.breaks:
				if !errors.Is(err, ErrLost) || !errors.Is(err, errHostGone) || !errors.Is(r.Err(), ErrProtocol) {
					t.Errorf("the tile: %v; the session: %v", err, r.Err())
				}
			case test.instead:
				if !errors.Is(err, context.DeadlineExceeded) || r.Err() != nil {
					t.Errorf("the tile: %v; the session: %v", err, r.Err())
				}
			case err != nil || !bytes.Equal(bytes.Join(out.Planes, nil), job.result(job.Bounds())) || r.Err() != nil:
				t.Errorf("the tile: %v; the session: %v", err, r.Err())
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.leases) > 0 && !test.breaks {
				t.Error("a lease is out for which nobody waits")
			}
		})
	}
}

// TestHostThatFails checks that a coordinator tells a tile that failed from one
// that was lost.
func TestHostThatFails(t *testing.T) {
	for _, lost := range []bool{false, true} {
		r := startScriptedHost(t, &knownJobs()[0], func(h *scriptedHost, f frame) {
			var m leaseMessage
			if !h.begin(f) && f.typ == typeLease && f.decode(&m) == nil {
				h.say(h.control, mustFrame(typeFailed, failedMessage{Lease: m.Lease, Lost: lost, Error: "out of luck"}))
			}
		})
		job := knownJobs()[0].Mandelbrot
		runner, err := r.Devices()[0].Begin(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		err = runner.Run(t.Context(), job.Bounds(), kernels.NewResult(job, job.Bounds()))
		if err == nil || errors.Is(err, ErrLost) != lost || errors.Is(err, errHostGone) || !strings.Contains(err.Error(), "out of luck") {
			t.Errorf("lost: %v; the error is %v", lost, err)
		}
	}
}
