package dist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"
)

// keptStream is a stream that keeps what is written to it.
type keptStream struct {
	net.Conn // nil: nothing else is called
	t        *testing.T
	gate     chan struct{}        // if not nil, a write takes a token
	pause    func() time.Duration // if not nil, how long a write takes
	err      error                // what writes return
	writing  atomic.Bool
	mu       sync.Mutex
	data     bytes.Buffer
	longest  int
}

func (s *keptStream) Write(p []byte) (int, error) {
	if !s.writing.CompareAndSwap(false, true) {
		s.t.Error("two write at the same time")
	}
	defer s.writing.Store(false)
	runtime.Gosched()
	if s.gate != nil {
		<-s.gate
	}
	if s.pause != nil {
		time.Sleep(s.pause())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.longest = max(s.longest, len(p))
	return s.data.Write(p)
}

// said is a frame as it was written.
type said struct {
	typ  messageType
	id   uint64
	bulk []byte
}

// size returns how many bytes have been written since it was last reset.
func (s *keptStream) size(reset bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.data.Len()
	if reset {
		s.data.Reset()
	}
	return n
}

// frames returns what has been written, but for pings.
func (s *keptStream) frames() (all []said) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := bytes.NewReader(s.data.Bytes()); r.Len() > 0; {
		f, err := readFrame(r)
		if err != nil {
			s.t.Fatalf("what was written cannot be read: %v", err)
		}
		bulk := make([]byte, f.bulk)
		if _, err := io.ReadFull(r, bulk); err != nil {
			s.t.Fatal(err)
		}
		var m cancelMessage // the first number of any message
		if f.typ == typePing {
			continue
		} else if err := f.decode(&m); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, said{f.typ, m.Lease, bulk})
	}
	return all
}

// sessionOn returns a session that writes to the streams and does not read. Its
// mux has nothing to do with them, and only shows whether it has been closed.
func sessionOn(t *testing.T, control, bulk net.Conn) *session {
	t.Helper()
	here, there := net.Pipe()
	mux, err := yamux.Client(here, muxConfig(leastWindow))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{began: time.Now(), mux: mux, control: control, bulk: bulk, outControl: newOutbox(control), outBulk: newOutbox(bulk)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.compression.note(1, 1, time.Hour) // not worth it: the tests look at what is written
	s.loops.Go(func() { s.write(s.outControl) })
	s.loops.Go(func() { s.write(s.outBulk) })
	s.loops.Go(s.beat)
	t.Cleanup(func() {
		s.close(errors.New("the test has ended"))
		there.Close()
	})
	return s
}

func cancelling(id uint64) outgoing {
	return outgoing{typ: typeCancel, message: cancelMessage{Lease: id}}
}

func leasing(id uint64) outgoing { return outgoing{typ: typeLease, message: leaseMessage{Lease: id}} }

// planesFor returns planes of n bytes together, which follow from id.
func planesFor(id uint64, n int) [][]byte {
	rng := rand.New(rand.NewPCG(id, uint64(n)))
	all := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(all[i:], rng.Uint64())
	}
	cut := rng.IntN(n + 1)
	return [][]byte{all[:cut:cut], all[cut:]}
}

// sender sends messages of all kinds, in an order that is its own.
type sender struct {
	t       *testing.T
	rng     *rand.Rand
	id      uint64
	sent    map[bool][]said // by whether they go on bulk
	written atomic.Int32
	results int32
}

func (g *sender) send(s *session) {
	g.id++
	id := g.id
	switch g.rng.IntN(4) {
	case 0:
		g.note(false, said{typeLease, id, []byte{}}, s.send(leasing(id)))
	case 1:
		g.note(false, said{typeCancel, id, []byte{}}, s.send(cancelling(id)))
	case 2:
		o := outgoing{typ: typeFailed, message: failedMessage{Lease: id, Error: strings.Repeat("x", g.rng.IntN(3000))}}
		g.note(false, said{typeFailed, id, []byte{}}, s.send(o))
	case 3:
		n := []int{0, 1, 4096, 4097, 30_000, 300_000}[g.rng.IntN(6)]
		planes, once := planesFor(id, n), atomic.Bool{}
		want := said{typeResult, id, bytes.Join(planes, nil)}
		g.results++
		g.note(n > 4096, want, s.send(outgoing{typ: typeResult, message: resultMessage{Lease: id}, planes: planes, free: func() {
			if once.Swap(true) {
				g.t.Errorf("written was called twice")
			}
			g.written.Add(1)
			for _, p := range planes { // whoever has not yet taken them gets nothing
				clear(p)
			}
		}}))
	}
	if g.rng.IntN(3) == 0 {
		time.Sleep(time.Duration(g.rng.IntN(1000)) * time.Microsecond)
	}
}

func (g *sender) note(bulk bool, m said, ok bool) {
	if !ok {
		g.t.Error("a message was not sent")
	}
	g.sent[bulk] = append(g.sent[bulk], m)
}

// TestOutboxKeepsOrder has several goroutines send at once. Each stream has
// each one's messages in its order, every message once and as it was, though
// planes change as soon as they are said to have been written.
func TestOutboxKeepsOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, round))
			streams := map[bool]*keptStream{false: {t: t}, true: {t: t}}
			for which, stream := range streams {
				slow := rand.New(rand.NewPCG(seed+1, round))
				if rng.IntN(2) == 0 || which {
					stream.pause = func() time.Duration { return time.Duration(slow.IntN(2000)) * time.Microsecond }
				}
			}
			s := sessionOn(t, streams[false], streams[true])
			senders := make([]*sender, 1+rng.IntN(5))
			var all sync.WaitGroup
			for i := range senders {
				g := &sender{t: t, rng: rand.New(rand.NewPCG(seed+2, round<<8|uint64(i))), id: uint64(i) << 32, sent: map[bool][]said{}}
				senders[i] = g
				all.Go(func() {
					for range 20 {
						g.send(s)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Second)
			checkSenders(t, senders, streams)
		})
	}
}

func checkSenders(t *testing.T, senders []*sender, streams map[bool]*keptStream) {
	t.Helper()
	for bulk, stream := range streams {
		frames, sum := stream.frames(), 0
		for i, g := range senders {
			own := slices.DeleteFunc(slices.Clone(frames), func(m said) bool { return m.id>>32 != uint64(i) })
			if !slices.EqualFunc(own, g.sent[bulk], func(a, b said) bool { return a.typ == b.typ && a.id == b.id && bytes.Equal(a.bulk, b.bulk) }) {
				t.Errorf("on bulk %v: %d messages of sender %d came, of %d, or another order, or others", bulk, len(own), i, len(g.sent[bulk]))
			}
			sum += len(own)
			if g.written.Load() != g.results {
				t.Errorf("%d of %d results were written", g.written.Load(), g.results)
			}
		}
		if sum != len(frames) {
			t.Errorf("%d messages came that nobody sent", len(frames)-sum)
		}
		if stream.longest > 256<<10 {
			t.Errorf("a write of %d bytes holds up others", stream.longest)
		}
	}
}

// TestOutboxWritesAtOnce checks that a lease has been written when send returns,
// and that what does not wait for the peer does not.
func TestOutboxWritesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		control := &keptStream{t: t}
		s := sessionOn(t, control, &keptStream{t: t})
		if !s.send(leasing(1)) || len(control.frames()) != 1 {
			t.Error("the lease has not been written")
		}
		control.gate = make(chan struct{})
		start := time.Now()
		if !s.send(cancelling(2)) || time.Since(start) != 0 || len(control.frames()) != 1 {
			t.Errorf("a message waited for %v", time.Since(start))
		}
		close(control.gate)
		synctest.Wait()
		if len(control.frames()) != 2 {
			t.Error("the message has not been written")
		}
	})
}

// TestOutboxWritesWhatWaits sends while another writes, at each place at which
// that can be: it is written without anybody sending again.
func TestOutboxWritesWhatWaits(t *testing.T) {
	for _, first := range []outgoing{leasing(1), cancelling(1)} {
		synctest.Test(t, func(t *testing.T) {
			control := &keptStream{t: t, gate: make(chan struct{})}
			s := sessionOn(t, control, &keptStream{t: t})
			go s.send(first)
			synctest.Wait() // it is at the gate
			s.send(cancelling(2))
			s.send(leasing(3))
			control.gate <- struct{}{}
			synctest.Wait()
			if !control.writing.Load() {
				t.Error("nobody writes what waits")
			}
			s.send(cancelling(4))
			close(control.gate)
			synctest.Wait()
			var ids []uint64
			for _, m := range control.frames() {
				ids = append(ids, m.id)
			}
			if !slices.Equal(ids, []uint64{1, 2, 3, 4}) {
				t.Errorf("written were %v", ids)
			}
		})
	}
}

// TestOutboxWatchEndsInItsTurn has a turn end when no other can begin: the watch
// ends before the turn does, as else it would end that of the next.
func TestOutboxWatchEndsInItsTurn(t *testing.T) {
	control := &keptStream{t: t, gate: make(chan struct{})}
	s := sessionOn(t, control, &keptStream{t: t})
	sent := make(chan bool)
	go func() { sent <- s.send(leasing(1)) }()
	within(t, time.Second, "the lease is being written", control.writing.Load)
	s.outControl.mu.Lock()
	close(control.gate)
	within(t, time.Second, "the watch has ended", func() bool { return !s.outControl.moves.due.Load() })
	s.outControl.mu.Unlock()
	<-sent
}

// TestOutboxFailure has a write fail, of a sender and of the session's own
// goroutine: the session ends, and nothing is written any more.
func TestOutboxFailure(t *testing.T) {
	boom := errors.New("boom")
	for _, first := range []outgoing{leasing(1), cancelling(1)} {
		synctest.Test(t, func(t *testing.T) {
			control, bulk := &keptStream{t: t, err: boom}, &keptStream{t: t}
			s := sessionOn(t, control, bulk)
			s.peer.Name = "peer"
			direct := first.typ == typeLease
			if ok := s.send(first); ok == direct {
				t.Errorf("send returned %v", ok)
			}
			synctest.Wait()
			if s.ctx.Err() == nil || !s.mux.IsClosed() {
				t.Fatal("the session goes on")
			}
			if err := context.Cause(s.ctx); !errors.Is(err, boom) || !strings.Contains(err.Error(), "write to peer") {
				t.Errorf("the cause is %v", err)
			}
			for _, o := range []outgoing{leasing(2), cancelling(2), {typ: typeResult, message: resultMessage{}, planes: planesFor(1, 5000)}} {
				if s.send(o) {
					t.Error("a message was sent after the end")
				}
			}
			s.loops.Wait()
			time.Sleep(time.Minute)
			if control.size(false)+bulk.size(false) > 0 {
				t.Error("something was written after the end")
			}
		})
	}
}

// TestOutboxEnd ends a session in which messages wait, and a heart beats.
func TestOutboxEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		control, bulk := &keptStream{t: t}, &keptStream{t: t}
		s := sessionOn(t, control, bulk)
		time.Sleep(5*heartbeat + heartbeat/2)
		pings := 0
		for i := range 5 {
			pings += len(mustFrame(typePing, pingMessage{Time: int64(time.Duration(i+1) * heartbeat)}))
		}
		if n := control.size(true); n != pings || bulk.size(false) > 0 {
			t.Errorf("%d bytes of pings on control, %d on bulk", n, bulk.size(false))
		}
		cause := errors.New("enough")
		s.end(cause)
		s.end(errors.New("more"))
		if s.send(leasing(1)) || s.send(cancelling(2)) || context.Cause(s.ctx) != cause {
			t.Errorf("after the end: %v", context.Cause(s.ctx))
		}
		s.loops.Wait()
		time.Sleep(time.Minute)
		if control.size(false) > 0 {
			t.Error("something was written after the end")
		}
	})
}

// TestOutboxLimit has a peer that does not read, or next to nothing, and one that
// reads slowly, but does.
func TestOutboxLimit(t *testing.T) {
	result := outgoing{typ: typeResult, message: resultMessage{Lease: 1}, planes: planesFor(1, 2<<20)}
	for _, test := range []struct {
		o    outgoing
		rate int // bytes a second
		ends bool
	}{{leasing(1), 0, true}, {cancelling(1), 0, true}, {result, 0, true}, {result, 1000, true}, {result, 50_000, false}} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			var reading sync.WaitGroup
			defer reading.Wait()
			defer there.Close()
			control, bulk := net.Conn(here), net.Conn(&keptStream{t: t})
			if test.o.planes != nil {
				control, bulk = bulk, control
			}
			s := sessionOn(t, control, bulk)
			context.AfterFunc(s.ctx, func() { here.Close() }) // as yamux does
			if test.rate > 0 {
				reading.Go(func() {
					for b := make([]byte, test.rate/10); ; time.Sleep(time.Second / 10) {
						if _, err := there.Read(b); err != nil {
							return
						}
					}
				})
			}
			start := time.Now()
			sent := s.send(test.o)
			if test.ends {
				<-s.ctx.Done()
			}
			took, cause := time.Since(start), context.Cause(s.ctx)
			if ended := cause != nil; ended != test.ends || !ended && (!sent || took < 2*silence) {
				t.Errorf("sent: %v, in %v: %v", sent, took, cause)
			} else if ended && (took < silence || took > silence+2*heartbeat || !strings.Contains(cause.Error(), "write to")) {
				t.Errorf("it took %v: %v", took, cause)
			}
		})
	}
}
