package dist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
)

// checkedConn is a connection without TLS, on which bytes that have changed on the
// way are found: all of it goes in records, each with a checksum. spec.md describes
// them. It guards against faults, and not against those who mean harm.
//
// As yamux has it, one goroutine writes and one reads.
type checkedConn struct {
	net.Conn
	peer string

	in       []byte // memory for what is read
	from, to int    // the part of it that has not been looked at yet
	ahead    []byte // has been checked, and not been asked for yet
	err      error  // of reading, for good

	headers [recordsAtOnce][recordHeader]byte
	parts   [3 * recordsAtOnce][]byte
	out     []byte // memory for a short record
}

const (
	// recordHeader is the length of what is before each payload: the payload's
	// length and the checksum, in 4 bytes each.
	recordHeader = 8

	// longestRecord is the most bytes of a payload: a frame of yamux has a whole
	// number of them.
	longestRecord = longestFrame / 4

	// shortRecord is the most that is copied to be written at once.
	shortRecord = joinedBytes

	// recordsAtOnce is how many records are written with one call of the operating
	// system.
	recordsAtOnce = 8

	// The memory to read into: for the first, short records, and then with room for
	// the longest and the header of the next.
	firstRecords = 4 << 10
	fullRecords  = recordHeader + longestRecord + recordHeader
)

// ErrCorrupt is matched by the error about a connection on which bytes have changed
// on the way.
var ErrCorrupt = errors.New("bytes have changed on the way")

// ChecksumError says of a connection without TLS that bytes have changed on it. Nothing
// of what came since has been believed.
type ChecksumError struct {
	Peer   string // the peer's address
	Length uint32 // of the record, if that is what it says
	Reason string
}

// Error returns what is wrong, whose bytes they are, and what to do.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("a record of %d bytes from %s %s: %v: what was under way is computed again; if it happens again, look for the fault "+
		"in what relays the connection and in the memory of both machines", e.Length, e.Peer, e.Reason, ErrCorrupt)
}

// Is tells whether target is ErrCorrupt.
func (e *ChecksumError) Is(target error) bool { return target == ErrCorrupt }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newCheckedConn returns conn in records, from the next byte on in both directions.
func newCheckedConn(conn net.Conn) *checkedConn {
	peer := "an address that is not known"
	if addr := conn.RemoteAddr(); addr != nil {
		peer = addr.String()
	}
	return &checkedConn{Conn: conn, peer: peer}
}

// Write writes p in records.
func (c *checkedConn) Write(p []byte) (int, error) {
	if len(p) > shortRecord {
		return c.writeParts(nil, p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.out = appendRecord(c.out[:0], p)
	n, err := c.Conn.Write(c.out)
	return max(0, n-recordHeader), err
}

// appendRecord appends the record of a payload to b.
func appendRecord(b, payload []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, checksum(b[at:], payload, nil))
	return append(b, payload...)
}

// checksum returns the checksum of a record of which the payload is in two parts.
func checksum(length, first, second []byte) uint32 {
	sum := crc32.Checksum(length, castagnoli)
	return crc32.Update(crc32.Update(sum, castagnoli, first), castagnoli, second)
}

// writeParts writes head and body, one behind the other, in records that begin
// anew, without a copy of them.
func (c *checkedConn) writeParts(head, body []byte) (n int, err error) {
	defer clear(c.parts[:])
	for len(head)+len(body) > 0 {
		parts, payload := net.Buffers(c.parts[:0]), 0
		for i := 0; i < recordsAtOnce && len(head)+len(body) > 0; i++ {
			first := head[:min(len(head), longestRecord)]
			second := body[:min(len(body), longestRecord-len(first))]
			head, body = head[len(first):], body[len(second):]
			h := c.headers[i][:]
			binary.LittleEndian.PutUint32(h, uint32(len(first)+len(second)))
			binary.LittleEndian.PutUint32(h[4:], checksum(h[:4], first, second))
			parts = append(parts, h, first, second)
			payload += len(first) + len(second)
		}
		if _, err := parts.WriteTo(c.Conn); err != nil {
			return n, err // of these it is not known how much was taken; the session ends
		}
		n += payload
	}
	return n, nil
}

// Read returns bytes of a record that has been checked.
func (c *checkedConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.ahead) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		n, err := c.next(p)
		if err != nil {
			c.err = err
			return 0, err
		}
		if n > 0 {
			return n, nil
		}
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// next reads a record. A long one that fits into p and has not come yet is read there,
// and its length is returned. Others are read into memory of c's own, many at once.
func (c *checkedConn) next(p []byte) (int, error) {
	if err := c.fill(recordHeader, io.EOF); err != nil {
		return 0, err
	}
	header := c.in[c.from:][:recordHeader]
	length := binary.LittleEndian.Uint32(header)
	if length == 0 || length > longestRecord {
		return 0, &ChecksumError{c.peer, length, fmt.Sprintf("is none: they have 1 to %d", longestRecord)}
	}
	size := int(length)
	if size > shortRecord && len(p) >= size && c.to-c.from < recordHeader+size {
		return size, c.readInto(p, size)
	}
	if err := c.fill(recordHeader+size, io.ErrUnexpectedEOF); err != nil {
		return 0, err
	}
	payload := c.in[c.from+recordHeader:][:size]
	if err := c.check(c.in[c.from:], payload); err != nil {
		return 0, err
	}
	c.from += recordHeader + size
	c.ahead = payload
	return 0, nil
}

// check compares a record's checksum with that of its payload.
func (c *checkedConn) check(header, payload []byte) error {
	said, is := binary.LittleEndian.Uint32(header[4:]), checksum(header[:4], payload, nil)
	if said == is {
		return nil
	}
	return &ChecksumError{c.peer, uint32(len(payload)), fmt.Sprintf("has the CRC-32C %08x where it says %08x", is, said)}
}

// readInto reads a payload of size bytes, of which only a part has come, into p. Where
// there is room behind it the header of the next record is read along.
func (c *checkedConn) readInto(p []byte, size int) error {
	var header [recordHeader]byte
	copy(header[:], c.in[c.from:])
	n := copy(p, c.in[c.from+recordHeader:c.to])
	most := min(len(p), size+recordHeader)
	m, err := io.ReadAtLeast(c.Conn, p[n:most], size-n)
	if err != nil {
		return cutOff(err)
	}
	c.from, c.to = 0, copy(c.in, p[size:n+m])
	return c.check(header[:], p[:size])
}

// fill reads until so many bytes are there to be looked at. Where there is none, and
// none comes, the error is ended.
func (c *checkedConn) fill(need int, ended error) error {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	for c.to-c.from < need {
		c.makeRoom(need)
		n, err := c.Conn.Read(c.in[c.to:])
		c.to += n
		switch {
		case err == nil || c.to-c.from >= need: // an error comes again
		case errors.Is(err, io.EOF) && c.from == c.to:
			return ended
		default:
			return cutOff(err)
		}
	}
	return nil
}

// makeRoom makes the memory large enough for need bytes, and free behind those that
// are there. It takes more than at first when that was too little once.
func (c *checkedConn) makeRoom(need int) {
	if len(c.in)-c.from >= need && c.to < len(c.in) {
		return
	}
	in := c.in
	switch {
	case in == nil && need <= firstRecords:
		in = make([]byte, firstRecords)
	case len(in) < fullRecords:
		in = make([]byte, fullRecords)
	}
	c.to = copy(in, c.in[c.from:c.to])
	c.from, c.in = 0, in
}

// cutOff returns the error of a connection that ended in the middle of a record.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
