package dist

import (
	"encoding/binary"
	"net"
)

// muxConn is a connection as yamux uses it, with fewer calls of the operating
// system below, and over TLS fewer records. yamux writes the header of a data
// frame and its body one after the other; here they go together. It reads
// little at a time; here more is read at once.
//
// As yamux has it, one goroutine writes and one reads.
type muxConn struct {
	net.Conn
	header []byte // of a data frame: its body comes with the next Write
	joined []byte // memory for header and body
	ahead  []byte // has been read and not asked for yet
	memory []byte // of ahead
}

const (
	// readAhead is how much is read at once where less is asked for.
	readAhead = 16 << 10

	// joinedBytes is how much is copied to be written at once: what a TLS record
	// holds.
	joinedBytes = 16 << 10

	// muxHeader is the length of a yamux header: version, type, two bytes of
	// flags, four of the stream and four of the length.
	muxHeader   = 12
	muxTypeData = 0
)

func newMuxConn(conn net.Conn) *muxConn {
	return &muxConn{
		Conn: conn, header: make([]byte, 0, muxHeader), joined: make([]byte, 0, joinedBytes), memory: make([]byte, readAhead),
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
	if len(c.header)+len(p) > joinedBytes && gathers(c.Conn) {
		parts := net.Buffers{c.header, p}
		n, err := parts.WriteTo(c.Conn)
		return max(0, int(n)-muxHeader), err
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

// Read reads ahead where little is asked for.
func (c *muxConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if len(p) >= len(c.memory) {
			return c.Conn.Read(p)
		}
		n, err := c.Conn.Read(c.memory)
		if err != nil {
			return 0, err // what came with it is of no use to a session that ends
		}
		c.ahead = c.memory[:n]
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}
