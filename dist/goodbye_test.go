package dist

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// stuckConn is a connection of which a write takes until the test says so.
type stuckConn struct {
	net.Conn
	stuck  atomic.Bool   // from the next write on
	writes chan struct{} // a token from each that is
	goOn   chan struct{} // closed when they may be written
}

func (c *stuckConn) Write(p []byte) (int, error) {
	if c.stuck.Load() {
		select {
		case c.writes <- struct{}{}:
		default:
		}
		<-c.goOn
	}
	return c.Conn.Write(p)
}

// served is a host that serves one coordinator, at the other end of conn.
type served struct {
	conn net.Conn
	err  chan error
	log  lockedLog
}

func serveOne(t *testing.T, trust *Trust, there net.Conn) *served {
	t.Helper()
	s := &served{conn: there, err: make(chan error, 1)}
	h := NewHost("host", []Device{&mandelDevice{id: "d"}}, make([]DeviceInfo, 1), slog.New(slog.NewTextHandler(&s.log, nil)))
	go func() { s.err <- h.ServeConn(t.Context(), there, trust, "localhost") }()
	return s
}

// ended returns how the session of s has ended, and what the log says of it.
func (s *served) ended(t *testing.T) (log string, err error) {
	t.Helper()
	select {
	case err = <-s.err:
		return s.log.String(), err
	case <-time.After(time.Minute):
		t.Fatal("the host serves for ever")
		return "", nil
	}
}

// TestGoodbye has a coordinator leave while a message of its own is on its way, and while
// many of both sides are: the host always sees that it has left in peace.
func TestGoodbye(t *testing.T) {
	key, err := TrustKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, trust := range map[string]*Trust{"plain": nil, "key": key} {
		t.Run(name+" stuck", func(t *testing.T) {
			here, there := loopback(t)
			conn := &stuckConn{Conn: here, writes: make(chan struct{}, 1), goOn: make(chan struct{})}
			s := serveOne(t, trust, there)
			r, err := Accept(t.Context(), conn, "test", trust)
			if err != nil {
				t.Fatal(err)
			}
			conn.stuck.Store(true)
			r.send(outgoing{typ: typePing})
			<-conn.writes
			closed := make(chan struct{})
			go func() { defer close(closed); r.Close() }()
			<-r.Done() // it has begun to
			time.Sleep(10 * time.Millisecond)
			close(conn.goOn)
			if log, err := s.ended(t); err != nil || !strings.Contains(log, "coordinator left") {
				t.Errorf("it ended with %v: %s", err, log)
			}
			<-closed
		})
		t.Run(name+" busy", func(t *testing.T) {
			for range 20 {
				here, there := loopback(t)
				s := serveOne(t, trust, there)
				r, err := Accept(t.Context(), here, "test", trust)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				sink := &enoughSink{then: cancel}
				sink.left.Store(40)
				running.Go(func() { _, _ = Run(ctx, remoteJob(), r.Devices(), sink, Options{Tiles: 600}) })
				<-ctx.Done()
				r.Close()
				running.Wait()
				if log, err := s.ended(t); err != nil {
					t.Fatalf("it ended with %v: %s", err, log)
				}
			}
		})
	}
}

// TestNoGoodbye has a coordinator killed: its system closes the connection, or resets it.
func TestNoGoodbye(t *testing.T) {
	key, err := TrustKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, trust := range map[string]*Trust{"plain": nil, "key": key} {
		for _, linger := range []int{-1, 0} {
			here, there := loopback(t)
			s := serveOne(t, trust, there)
			r, err := Accept(t.Context(), here, "test", trust)
			if err != nil {
				t.Fatal(err)
			}
			if err := here.(*net.TCPConn).SetLinger(linger); err != nil {
				t.Fatal(err)
			}
			here.Close()
			log, err := s.ended(t)
			if begun := strings.Contains(log, "coordinator connected"); err == nil || strings.Contains(log, "coordinator lost") != begun {
				t.Errorf("%s, linger %d: it ended with %v: %s", name, linger, err, log)
			}
			r.Close()
		}
	}
}

// deafConn is a connection from which nothing more is read when the test says so.
type deafConn struct {
	net.Conn
	deaf   atomic.Bool
	closed chan struct{}
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.deaf.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *deafConn) Close() error {
	close(c.closed)
	return c.Conn.Close()
}

// TestGoodbyeToTheDeaf has a coordinator leave a host that does not hang up.
func TestGoodbyeToTheDeaf(t *testing.T) {
	here, there := loopback(t)
	conn := &deafConn{Conn: there, closed: make(chan struct{})}
	r := startScriptedHostOn(t, here, conn, &knownJobs()[0], func(h *scriptedHost, f frame) { h.begin(f) })
	conn.deaf.Store(true)
	r.Close()
	if r.Err() == nil {
		t.Error("the session goes on")
	}
}

// enoughSink calls then when it has been given enough results.
type enoughSink struct {
	left atomic.Int32
	then func()
}

func (s *enoughSink) Put(kernels.Tile, *kernels.Result) error {
	if s.left.Add(-1) == 0 {
		s.then()
	}
	return nil
}
