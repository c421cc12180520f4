package dist

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/gpurun/gpurun/kernels"
)

// session is one connection between a coordinator and a host, with two yamux
// streams on it: control, for messages both ways, and bulk, for the results
// that are too large to hold up the others. spec.md describes it.
//
// At any time one goroutine writes to each stream and one reads from it.
// Whatever breaks one of them ends the session, once and for all.
type session struct {
	peer helloMessage
	mux  *yamux.Session

	control, bulk net.Conn
	outControl    *outbox
	outBulk       *outbox

	ctx    context.Context // done when the session has ended; its cause says why
	cancel context.CancelCauseFunc
	loops  sync.WaitGroup
}

const (
	// heartbeat is how often something is sent, and silence how long a peer may
	// send nothing before it counts as gone.
	heartbeat = 2 * time.Second
	silence   = 10 * time.Second

	// handshakeLimit bounds all that happens before a session stands.
	handshakeLimit = 10 * time.Second

	// writeLimit is how long a write may wait for the peer to read. One that
	// waits longer is the end of the session: yamux may have lost it.
	writeLimit = 10 * time.Second

	// streamWindow is how much a peer may send on a stream before it is read.
	streamWindow = 1 << 20

	// bulkFrame bounds one write, so that messages get through in between.
	bulkFrame = 256 << 10

	// inlineResult bounds the results that go with the messages.
	inlineResult = 4 << 10

	// smallMessage is the size up to which messages are read without memory of
	// their own.
	smallMessage = 256
)

// errPeerLeft is the cause of a session that the peer closed.
var errPeerLeft = errors.New("the peer has left")

func muxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false // the heartbeat is our own, and quicker
	c.ConnectionWriteTimeout = writeLimit
	c.StreamOpenTimeout = handshakeLimit
	c.MaxStreamWindowSize = streamWindow
	c.AcceptBacklog = 8
	c.LogOutput = io.Discard
	return c
}

// newSession begins a session on conn, over which trust has been established,
// and exchanges hellos. The dialler of the connection is yamux's client. On an
// error conn is closed. The caller starts the goroutines that read.
func newSession(ctx context.Context, conn net.Conn, dialler bool, hello helloMessage) (*session, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := &session{}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	err := s.openStreams(conn, dialler)
	if err == nil {
		err = s.exchangeHellos(hello)
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
	s.loops.Go(func() { s.write(s.outControl, true) })
	s.loops.Go(func() { s.write(s.outBulk, false) })
	return s, nil
}

// openStreams opens the two streams. Each begins with the preamble of the
// dialler, without which the other side would not learn of it.
func (s *session) openStreams(conn net.Conn, dialler bool) (err error) {
	deadline := time.Now().Add(handshakeLimit)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if dialler {
		s.mux, err = yamux.Client(conn, muxConfig())
	} else {
		s.mux, err = yamux.Server(conn, muxConfig())
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
		if err != nil {
			return fmt.Errorf("open a stream: %w", err)
		}
		if err := (*stream).SetDeadline(deadline); err != nil {
			return err
		}
		if dialler {
			_, err = (*stream).Write([]byte(preamble))
		} else {
			err = readPreamble(*stream)
		}
		if err != nil {
			return err
		}
	}
	if dialler {
		return readPreamble(s.control)
	}
	_, err = s.control.Write([]byte(preamble))
	return err
}

func readPreamble(r io.Reader) error {
	got := make([]byte, len(preamble))
	if _, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("read the preamble: %w", err)
	}
	last := len(preamble) - 1
	switch {
	case string(got[:last]) != preamble[:last]:
		return protocolError("it begins with %q", got)
	case got[last] != protocolVersion:
		return protocolError("it speaks version %d and this is version %d: run the same gpurun on both", got[last], protocolVersion)
	}
	return nil
}

// exchangeHellos sends hello and reads the peer's, and checks that the two fit.
func (s *session) exchangeHellos(hello helloMessage) error {
	hello.Kernels = kernels.Version
	data, err := appendFrame(nil, typeHello, hello, 0)
	if err != nil {
		return err
	}
	if _, err := s.control.Write(data); err != nil {
		return err
	}
	f, err := readFrame(s.control)
	if err != nil {
		return fmt.Errorf("read the hello: %w", err)
	}
	if f.typ != typeHello {
		return protocolError("message %d where a hello was due", f.typ)
	}
	if err := f.decode(&s.peer); err != nil {
		return err
	}
	if s.peer.Kernels != kernels.Version {
		return protocolError("%s has kernels of version %d and this has version %d: run the same gpurun on both", s.peer.Name, s.peer.Kernels, kernels.Version)
	}
	for _, stream := range []net.Conn{s.control, s.bulk} {
		if err := stream.SetDeadline(time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// end ends the session for cause, unless it has ended. It may be called from
// any goroutine.
func (s *session) end(cause error) {
	if errors.Is(cause, io.EOF) {
		cause = errPeerLeft
	}
	s.cancel(cause)
	s.mux.Close()
}

// close ends the session for cause and waits for its goroutines.
func (s *session) close(cause error) {
	s.end(cause)
	s.loops.Wait()
}

// read reads frames from stream and hands them to handle, which reads their
// bulk data from r, until the session ends.
func (s *session) read(stream net.Conn, limit time.Duration, handle func(f frame, r io.Reader) error) {
	r := bufio.NewReaderSize(stream, 64<<10)
	timed := &timedReader{r: r, stream: stream}
	memory := make([]byte, smallMessage) // the handlers keep nothing of a frame
	for {
		deadline := time.Time{}
		if limit > 0 {
			deadline = time.Now().Add(limit)
		}
		err := stream.SetReadDeadline(deadline)
		var f frame
		if err == nil {
			f, err = readFrameIn(r, memory)
		}
		if err == nil {
			err = handle(f, timed)
		}
		if err != nil {
			if errors.Is(err, yamux.ErrTimeout) {
				err = fmt.Errorf("nothing was heard for %v", silence)
			}
			s.end(fmt.Errorf("read from %s: %w", s.peer.Name, err))
			return
		}
	}
}

// timedReader reads bulk data with a deadline that moves on as it comes in.
type timedReader struct {
	r      *bufio.Reader
	stream net.Conn
}

func (t *timedReader) Read(p []byte) (int, error) {
	if err := t.stream.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return t.r.Read(p)
}
