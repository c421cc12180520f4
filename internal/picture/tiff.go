package picture

import (
	"fmt"
	"io"
)

// TIFF writes a picture as a BigTIFF file with a pyramid: tiles of 256×256 pixels of 8 bits
// red, green and blue, of the picture itself and of copies of half its size, a quarter and
// so on, down to one that is a single tile. So a viewer that shows a part of it, or all of
// it made small, reads a few tiles only. It is not safe for concurrent use.
//
// A tile can be written only when its last row has come, so 256 rows of each level are
// kept: 1.5 KiB for each column of the picture. Tiles are written as they become complete,
// in an order that only depends on the picture; the end of the file says where they are.
type TIFF struct {
	progress
	file   appender
	levels []*tiffLevel
	tiles  []*tiffTile // that are compressed at the same time
}

const (
	tileSide   = 256
	tileStride = tileSide * BytesPerPixel

	// tilesAtOnce is enough for many cores.
	tilesAtOnce = 64
)

// tiffLevel is the picture itself, or one that is smaller.
type tiffLevel struct {
	width, height int

	// rows holds those that are not yet in the file, below the done ones: a row of tiles
	// at most, which is its capacity.
	rows []byte
	done int

	offsets []uint64 // of the tiles, from left to right and top to bottom
	sizes   []uint32
}

func (l *tiffLevel) stride() int { return l.width * BytesPerPixel }

// across returns how many tiles there are from left to right.
func (l *tiffLevel) across() int { return (l.width + tileSide - 1) / tileSide }

// NewTIFF returns a TIFF of that size that is written to w, from offset 0 on.
func NewTIFF(w io.WriterAt, width, height int) (*TIFF, error) {
	progress, err := newProgress(width, height)
	if err != nil {
		return nil, err
	}
	t := &TIFF{progress: progress, file: appender{w: w, at: headerBytes}}
	for {
		l := &tiffLevel{width: width, height: height}
		l.rows = make([]byte, 0, min(tileSide, height)*l.stride())
		t.levels = append(t.levels, l)
		if width <= tileSide && height <= tileSide {
			break
		}
		width, height = (width+1)/2, (height+1)/2
	}
	t.tiles = make([]*tiffTile, min(tilesAtOnce, t.levels[0].across()))
	for i := range t.tiles {
		t.tiles[i] = new(tiffTile)
	}
	return t, nil
}

// WriteRows adds the next rows, of BytesPerPixel bytes a pixel: any number of whole ones.
// The error matches ErrRows, or is w's.
func (t *TIFF) WriteRows(rgb []byte) error {
	if err := t.take(rgb); err != nil {
		return err
	}
	l := t.levels[0]
	for len(rgb) > 0 {
		n := min(cap(l.rows)-len(l.rows), len(rgb))
		l.rows = append(l.rows, rgb[:n]...)
		rgb = rgb[n:]
		if err := t.flush(0); err != nil {
			return err
		}
	}
	return nil
}

// Close writes the end of the file, and then its beginning; w stays open. The error
// matches ErrRows if rows are missing, or is w's.
func (t *TIFF) Close() error {
	if err := t.whole(); err != nil {
		return err
	}
	return writeDirectories(&t.file, t.levels)
}

// flush writes the tiles of a level that are complete, and makes rows of the next level
// of them.
func (t *TIFF) flush(level int) error {
	l := t.levels[level]
	rows := len(l.rows) / l.stride()
	if rows < tileSide && l.done+rows < l.height {
		return nil
	}
	if err := t.writeTiles(l); err != nil {
		return err
	}
	l.done += rows
	if level+1 < len(t.levels) {
		t.levels[level+1].addHalf(l)
		if err := t.flush(level + 1); err != nil {
			return err
		}
	}
	l.rows = l.rows[:0]
	return nil
}

// writeTiles compresses a row of tiles, some at once, and appends them to the file.
func (t *TIFF) writeTiles(l *tiffLevel) error {
	for first := 0; first < l.across(); first += len(t.tiles) {
		tiles := t.tiles[:min(len(t.tiles), l.across()-first)]
		err := each(len(tiles), func(i int) error { return tiles[i].compress(l, first+i) })
		if err != nil {
			return fmt.Errorf("compress: %w", err)
		}
		for _, tile := range tiles {
			at, err := t.file.append(tile.data.Bytes())
			if err != nil {
				return err
			}
			l.offsets = append(l.offsets, at)
			l.sizes = append(l.sizes, uint32(tile.data.Len()))
		}
	}
	return nil
}

// addHalf adds the rows of from in half the size. The level has room for them: two rows
// of the larger level's tiles make one of its own, and what is complete is written at once.
func (l *tiffLevel) addHalf(from *tiffLevel) {
	stride, wide := l.stride(), from.stride()
	rows := len(from.rows) / wide
	before := len(l.rows)
	l.rows = l.rows[:before+(rows+1)/2*stride]
	each((rows+1)/2, func(j int) error {
		upper, lower := from.rows[2*j*wide:][:wide], from.rows[min(2*j+1, rows-1)*wide:][:wide]
		halve(l.rows[before+j*stride:][:stride], upper, lower)
		return nil
	})
}

// halve makes a row of the means of two by two pixels of two rows, rounded half up. A last
// column that is alone counts twice, which makes no difference to the mean.
func halve(to, upper, lower []byte) {
	n := len(upper) / BytesPerPixel / 2 * BytesPerPixel // without a lone column
	lower = lower[:len(upper)]
	for i := 0; i < n; i += BytesPerPixel {
		u, l, t := upper[2*i:][:2*BytesPerPixel], lower[2*i:][:2*BytesPerPixel], to[i:][:BytesPerPixel]
		t[0] = byte((int(u[0]) + int(u[3]) + int(l[0]) + int(l[3]) + 2) / 4)
		t[1] = byte((int(u[1]) + int(u[4]) + int(l[1]) + int(l[4]) + 2) / 4)
		t[2] = byte((int(u[2]) + int(u[5]) + int(l[2]) + int(l[5]) + 2) / 4)
	}
	for i := n; i < len(to); i++ {
		to[i] = byte((int(upper[i+n]) + int(lower[i+n]) + 1) / 2)
	}
}
