package dist

import (
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
)

// muxConn is a connection as yamux uses it, with fewer calls of the operating
// system below, and over TLS fewer records. yamux writes the header of a data
// frame and its body one after the other; here they go together. It reads
// little at a time; here more is read at once.
//
// It also looks at the frames that come, and lets through what a session has:
// data for its two streams, in frames of the size that sessions write. With others
// a peer could make yamux start goroutines without end, and take memory before any
// data has come: as much as a frame says that it has.
//
// As yamux has it, one goroutine writes and one reads.
type muxConn struct {
	net.Conn
	header []byte // of a data frame: its body comes with the next Write
	joined []byte // memory for header and body
	ahead  []byte // has been read and not asked for yet
	memory []byte // of ahead

	next []byte // what has come of the header of the next frame
	body uint32 // bytes that are still to come of a frame

	// fault is the error of reading that says what was wrong with what came, or that the
	// peer leaves. A stream of yamux says only that it has ended.
	fault atomic.Pointer[error]
}

const (
	// readAhead is how much is read at once where less is asked for.
	readAhead = 16 << 10

	// joinedBytes is how much is copied to be written at once: what a TLS record
	// holds.
	joinedBytes = 16 << 10

	// muxHeader is the length of a yamux header: version, type, two bytes of
	// flags, four of the stream and four of the length.
	muxHeader = 12

	// longestFrame is the most data that a frame may have: what sessions write at
	// once is shorter by a header.
	longestFrame = 256 << 10

	// The types of yamux's frames.
	muxTypeData, muxTypeWindow, muxTypeGoAway = 0, 1, 3

	// muxGoodbye is the code of a frame of the last type by which a peer leaves in peace.
	muxGoodbye = 0

	// The streams of a session, as the dialler numbers them.
	muxControl, muxBulk = 1, 3
)

// newMuxConn returns conn as yamux uses it.
func newMuxConn(conn net.Conn) *muxConn {
	return &muxConn{
		Conn: conn, header: make([]byte, 0, muxHeader), joined: make([]byte, 0, joinedBytes), memory: make([]byte, readAhead),
		next: make([]byte, 0, muxHeader),
	}
}

// Write keeps the header of a data frame until its body is there.
func (c *muxConn) Write(p []byte) (int, error) {
	if len(c.header) == 0 {
		if len(p) == muxHeader && p[1] == muxTypeData && binary.BigEndian.Uint32(p[8:]) > 0 {
			c.header = append(c.header, p...)
			return len(p), nil
		}
		return c.Conn.Write(p)
	}
	defer func() { c.header = c.header[:0] }()
	if len(c.header)+len(p) > joinedBytes {
		if checked, ok := c.Conn.(*checkedConn); ok {
			n, err := checked.writeParts(c.header, p)
			return max(0, n-muxHeader), err
		}
		if gathers(c.Conn) {
			parts := net.Buffers{c.header, p}
			n, err := parts.WriteTo(c.Conn)
			return max(0, int(n)-muxHeader), err
		}
	}
	head := min(len(p), joinedBytes-len(c.header))
	c.joined = append(append(c.joined[:0], c.header...), p[:head]...)
	if n, err := c.Conn.Write(c.joined); err != nil {
		return max(0, n-muxHeader), err
	}
	if head == len(p) {
		return head, nil
	}
	n, err := c.Conn.Write(p[head:])
	return head + n, err
}

// gathers reports whether conn writes several buffers with one call of the
// operating system.
func gathers(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// Read notes what was wrong with what came, or that the peer leaves, for the session.
func (c *muxConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrProtocol) || errors.Is(err, errGoodbye) {
		fault := err
		c.fault.CompareAndSwap(nil, &fault)
	}
	return n, err
}

// read reads ahead where little is asked for.
func (c *muxConn) read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if len(p) >= len(c.memory) {
			n, err := c.Conn.Read(p)
			if err == nil {
				err = c.inspect(p[:n])
			}
			return n, err
		}
		n, err := c.Conn.Read(c.memory)
		if err == nil {
			err = c.inspect(c.memory[:n])
		}
		if err != nil {
			return 0, err // what came with it is of no use to a session that ends
		}
		c.ahead = c.memory[:n]
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// inspect returns an error if p, which has come next, has a frame that no
// session has, or one after which nothing matters.
func (c *muxConn) inspect(p []byte) error {
	for len(p) > 0 {
		if skip := min(uint32(len(p)), c.body); skip > 0 {
			p, c.body = p[skip:], c.body-skip
			continue
		}
		n := min(len(p), muxHeader-len(c.next))
		c.next, p = append(c.next, p[:n]...), p[n:]
		if len(c.next) < muxHeader {
			return nil
		}
		typ, stream, length := c.next[1], binary.BigEndian.Uint32(c.next[4:]), binary.BigEndian.Uint32(c.next[8:])
		c.next = c.next[:0]
		ours := stream == muxControl || stream == muxBulk
		switch {
		case typ == muxTypeData && ours && length <= longestFrame:
			c.body = length
		case typ == muxTypeWindow && ours && length <= mostWindow:
		case typ == muxTypeGoAway && stream == 0 && length == muxGoodbye:
			return errGoodbye
		case typ == muxTypeGoAway && stream == 0:
		default:
			return protocolError("a frame of type %d for stream %d, of %d", typ, stream, length)
		}
	}
	return nil
}
