package picture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// PNG writes a picture as a PNG file, of 8 bits red, green and blue: "Portable Network
// Graphics (PNG) Specification", W3C 2003 and ISO/IEC 15948. It is not safe for concurrent
// use.
//
// Rows are collected to some MiB, filtered, and cut into pieces, which are compressed each
// by itself. Each ends at a byte, with an empty stored block ("sync flush"), and so they
// follow each other in one stream: RFC 1950, RFC 1951. A piece knows the 32 KiB before it,
// to which it may refer; so cutting costs nothing but the flushes.
type PNG struct {
	progress
	w io.Writer

	// batch holds the rows that were collected, up to its capacity, and above the row
	// before them, which is zero at the top of the picture.
	above, batch []byte

	// filtered is the batch as it is compressed, with the filter's type before each row,
	// after the end of what was compressed before: window bytes, of which the last
	// history ones count.
	filtered []byte
	history  int

	pieces []*pngPiece
	begun  bool   // the stream has
	adler  uint32 // of all that was compressed
}

const (
	// batchBytes is about what is collected: pieces enough for many cores.
	batchBytes = 8 << 20

	// pieceBytes is what is compressed at once, and so about how much is in a chunk of
	// the file at most.
	pieceBytes = 256 << 10

	// window is how far back deflate can refer.
	window = 32 << 10
)

// NewPNG returns a PNG of that size, and writes its beginning to w.
func NewPNG(w io.Writer, width, height int) (*PNG, error) {
	progress, err := newProgress(width, height)
	if err != nil {
		return nil, err
	}
	p := &PNG{progress: progress, w: w, adler: 1}
	rows := min(max(1, batchBytes/p.stride()), height)
	p.above = make([]byte, p.stride())
	p.batch = make([]byte, 0, rows*p.stride())
	p.filtered = make([]byte, window+rows*(1+p.stride()))
	header := make([]byte, 0, 13)
	header = binary.BigEndian.AppendUint32(header, uint32(width))
	header = binary.BigEndian.AppendUint32(header, uint32(height))
	header = append(header, 8, 2, 0, 0, 0) // bits, truecolour; deflate, filters, not interlaced
	if _, err := io.WriteString(w, "\x89PNG\r\n\x1a\n"); err != nil {
		return nil, err
	}
	_, err = w.Write(appendChunk(nil, "IHDR", header))
	return p, err
}

// WriteRows adds the next rows, of BytesPerPixel bytes a pixel: any number of whole ones.
// The error matches ErrRows, or is w's.
func (p *PNG) WriteRows(rgb []byte) error {
	if err := p.take(rgb); err != nil {
		return err
	}
	for len(rgb) > 0 {
		n := min(cap(p.batch)-len(p.batch), len(rgb))
		p.batch = append(p.batch, rgb[:n]...)
		rgb = rgb[n:]
		if len(p.batch) == cap(p.batch) {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close writes the end of the file; w stays open. The error matches ErrRows if rows are
// missing, or is w's.
func (p *PNG) Close() error {
	if err := p.whole(); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	end := binary.BigEndian.AppendUint32([]byte{3, 0}, p.adler) // an empty last block
	_, err := p.w.Write(appendChunk(appendChunk(nil, "IDAT", end), "IEND", nil))
	return err
}

// flush compresses and writes the batch.
func (p *PNG) flush() error {
	stride := p.stride()
	rows := len(p.batch) / stride
	each(rows, func(j int) error {
		row, above := p.batch[j*stride:][:stride], p.above
		if j > 0 {
			above = p.batch[(j-1)*stride:][:stride]
		}
		filter(p.filtered[window+j*(1+stride):][:1+stride], row, above)
		return nil
	})
	data := window + rows*(1+stride)
	pieces := (data - window + pieceBytes - 1) / pieceBytes
	for len(p.pieces) < pieces {
		p.pieces = append(p.pieces, new(pngPiece))
	}
	err := each(pieces, func(i int) error {
		from := window + i*pieceBytes
		to := min(from+pieceBytes, data)
		first := from - min(window, p.history+from-window)
		return p.pieces[i].compress(p.filtered[from:to], p.filtered[first:from], i == 0 && !p.begun)
	})
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	for _, piece := range p.pieces[:pieces] {
		if _, err := p.w.Write(piece.chunk.Bytes()); err != nil {
			return err
		}
		p.adler = joinAdler(p.adler, piece.adler, piece.length)
		p.begun = true
	}
	p.keep(data)
	return nil
}

// keep keeps of the batch what the next one refers to.
func (p *PNG) keep(data int) {
	if len(p.batch) == 0 {
		return
	}
	copy(p.above, p.batch[len(p.batch)-p.stride():])
	p.batch = p.batch[:0]
	p.history = min(window, p.history+data-window)
	copy(p.filtered[:window], p.filtered[data-window:data])
}

// filter writes the type of a filter and row by that filter to to: PNG, section 9. It is
// Up, which predicts a pixel by the one above it. Of pictures of the Mandelbrot set it made
// smaller files than any other, and than the better of Up and Sub for each row.
func filter(to, row, above []byte) {
	const (
		up = 2
		// highs are the highest bits of eight bytes, which are kept from borrowing from
		// each other by setting them, and are then put right.
		highs = 0x8080808080808080
	)
	to[0] = up
	to = to[1:][:len(row)]
	above = above[:len(row)]
	le := binary.LittleEndian
	i := 0
	for ; i+8 <= len(row); i += 8 {
		x, y := le.Uint64(row[i:]), le.Uint64(above[i:])
		le.PutUint64(to[i:], ((x|highs)-(y&^highs))^((x^^y)&highs))
	}
	for ; i < len(row); i++ {
		to[i] = row[i] - above[i]
	}
}

// pngPiece is a piece of the compressed stream, as a chunk of the file.
type pngPiece struct {
	chunk  bytes.Buffer
	adler  uint32
	length int // before compression
}

// compress makes the piece of data, which follow history. The first one has the stream's
// header.
func (p *pngPiece) compress(data, history []byte, first bool) error {
	p.adler, p.length = adler32.Checksum(data), len(data)
	p.chunk.Reset()
	p.chunk.Write(make([]byte, 4)) // the length, to come
	p.chunk.WriteString("IDAT")
	if first {
		p.chunk.Write([]byte{0x78, 0x01}) // deflate with a window of 32 KiB, quickest
	}
	if err := deflate(&p.chunk, data, history); err != nil {
		return err
	}
	b := p.chunk.Bytes()
	binary.BigEndian.PutUint32(b, uint32(len(b)-8))
	return binary.Write(&p.chunk, binary.BigEndian, crc32.ChecksumIEEE(b[4:]))
}

// compressors are flate.Writers, which are large, to be used again.
var compressors sync.Pool

// deflate appends data to b, compressed, up to a byte.
func deflate(b *bytes.Buffer, data, history []byte) error {
	c, ok := compressors.Get().(*flate.Writer)
	if !ok {
		var err error
		if c, err = flate.NewWriter(b, compressionLevel); err != nil {
			return err
		}
	}
	defer compressors.Put(c)
	c.ResetDict(b, history)
	if _, err := c.Write(data); err != nil {
		return err
	}
	return c.Flush()
}

// appendChunk appends a chunk of a PNG file.
func appendChunk(to []byte, kind string, data []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(data)))
	start := len(to)
	to = append(append(to, kind...), data...)
	return binary.BigEndian.AppendUint32(to, crc32.ChecksumIEEE(to[start:]))
}

// joinAdler returns the Adler-32 of two sequences of bytes, one after the other, from
// theirs and the length of the second. Of the two sums that it has, the first is that of
// the bytes, plus one, and the second that of all values of the first: RFC 1950, section 8.2.
func joinAdler(first, second uint32, length int) uint32 {
	const mod = 65521
	a1, b1 := uint64(first&0xffff), uint64(first>>16)
	a2, b2 := uint64(second&0xffff), uint64(second>>16)
	a := (a1 + a2 + mod - 1) % mod
	b := (b1 + b2 + uint64(length)%mod*(a1+mod-1)) % mod
	return uint32(b<<16 | a)
}
