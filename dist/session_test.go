package dist

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// slowStream is a stream that takes so many bytes a second.
type slowStream struct {
	net.Conn
	rate int
}

func (s slowStream) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		m := 0
		m, err = s.Conn.Write(p[n:min(len(p), n+s.rate/20)])
		time.Sleep(time.Duration(m) * time.Second / time.Duration(s.rate))
		n += m
	}
	return n, err
}

// sessionsOnPipes returns the two ends of a session of which the streams are pipes,
// for a synctest bubble: yamux keeps timers, which must not get out of one. What
// the first sends on control goes at rate bytes a second.
func sessionsOnPipes(t *testing.T, rate int) (ends [2]*session) {
	t.Helper()
	var control, bulk [2]net.Conn
	control[0], control[1] = net.Pipe()
	bulk[0], bulk[1] = net.Pipe()
	ends[0] = sessionOn(t, slowStream{control[0], rate}, bulk[0])
	ends[1] = sessionOn(t, control[1], bulk[1])
	for i, s := range ends {
		context.AfterFunc(s.ctx, func() { control[i].Close(); bulk[i].Close() }) // as yamux does
	}
	return ends
}

// hostOn has a host of d serve the coordinator at the other end of s.
func hostOn(t *testing.T, s *session, d Device) {
	t.Helper()
	h := NewHost("host", []Device{d}, make([]DeviceInfo, 1), nil)
	c := &hosting{
		host: h, log: h.log, session: s,
		jobs: map[uint64]*hostedJob{}, leases: map[uint64]*hostedLease{},
	}
	served := make(chan error, 1)
	go func() { served <- c.run(context.Background()) }()
	t.Cleanup(func() {
		s.end(errGoodbye)
		if err := <-served; err != nil && !errors.Is(err, errPeerLeft) {
			t.Errorf("the host: %v", err)
		}
	})
}

// TestLongBegin begins a job of which the begin takes far longer to send than a
// peer may be silent.
func TestLongBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := sessionsOnPipes(t, 100_000)
		hostOn(t, ends[1], &mandelDevice{id: "d"})
		r := &RemoteHost{session: ends[0], begins: map[uint64]chan beganMessage{}, leases: map[uint64]wanted{}}
		r.loops.Go(func() { r.read(r.control, maxMessage, r.handle) })
		start := time.Now()
		runner, err := (&remoteDevice{host: r}).Begin(t.Context(), wideJob(1<<19, 1))
		if err != nil {
			t.Fatalf("after %v: %v; the host: %v", time.Since(start), err, context.Cause(ends[1].ctx))
		}
		if took := time.Since(start); took < 3*silence {
			t.Errorf("it took only %v", took)
		}
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestBeginTooLong has a job that no begin has room for: the device refuses it,
// and the session goes on. The longest that there is room for is within bounds.
func TestBeginTooLong(t *testing.T) {
	r := startScriptedHost(t, &knownJobs()[0], func(h *scriptedHost, f frame) { h.begin(f) })
	_, err := r.Devices()[0].Begin(t.Context(), wideJob(maxBegin/8, 1))
	if err == nil || errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "in parts") {
		t.Errorf("the error is %v", err)
	}
	if _, err := r.Devices()[0].Begin(t.Context(), wideJob(1, 1)); err != nil || r.Err() != nil {
		t.Errorf("the next job: %v; the session: %v", err, r.Err())
	}
	longest := beginMessage{Job: 1 << 63, Device: maxDevices, Kernel: wideJob(1, 1).Kernel(), Spec: make([]byte, maxSpec)}
	if n := len(mustFrame(typeBegin, longest)) - frameHeader; n > maxBegin {
		t.Errorf("the longest begin has %d bytes", n)
	}
}

// TestResultAheadOfItsLease has a host answer a lease that is not out, and hold
// back the last byte until it is: what has come is not its answer.
func TestResultAheadOfItsLease(t *testing.T) {
	job := &knownJobs()[1]
	begun := make(chan struct{})
	first := uint64(0)
	r := startScriptedHost(t, job, func(h *scriptedHost, f frame) {
		var m leaseMessage
		switch {
		case h.begin(f) || f.typ != typeLease || f.decode(&m) != nil:
		case first == 0:
			first = m.Lease
			// More than a window: so the coordinator is reading it when it is written.
			h.say(h.bulk, mustFrame(typeResult, resultMessage{Lease: first + 1}, make([]byte, 4*leastWindow)...)[:3*leastWindow])
			close(begun)
		default:
			h.say(h.bulk, make([]byte, frameHeader+len(resultMessage{Lease: first + 1}.appendTo(nil))+leastWindow))
			h.say(h.bulk, h.result(m))
		}
	})
	runner, err := r.Devices()[0].Begin(t.Context(), job.Mandelbrot)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	waiting.Go(func() { _ = runner.Run(ctx, job.Bounds(), kernels.NewResult(job, job.Bounds())) })
	<-begun
	b, err := runner.(lender).lend(t.Context(), job.Bounds(), nil, nil)
	if b == nil || err != nil {
		t.Fatalf("the lease was answered with %v, %v", b, err)
	}
	runner.(lender).takeBack(b)
}
