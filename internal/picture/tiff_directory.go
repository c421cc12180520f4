package picture

import (
	"encoding/binary"
	"fmt"
)

// A BigTIFF file is one of TIFF 6.0 (Adobe, 1992) with offsets of 64 bits: "BigTIFF
// Design", libtiff. An image file directory lists the tags of a level, and says where the
// next level's is.

// headerBytes is the length of the file's header, which says where the first directory is.
const headerBytes = 16

// The tags, in the order in which they must be.
const (
	tagNewSubfileType   = 254
	tagImageWidth       = 256
	tagImageLength      = 257
	tagBitsPerSample    = 258
	tagCompression      = 259
	tagPhotometric      = 262
	tagSamplesPerPixel  = 277
	tagXResolution      = 282
	tagYResolution      = 283
	tagPlanar           = 284
	tagResolutionUnit   = 296
	tagPredictor        = 317
	tagTileWidth        = 322
	tagTileLength       = 323
	tagTileOffsets      = 324
	tagTileByteCounts   = 325
	reducedResolution   = 1
	deflateCompression  = 8
	rgbPhotometric      = 2
	interleavedSamples  = 1
	noResolutionUnit    = 1
	horizontalPredictor = 2
)

// The types of the tags' values.
const (
	typeShort    = 3
	typeLong     = 4
	typeRational = 5
	typeLong8    = 16
)

// directory is an image file directory that is being made.
type directory struct {
	file    *appender
	entries []byte
	count   int
	err     error // the first
}

// add adds a tag with its values, as they are in the file. What is longer than the entry
// is written beside it.
func (d *directory) add(tag, kind uint16, count int, values []byte) {
	le := binary.LittleEndian
	d.count++
	d.entries = le.AppendUint16(le.AppendUint16(d.entries, tag), kind)
	d.entries = le.AppendUint64(d.entries, uint64(count))
	if len(values) <= 8 {
		d.entries = append(append(d.entries, values...), make([]byte, 8-len(values))...)
		return
	}
	d.entries = le.AppendUint64(d.entries, d.aligned(values))
}

// aligned writes data at a multiple of eight bytes, and returns where.
func (d *directory) aligned(data []byte) uint64 {
	if d.err != nil {
		return 0
	}
	if rest := d.file.at % 8; rest != 0 {
		_, d.err = d.file.append(make([]byte, 8-rest))
	}
	at := uint64(0)
	if d.err == nil {
		at, d.err = d.file.append(data)
	}
	return at
}

func (d *directory) shorts(tag uint16, values ...uint16) {
	d.add(tag, typeShort, len(values), appendAll(values, binary.LittleEndian.AppendUint16))
}

func (d *directory) longs(tag uint16, values ...uint32) {
	d.add(tag, typeLong, len(values), appendAll(values, binary.LittleEndian.AppendUint32))
}

func appendAll[T any](values []T, one func([]byte, T) []byte) (to []byte) {
	for _, v := range values {
		to = one(to, v)
	}
	return to
}

// writeDirectories writes the directories of levels, of which the largest is the first to
// be read, and the file's header.
func writeDirectories(file *appender, levels []*tiffLevel) error {
	le := binary.LittleEndian
	// A directory says where the next one is, so the last is written first.
	next := uint64(0)
	for i := len(levels) - 1; i >= 0; i-- {
		d := &directory{file: file}
		d.describe(levels[i], i > 0)
		all := append(le.AppendUint64(nil, uint64(d.count)), d.entries...)
		next = d.aligned(le.AppendUint64(all, next))
		if d.err != nil {
			return d.err
		}
	}
	header := append([]byte("II"), 43, 0, 8, 0, 0, 0) // little-endian, BigTIFF, of 8-byte offsets
	if _, err := file.w.WriteAt(le.AppendUint64(header, next), 0); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	return nil
}

// describe adds the tags of a level.
func (d *directory) describe(l *tiffLevel, reduced bool) {
	one := []byte{1, 0, 0, 0, 1, 0, 0, 0} // 1/1
	kind := uint32(0)
	if reduced {
		kind = reducedResolution
	}
	d.longs(tagNewSubfileType, kind)
	d.longs(tagImageWidth, uint32(l.width))
	d.longs(tagImageLength, uint32(l.height))
	d.shorts(tagBitsPerSample, 8, 8, 8)
	d.shorts(tagCompression, deflateCompression)
	d.shorts(tagPhotometric, rgbPhotometric)
	d.shorts(tagSamplesPerPixel, BytesPerPixel)
	d.add(tagXResolution, typeRational, 1, one)
	d.add(tagYResolution, typeRational, 1, one)
	d.shorts(tagPlanar, interleavedSamples)
	d.shorts(tagResolutionUnit, noResolutionUnit)
	d.shorts(tagPredictor, horizontalPredictor)
	d.longs(tagTileWidth, tileSide)
	d.longs(tagTileLength, tileSide)
	d.add(tagTileOffsets, typeLong8, len(l.offsets), appendAll(l.offsets, binary.LittleEndian.AppendUint64))
	d.longs(tagTileByteCounts, l.sizes...)
}
