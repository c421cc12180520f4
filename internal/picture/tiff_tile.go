package picture

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"io"
)

// tiffTile is a tile as it is in the file: differences of neighbours, compressed.
type tiffTile struct {
	pixels [tileSide * tileStride]byte
	data   bytes.Buffer
}

// compress makes tile i of the rows that l has: a zlib stream of its own (Adobe Photoshop
// TIFF Technical Notes, 2002), with the horizontal predictor (TIFF 6.0, section 14).
func (t *tiffTile) compress(l *tiffLevel, i int) error {
	t.cut(l, i)
	for y := range tileSide {
		difference(t.pixels[y*tileStride:][:tileStride])
	}
	t.data.Reset()
	t.data.Write([]byte{0x78, 0x01})
	if err := deflate(&t.data, t.pixels[:], nil); err != nil {
		return err
	}
	t.data.Write([]byte{3, 0}) // an empty last block
	return binary.Write(&t.data, binary.BigEndian, adler32.Checksum(t.pixels[:]))
}

// cut copies the pixels of tile i. Beyond the picture's edge are copies of the pixels at
// the edge: readers ignore them, and they take next to nothing.
func (t *tiffTile) cut(l *tiffLevel, i int) {
	stride := l.stride()
	rows := len(l.rows) / stride
	left := i * tileStride
	n := min(tileStride, stride-left)
	for y := range tileSide {
		to := t.pixels[y*tileStride:][:tileStride]
		copy(to[:n], l.rows[min(y, rows-1)*stride+left:])
		for x := n; x < tileStride; x++ {
			to[x] = to[x-BytesPerPixel]
		}
	}
}

// difference replaces every pixel of a row but the first by its difference to the one
// before.
func difference(row []byte) {
	r, g, b := row[0], row[1], row[2]
	for i := BytesPerPixel; i+2 < len(row); i += BytesPerPixel {
		r1, g1, b1 := row[i], row[i+1], row[i+2]
		row[i], row[i+1], row[i+2] = r1-r, g1-g, b1-b
		r, g, b = r1, g1, b1
	}
}

// appender writes to the end of a file.
type appender struct {
	w  io.WriterAt
	at int64
}

// append writes data and returns where.
func (a *appender) append(data []byte) (at uint64, err error) {
	if _, err := a.w.WriteAt(data, a.at); err != nil {
		return 0, err
	}
	at = uint64(a.at)
	a.at += int64(len(data))
	return at, nil
}
