package dist

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// planesOf returns two planes of n bytes: one in which there is something to be
// found, and one of noise.
func planesOf(n int, rng *rand.Rand) [][]byte {
	even, noise := make([]byte, n), make([]byte, n)
	for i := range n {
		even[i], noise[i] = byte(i/1000), byte(rng.Uint32())
	}
	return [][]byte{even, noise}
}

// TestCompressedResults checks that planes survive, and that exactly what is due
// is taken.
func TestCompressedResults(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{4, 1000, 100_000, 3 << 20} {
		planes := planesOf(n, rng)
		wrote := 0
		var c compression
		o := c.compress(outgoing{typ: typeResult, message: resultMessage{Lease: 7}, planes: planes, free: func() { wrote++ }})
		if n < 1000 {
			if m := o.message.(resultMessage); m.Encoding != encodedRaw || !slices.EqualFunc(o.planes, planes, bytes.Equal) || wrote != 0 {
				t.Errorf("%d bytes were made larger", n)
			}
			continue
		}
		if m := o.message.(resultMessage); m.Encoding != encodedZstd || m.Lease != 7 || wrote != 1 {
			t.Fatalf("%d bytes: message %+v, planes given back %d times", n, m, wrote)
		}
		data := bytes.Join(o.planes, nil)
		if len(data) > 2*n*3/4 {
			t.Errorf("%d bytes of %d are left", len(data), 2*n)
		}
		got := [][]byte{make([]byte, n), make([]byte, n)}
		if err := decompress(bytes.NewReader(data), got); err != nil || !slices.EqualFunc(got, planes, bytes.Equal) {
			t.Errorf("%d bytes came back otherwise: %v", n, err)
		}
		long := [][]byte{got[0], make([]byte, n+1)}
		if err := decompress(bytes.NewReader(data), long); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a byte too few: %v", err)
		}
		short := [][]byte{got[0], got[1][1:]}
		if err := decompress(bytes.NewReader(data), short); !errors.Is(err, ErrProtocol) {
			t.Errorf("a byte too many: %v", err)
		}
		if err := decompress(bytes.NewReader(data[:len(data)-1]), got); err == nil {
			t.Error("a frame cut short was taken")
		}
		o.free()
	}
}

// TestCompressionPays pretends connections and results.
func TestCompressionPays(t *testing.T) {
	const size = 1 << 20
	at := func(bytesPerSecond, n float64) time.Duration { return time.Duration(n / bytesPerSecond * 1e9) }
	for _, test := range []struct {
		name              string
		line, speed, left float64
		want              bool
	}{
		{"a thin line", 1e6, 400e6, 0.5, true},
		{"100 Mbit/s", 12.5e6, 400e6, 0.8, true},
		{"nothing to be found", 12.5e6, 400e6, 1, false},
		{"1 Gbit/s", 125e6, 400e6, 0.5, true},
		{"a slow compressor", 125e6, 100e6, 0.5, false},
		{"10 Gbit/s", 1250e6, 400e6, 0.1, false},
	} {
		var c compression
		if c.pays() {
			t.Errorf("%s: it pays before anything is known", test.name)
		}
		yes := 0
		const results = 1000
		for range results {
			n := float64(size)
			if c.pays() {
				yes++
				c.note(size, int64(n*test.left), at(test.speed, n))
				n *= test.left
			}
			c.sent(int64(n), at(test.line, n))
		}
		if want := map[bool]int{true: results - 1, false: 0}[test.want]; yes < want-1 || yes > want+results/tryAgain+1 {
			t.Errorf("%s: %d of %d results were compressed", test.name, yes, results)
		}
	}
}
