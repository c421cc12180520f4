//go:build linux

package lab

import (
	"bytes"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
)

// Relay passes connections on to another address, and keeps all that goes
// through. Both ends speak TCP with the relay, not with each other, so TCP's own
// checksums are right for what Corrupt has made wrong.
type Relay struct {
	Addr string // at which it listens

	listener net.Listener
	target   string
	host     *Host
	serving  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  []net.Conn
	passed []*bytes.Buffer // by connection and direction
	rate   float64         // the part of the bytes that come out wrong
	random *rand.Rand      // which ones
	gap    int             // how many stay right until the next
	wrong  int             // how many have
}

// Relay has h listen at ip, an address of its own, and pass connections on to
// target until t ends.
func (h *Host) Relay(t testing.TB, ip, target string) *Relay {
	t.Helper()
	r := &Relay{target: target, host: h}
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

// Corrupt has r flip a bit in this part of the bytes that pass from now on, from 0,
// which is none, to 1, on all connections and both ways. Which ones follows from the
// seed and the order in which what is sent passes.
func (r *Relay) Corrupt(rate float64, seed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate, r.random = rate, rand.New(rand.NewPCG(seed, 0))
	if rate > 0 {
		r.gap = r.drawGap()
	}
}

// Corrupted returns how many bytes came out wrong so far.
func (r *Relay) Corrupted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}

// corrupt flips bits in data. r.mu is held.
func (r *Relay) corrupt(data []byte) {
	if r.rate <= 0 {
		return
	}
	// The gaps between bytes that are wrong are drawn, not each byte.
	i := r.gap
	for ; i < len(data); i += 1 + r.drawGap() {
		data[i] ^= 1 << r.random.IntN(8)
		r.wrong++
	}
	r.gap = i - len(data)
}

// drawGap returns how many bytes stay right until the next that does not: at a rate of
// 1 none, and otherwise as in independent trials.
func (r *Relay) drawGap() int {
	if r.rate >= 1 {
		return 0
	}
	return int(min(math.Log(1-r.random.Float64())/math.Log1p(-r.rate), math.MaxInt32))
}

// Passed returns what went through so far, as it came out: for each connection first what the
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

// carry carries bytes from one connection to another, until either is closed.
func (r *Relay) carry(to, from net.Conn, passed *bytes.Buffer) {
	defer to.Close()
	data := make([]byte, 16<<10)
	for {
		n, err := from.Read(data)
		r.mu.Lock()
		r.corrupt(data[:n])
		passed.Write(data[:n])
		r.mu.Unlock()
		if err == nil {
			_, err = to.Write(data[:n])
		}
		if err != nil {
			from.Close()
			return
		}
	}
}
