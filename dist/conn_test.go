package dist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
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
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				defer near.Close()
				w := newMuxConn(out)
				for range 300 {
					for _, p := range yamuxFrame(rng) {
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
			<-wrote
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("%d bytes came of %d, or others", got.Len(), want.Len())
			}
		})
	}
}

// yamuxFrame returns the writes by which yamux writes a frame: of data, or a
// header alone.
func yamuxFrame(rng *rand.Rand) [][]byte {
	header := make([]byte, muxHeader)
	header[1] = [...]byte{muxTypeData, muxTypeWindow}[rng.IntN(2)]
	header[7] = [...]byte{muxControl, muxBulk}[rng.IntN(2)]
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

// TestMuxConnRefuses checks that frames end the connection which no session has,
// however they come in.
func TestMuxConnRefuses(t *testing.T) {
	frame := func(typ byte, stream, length uint32) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0, typ, 0, 0}, stream)
		return binary.BigEndian.AppendUint32(b, length)
	}
	fine := slices.Concat(frame(muxTypeData, muxControl, 5), []byte("hello"), frame(muxTypeWindow, muxBulk, mostWindow),
		frame(muxTypeData, muxBulk, 0), frame(muxTypeGoAway, 0, 1))
	for name, test := range map[string]struct {
		then []byte
		want error // io.EOF: the peer's end
	}{
		"nothing":               {nil, io.EOF},
		"a ping":                {frame(2, 0, 1), ErrProtocol},
		"another stream":        {frame(muxTypeWindow, 5, 0), ErrProtocol},
		"too long a frame":      {frame(muxTypeData, muxBulk, longestFrame+1), ErrProtocol},
		"the longest frame":     {frame(muxTypeData, muxBulk, longestFrame), io.EOF},
		"a window beyond all":   {frame(muxTypeWindow, muxBulk, 1<<31), ErrProtocol},
		"a type that is no one": {frame(4, 0, 0), ErrProtocol},
		"a goodbye":             {frame(muxTypeGoAway, 0, muxGoodbye), errGoodbye},
	} {
		for _, size := range []int{1, 7, 4096, readAhead + 1} {
			near, far := tcpPair(t)
			if _, err := far.Write(append(slices.Clone(fine), test.then...)); err != nil {
				t.Fatal(err)
			}
			far.Close()
			c := newMuxConn(near)
			var err error
			for p := make([]byte, size); err == nil; {
				_, err = c.Read(p)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%s, read %d at a time: %v", name, size, err)
			}
		}
	}
}
