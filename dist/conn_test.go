package dist

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// TestMuxConn checks that what goes through a muxConn comes out as it went in,
// for frames as yamux writes them, over connections of both kinds.
func TestMuxConn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, gathers := range map[string]bool{"one that gathers": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			near, far := tcpPair(t)
			var out, in net.Conn = near, far
			if !gathers {
				out, in = struct{ net.Conn }{near}, struct{ net.Conn }{far}
			}
			var want bytes.Buffer
			go func() {
				defer near.Close()
				w := newMuxConn(out)
				for range 300 {
					for _, p := range muxFrame(rng) {
						want.Write(p)
						if n, err := w.Write(p); n != len(p) || err != nil {
							t.Errorf("Write: %d of %d, %v", n, len(p), err)
							return
						}
					}
				}
			}()
			var got bytes.Buffer
			r := newMuxConn(in)
			sizes := rand.New(rand.NewPCG(seed, 5))
			for {
				p := make([]byte, 1+sizes.IntN(1<<sizes.IntN(18)))
				n, err := r.Read(p)
				got.Write(p[:n])
				if err == io.EOF {
					break
				}
				if err != nil || n == 0 {
					t.Fatalf("Read: %d, %v", n, err)
				}
			}
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("%d bytes came of %d, or others", got.Len(), want.Len())
			}
		})
	}
}

// muxFrame returns the writes by which yamux writes a frame: of data, or a
// header alone.
func muxFrame(rng *rand.Rand) [][]byte {
	header := make([]byte, muxHeader)
	header[1] = byte(rng.IntN(4))
	n := rng.IntN(1 << rng.IntN(19))
	binary.BigEndian.PutUint32(header[8:], uint32(n))
	if header[1] != muxTypeData || n == 0 {
		return [][]byte{header}
	}
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return [][]byte{header, body}
}

// TestMuxConnJoins checks that header and body go together.
func TestMuxConnJoins(t *testing.T) {
	for _, n := range []int{1, 1000, joinedBytes - muxHeader} {
		var log writeLog
		c := newMuxConn(&log)
		header := make([]byte, muxHeader)
		binary.BigEndian.PutUint32(header[8:], uint32(n))
		c.Write(header)
		c.Write(make([]byte, n))
		if len(log.sizes) != 1 || log.sizes[0] != muxHeader+n {
			t.Errorf("a frame of %d bytes took writes of %v", n, log.sizes)
		}
	}
}

// writeLog is a connection that notes how long its writes are.
type writeLog struct {
	net.Conn
	sizes []int
}

func (l *writeLog) Write(p []byte) (int, error) {
	l.sizes = append(l.sizes, len(p))
	return len(p), nil
}
