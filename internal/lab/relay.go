//go:build linux

package lab

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Line is how a relay's lines are. The zero value adds nothing.
//
// It shapes streams, not packets: both ends speak TCP with the relay, so that
// acknowledgements, and with them TCP's own windows, know nothing of the delay,
// and nothing is lost. What it shows is how a program fares whose answers take
// long and come slowly.
type Line struct {
	Delay  time.Duration // each way
	Jitter time.Duration // besides Delay, at most; nothing overtakes
	Rate   int           // bytes a second each way; 0 is no limit
}

// Relay passes connections on to another address, and keeps all that goes
// through.
type Relay struct {
	Addr string // at which it listens

	listener net.Listener
	target   string
	host     *Host
	line     Line
	serving  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  []net.Conn
	passed []*bytes.Buffer // by connection and direction
}

// Relay has h listen at ip, an address of its own, and pass connections on to
// target until t ends.
func (h *Host) Relay(t testing.TB, ip, target string, line Line) *Relay {
	t.Helper()
	r := &Relay{target: target, host: h, line: line}
	err := h.Do(func() (err error) {
		r.listener, err = net.Listen("tcp", net.JoinHostPort(ip, "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Addr = r.listener.Addr().String()
	r.serving.Go(r.accept)
	t.Cleanup(func() {
		r.mu.Lock()
		r.closed = true
		r.listener.Close()
		for _, c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.serving.Wait()
	})
	return r
}

// Passed returns what went through so far: for each connection first what the
// side that dialled sent, and then what the other did.
func (r *Relay) Passed() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([][]byte, len(r.passed))
	for i, p := range r.passed {
		all[i] = slices.Clone(p.Bytes())
	}
	return all
}

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		var far net.Conn
		if err := r.host.Do(func() (err error) {
			far, err = net.Dial("tcp", r.target)
			return err
		}); err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		if r.closed {
			near.Close()
			far.Close()
		}
		out, back := new(bytes.Buffer), new(bytes.Buffer)
		r.conns = append(r.conns, near, far)
		r.passed = append(r.passed, out, back)
		r.mu.Unlock()
		r.serving.Go(func() { r.carry(far, near, out) })
		r.serving.Go(func() { r.carry(near, far, back) })
	}
}

// chunk is what was read at once, and when it may be written.
type chunk struct {
	data []byte
	due  time.Time
}

// carry carries bytes from one connection to another, until either is closed.
func (r *Relay) carry(to, from net.Conn, passed *bytes.Buffer) {
	// What is under way: without room for it the delay would limit the rate.
	line := make(chan chunk, 1024)
	var writing sync.WaitGroup
	writing.Go(func() {
		defer to.Close()
		for c := range line {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.data); err != nil {
				from.Close()
				break
			}
		}
		for range line { // the reader must not hang
		}
	})
	defer writing.Wait()
	defer close(line)
	var free, last time.Time // when the line has room again, and the last byte is due
	for {
		data := make([]byte, 16<<10)
		n, err := from.Read(data)
		if err != nil && err != io.EOF || n == 0 {
			return
		}
		r.mu.Lock()
		passed.Write(data[:n])
		r.mu.Unlock()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if r.line.Rate > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(r.line.Rate))
		}
		due := free.Add(r.line.Delay)
		if r.line.Jitter > 0 {
			due = due.Add(rand.N(r.line.Jitter))
		}
		if due.Before(last) {
			due = last
		}
		last = due
		line <- chunk{data[:n], due}
	}
}
