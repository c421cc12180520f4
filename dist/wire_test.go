package dist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// TestFrames checks that a frame survives the wire, and that lengths are looked
// at before memory is taken.
func TestFrames(t *testing.T) {
	lease := leaseMessage{Lease: 1 << 60, Job: 7, X: 1, Y: 2, W: 3, H: 1 << 29}
	b, err := appendFrame(nil, typeLease, lease, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := readFrame(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var got leaseMessage
	if err := f.decode(&got); err != nil || got != lease || f.typ != typeLease {
		t.Errorf("%+v became %+v, %v", lease, got, err)
	}
	header := func(typ byte, message uint32, bulk uint64) []byte {
		h := []byte{typ, 0, 0, 0}
		h = binary.LittleEndian.AppendUint32(h, message)
		return binary.LittleEndian.AppendUint64(h, bulk)
	}
	for name, bad := range map[string][]byte{
		"no such type":       header(200, 0, 0),
		"type 0":             header(0, 0, 0),
		"reserved bytes":     {byte(typeLease), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a long message":     header(byte(typeLease), maxMessage+1, 0),
		"a very long begin":  header(byte(typeBegin), maxBegin+1, 0),
		"bulk with a lease":  header(byte(typeLease), 0, 1),
		"more than 2^31":     header(byte(typeResult), 0, maxBulk+1),
		"more than can be":   header(byte(typeResult), 0, 1<<63),
		"the end":            header(byte(typeLease), 10, 0),
		"half of the header": header(byte(typeLease), 10, 0)[:7],
	} {
		if f, err := readFrame(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: read %+v", name, f)
		} else if strings.HasPrefix(name, "the end") || strings.HasPrefix(name, "half") {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJobsOnTheWire(t *testing.T) {
	want := remoteJob()
	want.Julia, want.CRe, want.CIm = true, -0.75, 0.125
	spec, err := encodeJob(want)
	if err != nil {
		t.Fatal(err)
	}
	job, err := decodeJob("mandelbrot", spec)
	if err != nil {
		t.Fatal(err)
	}
	got := job.(*kernels.Mandelbrot)
	if !slices.Equal(got.CX, want.CX) || !slices.Equal(got.CY, want.CY) || got.MaxIter != want.MaxIter || got.R2 != want.R2 ||
		got.T != want.T || !got.Julia || got.CRe != want.CRe || got.CIm != want.CIm || !got.Magnitudes {
		t.Errorf("%+v became %+v", want, got)
	}
	if _, err := decodeJob("nonsense", spec); !errors.Is(err, ErrProtocol) {
		t.Errorf("an unknown kernel: %v", err)
	}
	if _, err := encodeJob(fakeJob{1, 1}); err == nil {
		t.Error("a job without an encoding was encoded")
	}
}

// boundMessage is a message that a peer may send, or not.
type boundMessage struct {
	typ     messageType
	message []byte
	good    bool
}

func boundMessages() map[string]boundMessage {
	cbor := func(parts ...any) (b []byte) {
		for _, p := range parts {
			switch p := p.(type) {
			case int:
				b = append(b, byte(p))
			case []byte:
				b = append(b, p...)
			}
		}
		return b
	}
	pairs := func(n int) []byte { // with keys that mean nothing
		b := []byte{0xb8, byte(n)}
		for i := range n {
			b = append(b, 0x19, 1, byte(i), 0)
		}
		return b
	}
	devices := func(n int) []byte {
		return cbor(0xa1, 3, 0x99, n>>8, n&0xff, bytes.Repeat([]byte{0xa0}, n))
	}
	nested := func(n int) []byte { return cbor(0xa1, 0x18, 99, bytes.Repeat([]byte{0x81}, n), 0) }
	return map[string]boundMessage{
		"nothing":                  {typeEnd, nil, false},
		"no map":                   {typeEnd, cbor(0x01), false},
		"an empty map":             {typeEnd, cbor(0xa0), true},
		"a byte too many":          {typeEnd, cbor(0xa1, 1, 5, 0), false},
		"a map without its end":    {typeEnd, cbor(0xa1, 1), false},
		"an indefinite map":        {typeEnd, cbor(0xbf, 1, 5, 0xff), false},
		"an indefinite text":       {typeFailed, cbor(0xa1, 3, 0x7f, 0x61, 'a', 0xff), false},
		"an indefinite array":      {typeHello, cbor(0xa1, 3, 0x9f, 0xff), false},
		"indefinite, key unknown":  {typeEnd, cbor(0xa1, 0x18, 99, 0x9f, 0xff), false},
		"a tag":                    {typeEnd, cbor(0xa1, 1, 0xc2, 0x41, 5), false},
		"a key twice":              {typeEnd, cbor(0xa2, 1, 5, 1, 5), false},
		"a key twice in a device":  {typeHello, cbor(0xa1, 3, 0x81, 0xa2, 4, 1, 4, 2), false},
		"a key twice in a lease":   {typeLease, cbor(0xa6, 1, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6), false},
		"128 devices":              {typeHello, devices(128), true},
		"129 devices":              {typeHello, devices(129), false},
		"64 pairs":                 {typeEnd, pairs(64), true},
		"65 pairs":                 {typeEnd, pairs(65), false},
		"8 levels":                 {typeEnd, nested(7), true},
		"9 levels":                 {typeEnd, nested(8), false},
		"an array of 2^63":         {typeHello, cbor(0xa1, 3, 0x9b, 0x80, make([]byte, 7)), false},
		"a text of 2^31":           {typeFailed, cbor(0xa1, 3, 0x7a, 0x80, 0, 0, 0), false},
		"a text that is none":      {typeFailed, cbor(0xa1, 3, 0x61, 0xff), false},
		"bytes for a text":         {typeFailed, cbor(0xa1, 3, 0x41, 'a'), false},
		"a text for a number":      {typeEnd, cbor(0xa1, 1, 0x61, '5'), false},
		"a fraction for a number":  {typeEnd, cbor(0xa1, 1, 0xf9, 0x3e, 0), false},
		"a job below 0":            {typeEnd, cbor(0xa1, 1, 0x20), false},
		"a width of 2^63":          {typeLease, cbor(0xa1, 5, 0x1b, 0x80, make([]byte, 7)), false},
		"a width of 2^63, all set": {typeLease, cbor(0xa6, 1, 1, 2, 2, 3, 3, 4, 4, 5, 0x1b, 0x80, make([]byte, 7), 6, 6), false},
		"a lease of 2^64-1":        {typeLease, cbor(0xa1, 1, 0x1b, bytes.Repeat([]byte{0xff}, 8)), true},
		"a number without its end": {typeLease, cbor(0xa6, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 0x1b, 0), false},
	}
}

// TestMessageBounds checks that whatever a peer could make large, or ambiguous,
// is refused, and that what is at the bound is not.
func TestMessageBounds(t *testing.T) {
	for name, test := range boundMessages() {
		in := frame{typ: test.typ, message: test.message}
		if err := in.decode(messageOf(test.typ)); (err == nil) != test.good || err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		allocates(t, messageFactor*len(test.message)+decodingBase, name, func() { _ = in.decode(messageOf(test.typ)) })
	}
}
