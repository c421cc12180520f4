package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/kernels"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Job says what a folder keeps.
type Job struct {
	// Title is what people know the job by.
	Title string `json:"title"`

	// Identity is the same for jobs with the same bits in the same places.
	Identity string `json:"identity"`

	Width  int             `json:"width"`
	Height int             `json:"height"`
	Planes []kernels.DType `json:"planes"`

	// Head is what the output begins with, before the planes.
	Head []byte `json:"head,omitempty"`
}

// bounds returns all of the job as a tile.
func (job Job) bounds() kernels.Tile { return kernels.Tile{W: job.Width, H: job.Height} }

// MostPlanes is how many planes a job has at most.
const MostPlanes = 16

// check returns an error if there is no such job.
func (job Job) check() error {
	size := float64(len(job.Head))
	for _, p := range job.Planes {
		if !p.Valid() {
			return fmt.Errorf("a plane of type %v", p)
		}
		size += float64(job.Width) * float64(job.Height) * float64(p.Size())
	}
	if job.Width < 1 || job.Height < 1 || len(job.Planes) < 1 || len(job.Planes) > MostPlanes || size > math.MaxInt64/2 {
		return fmt.Errorf("a job of %d×%d elements and %d planes", job.Width, job.Height, len(job.Planes))
	}
	return nil
}

// layout returns where the planes are in the output.
func (job Job) layout() (planes []output.Plane) {
	at := int64(len(job.Head))
	for _, p := range job.Planes {
		planes = append(planes, output.Plane{At: at, Width: job.Width, Element: p.Size()})
		at += int64(job.Width) * int64(job.Height) * int64(p.Size())
	}
	return planes
}

// size returns the bytes of the output.
func (job Job) size() int64 {
	size := int64(len(job.Head))
	for _, p := range job.Planes {
		size += int64(job.Width) * int64(job.Height) * int64(p.Size())
	}
	return size
}

// header is what a journal begins with.
type header struct {
	// ID is random, and part of each record's sum: what a disk has kept of another
	// journal is no record of this one.
	ID    uint64    `json:"id"`
	Began time.Time `json:"began"`
	Job   Job       `json:"job"`
}

// magic is how a journal begins; then come the length of the header, as JSON, its CRC-32C,
// both of four bytes, the header, and records. All integers are little-endian.
const magic = "gpurun journal 1\n"

// mostHeader bounds the length of a header.
const mostHeader = 1 << 20

func newHeader(job Job) header { return header{ID: rand.Uint64(), Began: time.Now(), Job: job} }

func (h header) encode() []byte {
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	out := []byte(magic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(text, castagnoli))
	return append(out, text...)
}

// decodeHeader reads a header, and returns how long it is.
func decodeHeader(r io.Reader) (h header, length int64, err error) {
	start := make([]byte, len(magic)+8)
	if _, err := io.ReadFull(r, start); err != nil {
		return h, 0, fmt.Errorf("%w: it is too short", ErrDamaged)
	}
	size, sum := binary.LittleEndian.Uint32(start[len(magic):]), binary.LittleEndian.Uint32(start[len(magic)+4:])
	if string(start[:len(magic)]) != magic || size > mostHeader {
		return h, 0, fmt.Errorf("%w: it does not begin as one of this version of gpurun does", ErrDamaged)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil || crc32.Checksum(text, castagnoli) != sum {
		return h, 0, fmt.Errorf("%w: its beginning has been changed", ErrDamaged)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := h.Job.check(); err != nil {
		return h, 0, fmt.Errorf("%w: it is of %w", ErrDamaged, err)
	}
	h.Job.Title = printable(h.Job.Title)
	return h, int64(len(start)) + int64(size), nil
}

// printable returns s as it can be shown on a terminal: names of files can be anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// kind is what a record says.
type kind uint32

const (
	kindRun        kind = 1 + iota // a process begins to work on the job
	kindDone                       // the tile is in the output
	kindVoid                       // it was, and does not count any more
	kindDelivering                 // all of it is: the output is about to become the result
	kindFinished                   // the result is safe elsewhere
)

// record is one of a journal.
type record struct {
	kind kind
	tile kernels.Tile
	sum  uint32 // the CRC-32C of the tile's elements, one plane after the other
	time time.Time
}

// recordBytes is the length of a record: kind and sum, of four bytes; x, y, w, h and the
// nanoseconds since 1970, of eight; four of 0; and the CRC-32C of the journal's ID, of the
// number of the record and of all that.
const recordBytes = 56

func (r record) encode(id, number uint64) []byte {
	out := binary.LittleEndian.AppendUint32(make([]byte, 0, recordBytes), uint32(r.kind))
	out = binary.LittleEndian.AppendUint32(out, r.sum)
	for _, n := range []int{r.tile.X, r.tile.Y, r.tile.W, r.tile.H, int(r.time.UnixNano())} {
		out = binary.LittleEndian.AppendUint64(out, uint64(n))
	}
	out = binary.LittleEndian.AppendUint32(out, 0)
	return binary.LittleEndian.AppendUint32(out, recordSum(out, id, number))
}

func recordSum(text []byte, id, number uint64) uint32 {
	place := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, id), number)
	return crc32.Update(crc32.Checksum(place, castagnoli), castagnoli, text)
}

// decodeRecord returns the record in text, or false if that is none of the job.
func decodeRecord(text []byte, id, number uint64, job Job) (r record, ok bool) {
	body := text[:recordBytes-4]
	if binary.LittleEndian.Uint32(text[recordBytes-4:]) != recordSum(body, id, number) {
		return r, false
	}
	at := func(i int) int { return int(binary.LittleEndian.Uint64(body[8+8*i:])) }
	r = record{
		kind: kind(binary.LittleEndian.Uint32(body)), sum: binary.LittleEndian.Uint32(body[4:]),
		tile: kernels.Tile{X: at(0), Y: at(1), W: at(2), H: at(3)}, time: time.Unix(0, int64(at(4))),
	}
	t := r.tile
	switch r.kind {
	case kindRun, kindDelivering, kindFinished:
		return r, t == kernels.Tile{}
	case kindDone, kindVoid:
		return r, !t.Empty() && t.X >= 0 && t.Y >= 0 && job.bounds().Contains(t)
	}
	return r, false
}

// log is what a journal says.
type log struct {
	header     header
	done       []doneTile
	delivering bool
	finished   bool
	runs       int
	began      time.Time // the last run
	before     int       // how many of done were then
	last       time.Time // the last record
	count      uint64
	end        int64 // of the last whole record
}

// doneTile is a tile that is said to be in the output, by the record with that number.
type doneTile struct {
	tile   kernels.Tile
	sum    uint32
	number uint64
}

// readLog reads the journal at path. The records end where one is not whole.
func readLog(path string) (*log, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	l, err := decodeLog(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: remove the folder %s to begin anew", path, err, filepath.Dir(path))
	}
	return l, nil
}

func decodeLog(text []byte) (*log, error) {
	h, length, err := decodeHeader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	l := &log{header: h, end: length, began: h.Began, last: h.Began}
	for rest := text[length:]; len(rest) >= recordBytes; rest = rest[recordBytes:] {
		r, ok := decodeRecord(rest[:recordBytes], h.ID, l.count, h.Job)
		if !ok {
			break
		}
		l.take(r)
		l.count++
		l.end += recordBytes
	}
	return l, nil
}

// take takes r in, which follows what was taken before.
func (l *log) take(r record) {
	l.last = r.time
	switch r.kind {
	case kindRun:
		l.runs++
		l.began, l.before = r.time, len(l.done)
	case kindDone:
		l.done = append(l.done, doneTile{r.tile, r.sum, l.count})
	case kindDelivering:
		l.delivering = true
	case kindFinished:
		l.finished = true
	}
}

// writeWhole writes a file that appears whole or not at all.
func writeWhole(path string, text []byte) error {
	f, err := output.Create(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(text); err != nil {
		return output.Cause(err)
	}
	return f.Commit()
}
