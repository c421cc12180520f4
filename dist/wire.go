package dist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/gpurun/gpurun/kernels"
)

// This file is the encoding of what spec.md describes: frames, and the messages
// in them.

// protocolVersion changes when frames or messages do.
const protocolVersion = 4

// preamble is what either side of a session sends first.
const preamble = "gpurun\x00" + string(rune(protocolVersion))

// messageType is the first byte of a frame.
type messageType uint8

const (
	typeHello messageType = iota + 1
	typeBegin
	typeBegan
	typeEnd
	typeLease
	typeCancel
	typeResult
	typeFailed
	typePing
	typeDrain
	typeProgress
	typeFetch
	typePanel

	typeLast = typePanel
)

const (
	// frameHeader is the length of a frame's header: the type, three bytes that
	// are zero, and the lengths of the message, in 4 bytes, and of the bulk data
	// behind it, in 8, little-endian.
	frameHeader = 16

	// maxMessage and maxBegin bound a message before it is read: a job may have
	// long axes, nothing else is long.
	maxMessage = 64 << 10
	maxBegin   = 32 << 20

	// maxSpec bounds the description of a job, beside which a begin has little.
	maxSpec = maxBegin - 256

	// longestError is how much is sent of the text of an error: far less than a
	// message may have, as thousands may wait for a peer that is slow to read.
	longestError = 4 << 10

	// maxDevices bounds the devices of a host: each takes the axes of a job.
	maxDevices = 64

	// MaxFunctionBytes bounds the names of the functions in Go that a host has for kernels of users,
	// each with a newline behind it.
	MaxFunctionBytes = 32 << 10

	// maxBulk bounds the bulk data of a result, and maxPanel that of a panel. No
	// other frame has any.
	maxBulk  = 1 << 31
	maxPanel = 4 << 20
)

// ErrProtocol is matched by the error about a peer that does not speak the
// protocol, or breaks it.
var ErrProtocol = errors.New("the peer does not keep to the protocol")

// protocolError returns an error that matches ErrProtocol.
func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// The messages. Keys of CBOR maps are small integers; unknown ones are ignored.

// helloMessage opens a session.
type helloMessage struct {
	Kernels int          `cbor:"1,keyasint"` // kernels.Version
	Name    string       `cbor:"2,keyasint"` // of the host, or of the coordinator's machine
	Devices []DeviceInfo `cbor:"3,keyasint"` // of the host; none from a coordinator
}

// DeviceInfo describes a device of a host.
type DeviceInfo struct {
	ID     string `cbor:"1,keyasint"`
	Kind   string `cbor:"2,keyasint"`
	Name   string `cbor:"3,keyasint"`
	Slots  int    `cbor:"4,keyasint"`
	Driver string `cbor:"5,keyasint"`
	Units  int    `cbor:"6,keyasint"`
	Memory int64  `cbor:"7,keyasint"`
	F32    string `cbor:"8,keyasint"`
	F64    string `cbor:"9,keyasint"`

	// Of kernels of users: whether it runs those in OpenCL C, and the names of the functions in Go
	// that it has, each with a newline behind it.
	Source    bool   `cbor:"10,keyasint,omitempty"`
	Functions string `cbor:"11,keyasint,omitempty"`
}

// beginMessage makes a device of a host begin a job.
type beginMessage struct {
	Job    uint64 `cbor:"1,keyasint"` // chosen by the coordinator: one for each job and device
	Device int    `cbor:"2,keyasint"` // index into the host's devices
	Kernel string `cbor:"3,keyasint"`
	Spec   []byte `cbor:"4,keyasint"` // see encodeJob

	// Operands is a number for those of a product, chosen by the coordinator: the same
	// on all devices of a host on which the product is begun. It is 0 for a job
	// without.
	Operands uint64 `cbor:"5,keyasint,omitempty"`
}

// beganMessage answers a beginMessage.
type beganMessage struct {
	Job   uint64 `cbor:"1,keyasint"`
	Error string `cbor:"2,keyasint,omitempty"`

	// The tiles that suit the device: see tiler.Grid. They are 0 where any do.
	StepX int `cbor:"3,keyasint,omitempty"`
	StepY int `cbor:"4,keyasint,omitempty"`
	MaxW  int `cbor:"5,keyasint,omitempty"`
	MaxH  int `cbor:"6,keyasint,omitempty"`
}

// endMessage ends a job that was begun.
type endMessage struct {
	Job uint64 `cbor:"1,keyasint"`
}

// leaseMessage asks for a tile.
type leaseMessage struct {
	Lease uint64 `cbor:"1,keyasint"` // chosen by the coordinator, never twice in a session
	Job   uint64 `cbor:"2,keyasint"`
	X     int    `cbor:"3,keyasint"`
	Y     int    `cbor:"4,keyasint"`
	W     int    `cbor:"5,keyasint"`
	H     int    `cbor:"6,keyasint"`
}

// cancelMessage says that the answer to a lease is no longer wanted. The lease
// is answered all the same, at once.
type cancelMessage struct {
	Lease uint64 `cbor:"1,keyasint"`
}

// resultMessage answers a lease; the planes follow it as bulk data.
type resultMessage struct {
	Lease    uint64 `cbor:"1,keyasint"`
	Busy     int64  `cbor:"2,keyasint"` // nanoseconds that the device took
	Waited   int64  `cbor:"3,keyasint"` // nanoseconds that the lease waited on the host before that
	BytesIn  int64  `cbor:"4,keyasint"`
	BytesOut int64  `cbor:"5,keyasint"`

	Encoding encodingType `cbor:"6,keyasint"` // of the planes

	Read int64 `cbor:"7,keyasint"` // when the lease was read, on the host's clock for the session
}

// pingMessage says that the peer is there, and what time it is on its clock for
// the session.
type pingMessage struct {
	Time int64 `cbor:"1,keyasint"` // nanoseconds
}

// progressMessage says that the computing of leases has come some way.
type progressMessage struct {
	Leases []uint64 `cbor:"1,keyasint"`
}

// failedMessage answers a lease without a result.
type failedMessage struct {
	Lease uint64 `cbor:"1,keyasint"`
	Lost  bool   `cbor:"2,keyasint,omitempty"` // nothing is wrong with the tile
	Error string `cbor:"3,keyasint"`
}

// fetchMessage asks for a part of an operand.
type fetchMessage struct {
	Fetch    uint64 `cbor:"1,keyasint"` // chosen by the host, never twice in a session
	Operands uint64 `cbor:"2,keyasint"` // as in beginMessage
	Operand  int    `cbor:"3,keyasint"` // operandA, operandB or operandC
	X        int    `cbor:"4,keyasint"` // of the matrix as it is stored
	Y        int    `cbor:"5,keyasint"`
	W        int    `cbor:"6,keyasint"`
	H        int    `cbor:"7,keyasint"`
}

// panelMessage answers a fetchMessage; the elements follow it as bulk data, unless
// they could not be read.
type panelMessage struct {
	Fetch    uint64       `cbor:"1,keyasint"`
	Error    string       `cbor:"2,keyasint,omitempty"`
	Encoding encodingType `cbor:"3,keyasint,omitempty"` // of the elements
}

// errorText returns what is sent of the text of err. Of a text that is too long,
// such as all that a compiler has to say, that is the beginning and the end.
func errorText(err error) string {
	text := err.Error()
	if left := len(text) - longestError; left > 0 {
		const end = longestError / 4
		text = fmt.Sprintf("%s\n… %d bytes are left out …\n%s", text[:longestError-end], left, text[len(text)-end:])
	}
	return strings.ToValidUTF8(text, "\uFFFD") // nothing else can be decoded
}

// printableLines is printable line by line, for errors: a compiler has much to
// say. An errorText is rarely cut once more.
func printableLines(s string) string {
	const most = 200
	lines := strings.Split(strings.ReplaceAll(s, "\t", "    "), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	if left := len(lines) - most; left > 0 {
		const end = most / 4
		note := fmt.Sprintf("… %d lines are left out …", left)
		lines = slices.Concat(lines[:most-end], []string{note}, lines[len(lines)-end:])
	}
	return strings.Join(lines, "\n")
}

// Messages are decoded with bounds on everything that could grow. The devices of
// a hello grow most: each takes a byte at least, and a hundred of memory. One that
// has some too many is told so.
var (
	decoding      = decoder(4096)
	helloDecoding = decoder(2 * maxDevices)
	encoding      = must(cbor.CoreDetEncOptions().EncMode())
)

// decoder returns a decoder of arrays of at most so many elements.
func decoder(elements int) cbor.DecMode {
	return must(cbor.DecOptions{
		MaxArrayElements: elements, MaxMapPairs: 64, MaxNestedLevels: 8,
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// frame is one message with its bulk data, as it is read.
type frame struct {
	typ     messageType
	message []byte
	bulk    int64 // bytes that follow and are still to be read
}

// appendFrame appends the frame of a message, without its bulk data, to b.
func appendFrame(b []byte, typ messageType, message any, bulk int64) ([]byte, error) {
	at := len(b)
	b = append(b, byte(typ), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(bulk))
	switch m := message.(type) {
	case leaseMessage:
		b = m.appendTo(b)
	case resultMessage:
		b = m.appendTo(b)
	default:
		var err error
		if b, err = appendCBOR(b, message); err != nil {
			return b[:at], fmt.Errorf("encode message %d: %w", typ, err)
		}
	}
	binary.LittleEndian.PutUint32(b[at+4:], uint32(len(b)-at-frameHeader))
	return b, nil
}

func appendCBOR(b []byte, message any) ([]byte, error) {
	data, err := encoding.Marshal(message)
	return append(b, data...), err
}

// readFrame reads a frame up to its bulk data. Nothing is allocated before its
// length has been found to be in bounds.
func readFrame(r io.Reader) (frame, error) { return readFrameIn(r, nil, maxBegin) }

// readFrameIn is readFrame with memory for the message, which may be too small,
// and a bound for that of a begin.
func readFrameIn(r io.Reader, memory []byte, largest uint32) (frame, error) {
	if cap(memory) < frameHeader {
		memory = make([]byte, frameHeader)
	}
	h := memory[:frameHeader]
	if _, err := io.ReadFull(r, h); err != nil {
		return frame{}, err
	}
	f := frame{typ: messageType(h[0])}
	length, bulk := binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint64(h[8:])
	limit := uint32(maxMessage)
	if f.typ == typeBegin {
		limit = largest
	}
	switch {
	case f.typ < typeHello || f.typ > typeLast || h[1] != 0 || h[2] != 0 || h[3] != 0:
		return frame{}, protocolError("frame begins with % x", h[:4])
	case length > limit:
		return frame{}, protocolError("message of %d bytes", length)
	case bulk > mostBulk(f.typ):
		return frame{}, protocolError("message %d with %d bytes of bulk data", f.typ, bulk)
	}
	f.bulk = int64(bulk)
	if f.message = memory[:0]; cap(memory) < int(length) {
		f.message = make([]byte, length)
	}
	f.message = f.message[:length]
	_, err := io.ReadFull(r, f.message)
	return f, err
}

// mostBulk bounds the bulk data behind a message.
func mostBulk(typ messageType) uint64 {
	switch typ {
	case typeResult:
		return maxBulk
	case typePanel:
		return maxPanel
	}
	return 0
}

// decode decodes the message of f into m.
func (f frame) decode(m any) error {
	switch m := m.(type) {
	case *leaseMessage:
		if m.read(f.message) {
			return nil
		}
	case *resultMessage:
		if m.read(f.message) {
			return nil
		}
	}
	mode := decoding
	if f.typ == typeHello {
		mode = helloDecoding
	}
	if err := mode.Unmarshal(f.message, m); err != nil {
		return protocolError("message %d: %v", f.typ, err)
	}
	return nil
}

// mandelbrotSpec is a kernels.Mandelbrot on the wire. The axes are float64,
// little-endian.
type mandelbrotSpec struct {
	Type       uint8   `cbor:"1,keyasint"`
	CX         []byte  `cbor:"2,keyasint"`
	CY         []byte  `cbor:"3,keyasint"`
	Julia      bool    `cbor:"4,keyasint,omitempty"`
	CRe        float64 `cbor:"5,keyasint"`
	CIm        float64 `cbor:"6,keyasint"`
	MaxIter    int     `cbor:"7,keyasint"`
	R2         float64 `cbor:"8,keyasint"`
	Magnitudes bool    `cbor:"9,keyasint,omitempty"`
}

// Travels reports whether hosts can work on job.
func Travels(job kernels.Job) bool {
	_, image := job.(*kernels.Mandelbrot)
	_, operands := operandsOf(job)
	return image || operands
}

// encodeJob returns what a host needs to know of job.
func encodeJob(job kernels.Job) ([]byte, error) {
	if p, ok := productOf(job); ok {
		return encoding.Marshal(p)
	}
	if c, ok := job.(*kernels.Custom); ok {
		return encoding.Marshal(specOfCustom(c))
	}
	m, ok := job.(*kernels.Mandelbrot)
	if !ok {
		return nil, fmt.Errorf("job %s cannot be sent to hosts", job.Kernel())
	}
	return encoding.Marshal(mandelbrotSpec{
		Type: uint8(m.T), CX: floatBytes(m.CX), CY: floatBytes(m.CY), Julia: m.Julia, CRe: m.CRe, CIm: m.CIm,
		MaxIter: m.MaxIter, R2: m.R2, Magnitudes: m.Magnitudes,
	})
}

// decodeJob is the inverse of encodeJob. It accepts only jobs that a device can
// be given without harm. A product comes without operands.
func decodeJob(kernel string, spec []byte) (kernels.Job, error) {
	switch kernel {
	case (*kernels.Mandelbrot)(nil).Kernel():
		return decodeMandelbrot(spec)
	case (*kernels.MatMul[float64])(nil).Kernel():
		return decodeProduct(spec)
	case (*kernels.Custom)(nil).Kernel():
		return decodeCustom(spec)
	}
	return nil, protocolError("job of the unknown kernel %q", printable(kernel[:min(len(kernel), 64)]))
}

func decodeMandelbrot(spec []byte) (kernels.Job, error) {
	var s mandelbrotSpec
	if err := decoding.Unmarshal(spec, &s); err != nil {
		return nil, protocolError("job: %v", err)
	}
	if len(s.CX)%8 != 0 || len(s.CY)%8 != 0 {
		return nil, protocolError("job: axes of %d and %d bytes, which are not whole numbers", len(s.CX), len(s.CY))
	}
	m := &kernels.Mandelbrot{
		T: kernels.DType(s.Type), CX: floats(s.CX), CY: floats(s.CY), Julia: s.Julia, CRe: s.CRe, CIm: s.CIm,
		MaxIter: s.MaxIter, R2: s.R2, Magnitudes: s.Magnitudes,
	}
	if err := m.Validate(); err != nil {
		return nil, protocolError("job: %v", err)
	}
	return m, nil
}

func floatBytes(values []float64) []byte {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

func floats(b []byte) []float64 {
	values := make([]float64, len(b)/8)
	for i := range values {
		values[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return values
}
