package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// memoryFile is a file in memory.
type memoryFile struct{ data []byte }

func (f *memoryFile) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	return copy(f.data[at:], p), nil
}

func encodeTIFF(t testing.TB, r *rand.Rand, rgb []byte, width, rows int) []byte {
	t.Helper()
	var f memoryFile
	e, err := NewTIFF(&f, width, len(rgb)/width/BytesPerPixel)
	if err != nil {
		t.Fatal(err)
	}
	write(t, e, r, rgb, width, rows)
	return f.data
}

func TestTIFF(t *testing.T) {
	r := random(t, 4)
	for _, size := range sizes {
		width, height := size[0], size[1]
		want := drawn(r, width, height)
		data := encodeTIFF(t, r, want, width, 0)
		if !bytes.Equal(data, encodeTIFF(t, r, want, width, height)) {
			t.Errorf("%v: the file depends on how many rows come at a time", size)
		}
		levels, err := readTIFF(data)
		if err != nil {
			t.Errorf("%v: %v", size, err)
			continue
		}
		for i, l := range levels {
			if l.width != width || l.height != height || l.reduced != (i > 0) {
				t.Fatalf("%v: level %d is %d×%d, want %d×%d", size, i, l.width, l.height, width, height)
			}
			if !bytes.Equal(l.pixels, want) {
				t.Errorf("%v: the pixels of level %d differ", size, i)
			}
			if last := i == len(levels)-1; last != (width <= 256 && height <= 256) {
				t.Fatalf("%v: %d levels", size, len(levels))
			}
			want, width, height = meansOfFour(want, width, height)
		}
	}
}

// meansOfFour returns a picture of half the size, from the definition: a pixel is the mean of the
// up to four that are in its place.
func meansOfFour(rgb []byte, width, height int) (half []byte, w, h int) {
	w, h = (width+1)/2, (height+1)/2
	for y := range h {
		for x := range w {
			for c := range 3 {
				sum, n := 0, 0
				for dy := 2 * y; dy < min(2*y+2, height); dy++ {
					for dx := 2 * x; dx < min(2*x+2, width); dx++ {
						sum += int(rgb[(dy*width+dx)*3+c])
						n++
					}
				}
				half = append(half, byte((2*sum+n)/(2*n)))
			}
		}
	}
	return half, w, h
}

// readLevel is a level as it was read.
type readLevel struct {
	width, height int
	reduced       bool
	pixels        []byte
}

// readTIFF reads a file as the specifications say that one like ours is read: "BigTIFF Design" for
// the directories, TIFF 6.0 for the tags (sections 6 and 8), tiles (15) and differences (14). It
// shares nothing with the writer.
func readTIFF(data []byte) (levels []readLevel, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reads beyond the end: %v", r)
		}
	}()
	le := binary.LittleEndian
	if !bytes.Equal(data[:8], []byte{'I', 'I', 43, 0, 8, 0, 0, 0}) {
		return nil, fmt.Errorf("the file begins with % x", data[:8])
	}
	for at := le.Uint64(data[8:]); at != 0; {
		if at%2 != 0 {
			return nil, fmt.Errorf("a directory at %d", at)
		}
		n := le.Uint64(data[at:])
		tags := map[uint16][]uint64{}
		last := uint16(0)
		for i := range n {
			tag, values, err := readEntry(data, at+8+20*i)
			if err != nil {
				return nil, err
			}
			if tag <= last {
				return nil, fmt.Errorf("tag %d after %d", tag, last)
			}
			last = tag
			tags[tag] = values
		}
		l, err := readPixels(data, tags)
		if err != nil {
			return nil, err
		}
		levels = append(levels, l)
		at = le.Uint64(data[at+8+20*n:])
	}
	return levels, nil
}

func readEntry(data []byte, at uint64) (tag uint16, values []uint64, err error) {
	le := binary.LittleEndian
	tag, kind, count := le.Uint16(data[at:]), le.Uint16(data[at+2:]), le.Uint64(data[at+4:])
	sizes := map[uint16]uint64{3: 2, 4: 4, 5: 8, 16: 8}
	size := sizes[kind]
	if size == 0 {
		return 0, nil, fmt.Errorf("tag %d is of type %d", tag, kind)
	}
	at += 12
	if size*count > 8 {
		at = le.Uint64(data[at:])
	}
	for i := range count {
		field := make([]byte, 8)
		copy(field, data[at+i*size:][:size])
		values = append(values, le.Uint64(field))
	}
	return tag, values, nil
}

// readPixels reads the tiles of a directory with these tags.
func readPixels(data []byte, tags map[uint16][]uint64) (l readLevel, err error) {
	for tag, want := range map[uint16][]uint64{
		258: {8, 8, 8}, 259: {8}, 262: {2}, 277: {3}, 284: {1}, 296: {1}, 317: {2}, 322: {256}, 323: {256},
		282: {1 | 1<<32}, 283: {1 | 1<<32},
	} {
		if !slices.Equal(tags[tag], want) {
			return l, fmt.Errorf("tag %d is %v, want %v", tag, tags[tag], want)
		}
	}
	l = readLevel{width: int(tags[256][0]), height: int(tags[257][0]), reduced: tags[254][0]&1 == 1}
	l.pixels = make([]byte, l.width*l.height*3)
	across, down := (l.width+255)/256, (l.height+255)/256
	offsets, sizes := tags[324], tags[325]
	if len(offsets) != across*down || len(sizes) != len(offsets) {
		return l, fmt.Errorf("%d offsets and %d sizes for %d×%d tiles", len(offsets), len(sizes), across, down)
	}
	for i := range offsets {
		z, err := zlib.NewReader(bytes.NewReader(data[offsets[i]:][:sizes[i]]))
		if err != nil {
			return l, err
		}
		tile, err := io.ReadAll(z)
		if err != nil || len(tile) != 256*256*3 {
			return l, fmt.Errorf("tile %d has %d bytes: %w", i, len(tile), err)
		}
		for k := range tile {
			if x := k / 3 % 256; x > 0 {
				tile[k] += tile[k-3]
			}
			x, y := i%across*256+k/3%256, i/across*256+k/3/256
			if x < l.width && y < l.height {
				l.pixels[(y*l.width+x)*3+k%3] = tile[k]
			}
		}
	}
	return l, nil
}
