package dist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
)

// line is a connection of which one end is here: what is written is kept, and what
// has been kept is read in pieces of any sizes.
type line struct {
	net.Conn // nil: nothing else is called
	bytes.Buffer
	rng *rand.Rand // of the pieces; nil: as large as they fit
}

func (l *line) Write(p []byte) (int, error) { return l.Buffer.Write(p) }
func (l *line) RemoteAddr() net.Addr        { return fakeAddr("there:1") }

func (l *line) Read(p []byte) (int, error) {
	if l.rng != nil && len(p) > 0 {
		p = p[:1+l.rng.IntN(min(len(p), 1<<l.rng.IntN(18)))]
	}
	return l.Buffer.Read(p)
}

// recordOf is a record as spec.md describes it.
func recordOf(payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	sum.Write(b)
	sum.Write(payload)
	return append(binary.LittleEndian.AppendUint32(b, sum.Sum32()), payload...)
}

// takeRecords is what a reader has to make of data: the payloads of the records
// that are right, and how it ends.
func takeRecords(data []byte) (payloads []byte, end error) {
	for len(data) > 0 {
		if len(data) < 8 {
			return payloads, io.ErrUnexpectedEOF
		}
		n := binary.LittleEndian.Uint32(data)
		if n == 0 || n > 65536 {
			return payloads, ErrCorrupt
		}
		if uint32(len(data)-8) < n {
			return payloads, io.ErrUnexpectedEOF
		}
		if !bytes.Equal(recordOf(data[8:8+n]), data[:8+n]) {
			return payloads, ErrCorrupt
		}
		payloads, data = append(payloads, data[8:8+n]...), data[8+n:]
	}
	return payloads, io.EOF
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// readAll reads to the end, in pieces of any sizes, and returns what came before it.
func readAll(rng *rand.Rand, c net.Conn, most int) ([]byte, error) {
	var got []byte
	for {
		p := make([]byte, 1+rng.IntN(1<<rng.IntN(most)))
		n, err := c.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			return got, err
		}
	}
}

// TestCheckedConn checks that what goes through comes out as it went in, whatever
// the sizes are, and that it is in records on the way.
func TestCheckedConn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 60 {
		way := &line{rng: rng}
		w, want := newCheckedConn(way), []byte(nil)
		for range 1 + rng.IntN(20) {
			p := randomBytes(rng, rng.IntN(1<<rng.IntN(20)))
			want = append(want, p...)
			var n int
			var err error
			if cut := min(len(p), rng.IntN(20)); len(p) > 0 && rng.IntN(2) == 0 {
				n, err = w.writeParts(p[:cut], p[cut:])
			} else {
				n, err = w.Write(p)
			}
			if n != len(p) || err != nil {
				t.Fatalf("Write: %d of %d, %v", n, len(p), err)
			}
		}
		if payloads, end := takeRecords(way.Bytes()); end != io.EOF || !bytes.Equal(payloads, want) {
			t.Fatalf("what was written is not in records: %v", end)
		}
		got, err := readAll(rng, newCheckedConn(way), 19)
		if err != io.EOF || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came of %d, or others: %v", len(got), len(want), err)
		}
	}
	if sum := crc32.Checksum([]byte("123456789"), castagnoli); sum != 0xe3069283 { // RFC 3720, as others compute it
		t.Errorf("the checksum is %08x", sum)
	}
}

// someExchange returns records of several lengths, with no more than most bytes each.
func someExchange(rng *rand.Rand, most int) (records, payloads []byte) {
	for _, n := range []int{1, 8, 35, 300, 1000, 5000, 70_000} {
		way := &line{}
		p := randomBytes(rng, min(n, most))
		_, _ = newCheckedConn(way).Write(p)
		records, payloads = append(records, way.Bytes()...), append(payloads, p...)
	}
	return records, payloads
}

// TestFlippedBits flips every bit of a short exchange, and some of a long one: it is
// always found, and nothing that is wrong is believed before.
func TestFlippedBits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	flip := func(records, payloads []byte, bit int) {
		t.Helper()
		records[bit/8] ^= 1 << (bit % 8)
		defer func() { records[bit/8] ^= 1 << (bit % 8) }()
		way := &line{rng: rng}
		way.Buffer.Write(records)
		got, err := readAll(rng, newCheckedConn(way), 19)
		if !errors.Is(err, ErrCorrupt) && err != io.ErrUnexpectedEOF {
			t.Fatalf("bit %d: the end is %v", bit, err)
		}
		if !bytes.HasPrefix(payloads, got) {
			t.Fatalf("bit %d: wrong bytes came", bit)
		}
	}
	records, payloads := someExchange(rng, 300)
	for bit := range 8 * len(records) {
		flip(records, payloads, bit)
	}
	records, payloads = someExchange(rng, 1<<20)
	for range 2000 {
		flip(records, payloads, rng.IntN(8*len(records)))
	}
}

// TestCutOff ends an exchange after each byte: that between two records is the end,
// the others are within one.
func TestCutOff(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	records, _ := someExchange(rng, 300)
	for n := range len(records) {
		want, end := takeRecords(records[:n])
		way := &line{rng: rng}
		way.Buffer.Write(records[:n])
		got, err := readAll(rng, newCheckedConn(way), 12)
		if err != end || !bytes.Equal(got, want) {
			t.Fatalf("after %d bytes: %d bytes and %v, want %d and %v", n, len(got), err, len(want), end)
		}
	}
}

// TestChecksumError checks what is said of a record that is not right, that it is said
// again, and that one takes no memory that is none.
func TestChecksumError(t *testing.T) {
	none := binary.LittleEndian.AppendUint32(nil, 1<<31)
	wrong := recordOf([]byte("hello"))
	wrong[9] ^= 4
	for name, data := range map[string][]byte{"no length": append(none, 1, 2, 3, 4), "an empty one": make([]byte, 8), "another checksum": wrong} {
		way := &line{}
		way.Buffer.Write(data)
		c := newCheckedConn(way)
		var err error
		allocates(t, 8<<10, name, func() { _, err = c.Read(make([]byte, 10)) })
		e, ok := errors.AsType[*ChecksumError](err)
		if !ok || !errors.Is(err, ErrCorrupt) || e.Peer != "there:1" {
			t.Fatalf("%s: %v", name, err)
		}
		for _, words := range []string{"there:1", "changed on the way", "memory of both machines"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %q does not say %q", name, err, words)
			}
		}
		if _, again := c.Read(make([]byte, 10)); again != err {
			t.Errorf("%s: then %v", name, again)
		}
	}
}

// TestOnlyPlainIsChecked checks that TLS, which has checks of its own, is left alone.
func TestOnlyPlainIsChecked(t *testing.T) {
	for name, trust := range map[string]*Trust{"plain": nil, "key": mustTrustKey(t, NewKey())} {
		sc, cc := tcpPair(t)
		s, c := meet(
			func() (net.Conn, error) { return trust.Server(t.Context(), sc) },
			func() (net.Conn, error) { return trust.Client(t.Context(), cc, "") },
		)
		if s.err != nil || c.err != nil {
			t.Fatalf("%s: %v, %v", name, s.err, c.err)
		}
		for _, conn := range []net.Conn{s.conn, c.conn} {
			if _, checked := conn.(*checkedConn); checked != (trust == nil) {
				t.Errorf("%s: checked is %v", name, checked)
			}
		}
	}
}

// FuzzRecords reads bytes as records, so many at a time.
func FuzzRecords(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	records, _ := someExchange(rng, 300)
	f.Add(records, uint16(1))
	f.Add(records, uint16(4096))
	f.Add(records[:len(records)-3], uint16(20))
	f.Add(append(records[:30:30], 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0), uint16(9))
	f.Add(recordOf(make([]byte, 65536)), uint16(65535))
	f.Add(recordOf(make([]byte, 65537)), uint16(65535))
	f.Add(recordOf(nil), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		want, end := takeRecords(data)
		for _, pieces := range []*rand.Rand{nil, rand.New(rand.NewPCG(uint64(size), 3))} {
			way := &line{rng: pieces}
			way.Buffer.Write(data)
			c := newCheckedConn(way)
			p := make([]byte, int(size)+1)
			var got []byte
			var err error
			for err == nil {
				var n int
				n, err = c.Read(p)
				got = append(got, p[:n]...)
			}
			if !errors.Is(err, end) || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes and %v, want %d and %v", len(got), err, len(want), end)
			}
			if len(c.in) > fullRecords {
				t.Fatalf("%d bytes of memory", len(c.in))
			}
		}
		if len(data) < firstRecords { // no record that is longer can be there
			way := &line{}
			way.Buffer.Write(data)
			allocates(t, 2*firstRecords+fullRecords, "records", func() { _, _ = io.Copy(io.Discard, newCheckedConn(way)) })
		}
	})
}
