package dist

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// session is one connection between a coordinator and a host, with two yamux
// streams on it: control, for messages both ways, and bulk, for the results
// that are too large to hold up the others. spec.md describes it.
//
// At any time one goroutine writes to each stream and one reads from it.
// Whatever breaks one of them ends the session, once and for all.
type session struct {
	peer  helloMessage
	began time.Time // from which the times in messages count
	conn  *muxConn
	mux   *yamux.Session

	control, bulk net.Conn
	outControl    *outbox
	outBulk       *outbox
	compression   compression

	roundTrip time.Duration

	// follow is set when a message has been sent, and spoke is true while it is.
	// See speak. It is nil where the round trip is short.
	follow *time.Timer
	spoke  atomic.Bool

	// heard moves with all that comes from the peer, and bulkIn with the bulk
	// data of a frame that has begun to come.
	heard, bulkIn watch

	ctx    context.Context // done when the session has ended; its cause says why
	cancel context.CancelCauseFunc
	loops  sync.WaitGroup

	leaving sync.Once
}

const (
	// heartbeat is how often something is sent, and silence how long a peer may
	// send nothing before it counts as gone, or leave what is sent to it unread.
	heartbeat = 2 * time.Second
	silence   = 10 * time.Second

	// followed is the shortest round trip for which speak is worth its packets.
	followed = time.Millisecond

	// goodbyeLimit is how long a peer may take to hang up when this side leaves.
	goodbyeLimit = heartbeat

	// leastWindow and mostWindow bound how much a peer may send on a stream
	// before it is read, and windowRate × the round trip is what it is in
	// between: more than that many bytes a second cannot come. Where the round
	// trip is short a large window would only keep more in memory.
	leastWindow = 1 << 20
	mostWindow  = 16 << 20
	windowRate  = 1 << 30

	// bulkFrame bounds one write, so that messages get through in between. With
	// its header it fills so many records of TLS.
	bulkFrame = longestFrame - muxHeader

	// inlineResult bounds the results that go with the messages.
	inlineResult = 4 << 10

	// smallMessage is the size up to which messages are read without memory of
	// their own.
	smallMessage = 256
)

// errPeerLeft is the cause of a session that the peer closed, or that the system did for
// it when it was killed; errGoodbye matches it, and the peer has said that it leaves.
var (
	errPeerLeft = errors.New("the peer has left")
	errGoodbye  = fmt.Errorf("%w in peace", errPeerLeft)
)

// windowFor returns the window of streams over which an answer takes roundTrip.
func windowFor(roundTrip time.Duration) uint32 {
	return uint32(min(max(leastWindow, roundTrip.Seconds()*windowRate), mostWindow))
}

func muxConfig(window uint32) *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false // the heartbeat is our own, and quicker
	c.ConnectionWriteTimeout = silence
	c.StreamOpenTimeout = handshakeLimit
	c.MaxStreamWindowSize = window
	c.AcceptBacklog = 2
	c.LogOutput = io.Discard
	return c
}

// newSession begins a session on conn, over which trust has been established.
// The dialler of the connection is yamux's client. On an error conn is closed.
// The caller starts the goroutines that read.
func newSession(ctx context.Context, conn net.Conn, dialler bool, hello helloMessage) (*session, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := &session{began: time.Now()}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	deadline := time.Now().Add(handshakeLimit)
	err := conn.SetDeadline(deadline)
	if err == nil {
		s.peer, s.roundTrip, err = greet(conn, dialler, hello)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		err = s.openStreams(conn, dialler, windowFor(s.roundTrip), deadline)
	}
	if err != nil {
		conn.Close()
		if s.mux != nil {
			s.mux.Close()
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	s.outControl, s.outBulk = newOutbox(s.control), newOutbox(s.bulk)
	if s.roundTrip >= followed {
		s.follow = s.newFollow()
	}
	s.loops.Go(func() { s.write(s.outControl) })
	s.loops.Go(func() { s.write(s.outBulk) })
	s.loops.Go(s.beat)
	return s, nil
}

// openStreams opens the two streams: the dialler does, and the other side
// accepts them in the same order.
func (s *session) openStreams(conn net.Conn, dialler bool, window uint32, deadline time.Time) (err error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	s.conn = newMuxConn(conn)
	if dialler {
		s.mux, err = yamux.Client(s.conn, muxConfig(window))
	} else {
		s.mux, err = yamux.Server(s.conn, muxConfig(window))
	}
	if err != nil {
		return err
	}
	for _, stream := range []*net.Conn{&s.control, &s.bulk} {
		if dialler {
			*stream, err = s.mux.Open()
		} else {
			*stream, err = s.mux.AcceptStreamWithContext(ctx)
		}
		if fault := s.conn.fault.Load(); err != nil && fault != nil {
			return fmt.Errorf("open a stream: %w", *fault)
		}
		if errors.Is(err, yamux.ErrSessionShutdown) {
			return errPeerLeft // it only wanted to know who is there
		}
		if err != nil {
			return fmt.Errorf("open a stream: %w", err)
		}
	}
	return nil
}

// beat sends something to the peer every now and then, and ends the session
// when nothing moves that should.
func (s *session) beat() {
	const looks = int(silence / heartbeat)
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		s.outControl.put(outgoing{typ: typePing}, false)
		switch {
		case s.heard.stalled(looks), s.bulkIn.stalled(looks):
			s.end(fmt.Errorf("read from %s: nothing was heard for %v", s.peer.Name, silence))
		case s.outControl.moves.stalled(looks), s.outBulk.moves.stalled(looks):
			s.end(fmt.Errorf("write to %s: nothing was taken for %v", s.peer.Name, silence))
		}
	}
}

// speak says that a message has been sent, after which a ping follows in a round
// trip. Where the message was a lone packet and got lost, TCP would otherwise take
// 200 ms and two round trips to look for it, since nothing comes back that tells
// of a gap (RFC 8985, section 7.2, with the peer's delayed acknowledgement allowed
// for): and a lost lease is a device that waits.
func (s *session) speak() {
	if s.follow != nil && s.spoke.CompareAndSwap(false, true) {
		s.follow.Reset(s.roundTrip)
	}
}

// newFollow returns the timer that sends the ping of speak. It is not set.
func (s *session) newFollow() *time.Timer {
	t := time.AfterFunc(time.Hour, func() {
		s.spoke.Store(false)
		s.outControl.put(outgoing{typ: typePing}, false)
	})
	t.Stop()
	return t
}

// now is the time on this side's clock for the session: wall clocks jump, this one
// does not.
func (s *session) now() time.Duration { return time.Since(s.began) }

// end ends the session for cause, unless it has ended. It may be called from
// any goroutine.
func (s *session) end(cause error) {
	if errors.Is(cause, io.EOF) {
		cause = errPeerLeft
	}
	if s.conn != nil {
		if fault := s.conn.fault.Load(); fault != nil {
			if cause = *fault; !errors.Is(cause, errGoodbye) {
				cause = fmt.Errorf("read from %s: %w", s.peer.Name, cause)
			}
		}
	}
	s.cancel(cause)
	s.mux.Close()
}

// leave ends the session for cause in peace. It says so to the peer, and waits for it to
// hang up: if this side did that while a message of either is on its way, the peer might
// see a connection that breaks, and not what was said before.
func (s *session) leave(cause error) {
	s.leaving.Do(func() {
		if s.ctx.Err() == nil {
			s.cancel(cause)
			s.loops.Go(func() { _ = s.mux.GoAway() }) // returns when the session is closed
			select {
			case <-s.mux.CloseChan():
			case <-time.After(goodbyeLimit):
			}
		}
		s.close(cause)
	})
}

// close ends the session for cause and waits for its goroutines.
func (s *session) close(cause error) {
	s.end(cause)
	s.loops.Wait()
}

// read reads frames from stream and hands them to handle, which reads their
// bulk data from r, until the session ends. largest bounds the message of a
// begin.
func (s *session) read(stream net.Conn, largest uint32, handle func(f frame, r io.Reader) error) {
	s.heard.begin()
	in := &incoming{session: s, r: bufio.NewReaderSize(stream, 64<<10)}
	if stream == s.bulk {
		// What goes through the memory of the reader is copied once more.
		in.r, in.moves = bufio.NewReaderSize(stream, 4<<10), &s.bulkIn
	}
	memory := make([]byte, smallMessage) // the handlers keep nothing of a frame
	for {
		f, err := readFrameIn(in, memory, largest)
		if err == nil {
			in.moves.begin()
			err = handle(f, in)
			in.moves.end()
		}
		if err != nil {
			s.end(fmt.Errorf("read from %s: %w", s.peer.Name, err))
			return
		}
	}
}

// incoming reads a stream, and says that something comes: also in the middle of
// a long message, behind which no ping gets through.
type incoming struct {
	session *session
	r       *bufio.Reader
	moves   *watch // with bulk data; nil without
}

func (in *incoming) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	if n > 0 {
		in.session.heard.move()
		in.moves.move()
	}
	return n, err
}
