package dist

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Results and panels are compressed where that brings them over sooner: on a connection
// that is slower than the compressor, for those in which there is something
// to be found. Both are measured on what is sent itself.

// encodingType says how the planes of a result are on the wire.
type encodingType uint8

const (
	encodedRaw  encodingType = iota // as they are, one behind the other
	encodedZstd                     // so, in zstd frames (RFC 8878)
)

// zstdWindow bounds the memory that a frame takes to be read.
const zstdWindow = 1 << 20

// compressor is an encoder with what it has made last.
type compressor struct {
	*zstd.Encoder
	out []byte
}

// One goroutine each: hosts have their cores busy with tiles.
var (
	compressors = sync.Pool{New: func() any {
		return &compressor{Encoder: must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(false)))}
	}}
	decompressors = sync.Pool{New: func() any {
		return must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow)))
	}}
)

// compression decides which results of a session are compressed.
type compression struct {
	mu sync.Mutex

	line    rate    // bytes a second that the connection takes
	speed   rate    // bytes a second that the compressor takes
	in, out float64 // bytes that it took and made, the last ones most
	skipped int     // results running that were not compressed
}

const (
	// What compression is taken to be until it has been tried.
	assumedSpeed = 400e6
	assumedLeft  = 0.5 // of the bytes

	// worthwhile is how many times as fast it must be to compress.
	worthwhile = 1.1

	// tryAgain is after how many results it is tried again.
	tryAgain = 32
)

// sent notes that the connection took so long for bytes.
func (c *compression) sent(bytes int64, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line.add(float64(bytes), took)
}

// pays reports whether the next result is to be compressed.
func (c *compression) pays() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	line, speed, left := c.line.perSecond(), c.speed.perSecond(), c.out/max(1, c.in)
	if line == 0 {
		return false
	}
	if speed == 0 {
		speed = assumedSpeed
	}
	if c.in == 0 || c.skipped >= tryAgain {
		left = assumedLeft
	}
	pays := (1/speed+left/line)*worthwhile < 1/line
	if c.skipped++; pays {
		c.skipped = 0
	}
	return pays
}

// compress returns o, a result or a panel, with its planes compressed if that makes them
// smaller.
func (c *compression) compress(o outgoing) outgoing {
	z := compressors.Get().(*compressor)
	began, size := time.Now(), planesSize(o.planes)
	z.out = z.out[:0]
	for _, plane := range o.planes {
		z.out = z.EncodeAll(plane, z.out)
	}
	c.note(size, int64(len(z.out)), time.Since(began))
	if int64(len(z.out)) >= size {
		compressors.Put(z)
		return o
	}
	if o.free != nil {
		o.free()
	}
	switch m := o.message.(type) {
	case resultMessage:
		m.Encoding = encodedZstd
		o.message = m
	case panelMessage:
		m.Encoding = encodedZstd
		o.message = m
	}
	o.planes, o.free = [][]byte{z.out}, func() { compressors.Put(z) }
	return o
}

// note takes in that the compressor made out bytes of in, and how long it took.
func (c *compression) note(in, out int64, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.speed.add(float64(in), took)
	c.in, c.out = c.in*memory+float64(in), c.out*memory+float64(out)
}

// decompress reads from r, to its end, planes that were compressed.
func decompress(r io.Reader, planes [][]byte) error {
	z := decompressors.Get().(*zstd.Decoder)
	defer func() {
		_ = z.Reset(nil) // it lets go of r
		decompressors.Put(z)
	}()
	err := z.Reset(r)
	for _, plane := range planes {
		if err == nil {
			_, err = io.ReadFull(z, plane)
		}
	}
	if err == nil {
		var more [1]byte
		if _, err = io.ReadFull(z, more[:]); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			return protocolError("what was compressed has more than is due")
		}
	}
	return fmt.Errorf("decompress: %w", err)
}
