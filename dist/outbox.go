package dist

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// outgoing is a message on its way.
type outgoing struct {
	typ     messageType
	message any
	planes  [][]byte // bulk data

	// Called where they are not nil: turn when this is to be written next, and the
	// peer has seen nothing of it; free when the planes may be used again, which
	// is sooner if they were compressed; sent when all has been written.
	turn, free, sent func()
}

// outbox holds the messages that wait to be written to one stream, in the
// order in which they were sent. Whoever sends a message when nobody writes
// writes it there and then: to wake another goroutine for it would cost more
// than the rest of a round trip. What is sent meanwhile waits for the
// session's own goroutine, which writes all of it with one flush.
type outbox struct {
	stream net.Conn
	wake   chan struct{} // holds a token when the session's goroutine has work
	moves  watch         // with all that is written

	mu      sync.Mutex
	writing bool // somebody writes: w is theirs
	waiting []outgoing
	spare   []outgoing // memory for waiting
	w       *bufio.Writer
}

func newOutbox(stream net.Conn) *outbox {
	return &outbox{stream: stream, wake: make(chan struct{}, 1), w: bufio.NewWriterSize(stream, 64<<10)}
}

// put leaves o for the session's goroutine, or reports that the caller is to
// write it.
func (b *outbox) put(o outgoing, mayWrite bool) (write bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if mayWrite && !b.writing && len(b.waiting) == 0 {
		b.writing = true
		return true
	}
	b.waiting = append(b.waiting, o)
	if !b.writing {
		b.rouse()
	}
	return false
}

// begin gives the caller the turn of writing, if nobody has it and something
// waits.
func (b *outbox) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writing || len(b.waiting) == 0 {
		return false
	}
	b.writing = true
	return true
}

// take returns what waits. The caller has the turn of writing, until the end
// of which the messages are valid.
func (b *outbox) take() []outgoing {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.waiting
	b.waiting, b.spare = b.spare[:0], batch
	return batch
}

// release ends a turn of writing.
func (b *outbox) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = false
	if len(b.waiting) > 0 {
		b.rouse()
	}
}

func (b *outbox) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// send sends a message. It reports false where the session has ended.
//
// It does not wait for the peer, unless the message has planes or is a lease:
// what waits to be read of leases is less than any window.
func (s *session) send(o outgoing) bool {
	if s.ctx.Err() != nil {
		return false
	}
	box := s.outControl
	if planesSize(o.planes) > inlineResult {
		box = s.outBulk
		if s.compression.pays() {
			o = s.compression.compress(o)
		}
	}
	if !box.put(o, o.typ == typeLease || o.typ == typeResult || o.typ == typePanel) {
		return true
	}
	return s.writeTurn(box, &o) == nil
}

func planesSize(planes [][]byte) (n int64) {
	for _, p := range planes {
		n += int64(len(p))
	}
	return n
}

// write writes what waits in b, many messages at a time where many are
// waiting.
func (s *session) write(b *outbox) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-b.wake:
		}
		if b.begin() && s.writeTurn(b, nil) != nil {
			return
		}
	}
}

// writeTurn writes first, if it is not nil, or else what waits, in a turn of
// writing that the caller has, and ends the turn. An error ends the session.
func (s *session) writeTurn(b *outbox, first *outgoing) (err error) {
	b.moves.begin()
	if first != nil {
		err = s.writeOne(b, *first)
	} else {
		err = s.writeEach(b, b.take())
	}
	if err == nil {
		// Others that are about to send get the chance to, so that one flush
		// does for all.
		runtime.Gosched()
		err = s.writeEach(b, b.take())
	}
	if err == nil {
		err = b.w.Flush()
	}
	if err != nil {
		s.end(fmt.Errorf("write to %s: %w", s.peer.Name, err))
		return err
	}
	b.moves.end() // before another turn can begin
	b.release()
	return nil
}

// writeEach writes the messages and forgets them.
func (s *session) writeEach(b *outbox, batch []outgoing) error {
	defer clear(batch)
	for _, o := range batch {
		if err := s.writeOne(b, o); err != nil {
			return err
		}
	}
	return nil
}

// writeOne writes a frame. The caller has the turn of writing.
func (s *session) writeOne(b *outbox, o outgoing) error {
	if o.turn != nil {
		o.turn()
	}
	size := planesSize(o.planes)
	if o.typ == typePing {
		o.message = pingMessage{Time: int64(s.now())} // not when it began to wait
	}
	data, err := appendFrame(b.w.AvailableBuffer(), o.typ, o.message, size)
	if err != nil {
		return err
	}
	for len(data) > 0 { // a begin may take minutes on a slow line
		n, err := b.w.Write(data[:min(len(data), bulkFrame)])
		if err != nil {
			return err
		}
		b.moves.move()
		data = data[n:]
	}
	if size > int64(b.w.Size()) {
		if err := s.writeBulk(b, o.planes, size); err != nil {
			return err
		}
	} else {
		for _, plane := range o.planes {
			if _, err := b.w.Write(plane); err != nil {
				return err
			}
		}
	}
	if o.typ != typePing {
		s.speak()
	}
	if o.free != nil {
		o.free()
	}
	if o.sent != nil {
		o.sent()
	}
	return nil
}

// writeBulk writes planes that would not gain from waiting for others, and
// measures how quickly they are taken.
func (s *session) writeBulk(b *outbox, planes [][]byte, size int64) error {
	began := time.Now()
	if err := b.w.Flush(); err != nil {
		return err
	}
	for _, plane := range planes {
		for len(plane) > 0 {
			n, err := b.stream.Write(plane[:min(len(plane), bulkFrame)])
			if err != nil {
				return err
			}
			b.moves.move()
			plane = plane[n:]
		}
	}
	s.compression.sent(size, time.Since(began))
	return nil
}
