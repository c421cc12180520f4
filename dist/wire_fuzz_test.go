package dist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"reflect"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// What decoding may allocate: so many times the bytes that came, and a little.
// The leases of a progress message have the largest factor: a small number takes
// one byte, and 8 of memory.
const (
	messageFactor = 16
	jobFactor     = 8        // the axes twice, as bytes and as numbers
	kernelFactor  = 64       // what is no kernel is quoted in an error
	decodingBase  = 32 << 10 // as many devices as a hello may have take half of it
)

// messageOf returns a pointer to an empty message of the type.
func messageOf(typ messageType) any {
	switch typ {
	case typeHello:
		return &helloMessage{}
	case typeBegin:
		return &beginMessage{}
	case typeBegan:
		return &beganMessage{}
	case typeEnd:
		return &endMessage{}
	case typeLease:
		return &leaseMessage{}
	case typeCancel:
		return &cancelMessage{}
	case typeResult:
		return &resultMessage{}
	case typeFailed:
		return &failedMessage{}
	case typeProgress:
		return &progressMessage{}
	case typeFetch:
		return &fetchMessage{}
	case typePanel:
		return &panelMessage{}
	case typePing:
		return &pingMessage{}
	}
	return &struct{}{} // drain
}

// someMessages has one message of each type, with every field set.
var someMessages = map[messageType]any{
	typeHello: helloMessage{Kernels: 1, Name: "a", Devices: []DeviceInfo{
		{ID: "cpu", Kind: "cpu", Name: "n", Slots: 2, Driver: "d", Units: 3, Memory: 1 << 40, F32: "exact", F64: "none"}, {},
	}},
	typeBegin:    beginMessage{Job: 1, Device: 2, Kernel: "mandelbrot", Spec: []byte{1, 2, 3}, Operands: 4},
	typeBegan:    beganMessage{Job: 1 << 40, Error: "cannot", StepX: 96, StepY: 168},
	typeEnd:      endMessage{Job: math.MaxUint64},
	typeLease:    leaseMessage{Lease: 1 << 33, Job: 2, X: 24, Y: 300, W: 70_000, H: 5},
	typeCancel:   cancelMessage{Lease: 7},
	typeResult:   resultMessage{Lease: 9, Busy: 1e9, Waited: 3, BytesIn: 1 << 20, BytesOut: 23, Encoding: encodedZstd, Read: 1 << 50},
	typeFailed:   failedMessage{Lease: 3, Lost: true, Error: "lost"},
	typePing:     pingMessage{Time: 1 << 40},
	typeDrain:    struct{}{},
	typeProgress: progressMessage{Leases: []uint64{1, 1 << 40}},
	typeFetch:    fetchMessage{Fetch: 1, Operands: 1 << 40, Operand: 2, X: 24, Y: 300, W: 70_000, H: 5},
	typePanel:    panelMessage{Fetch: 1 << 33, Error: "cannot", Encoding: encodedZstd},
}

// FuzzMessage decodes the message of the type in the first byte. What is taken
// can be sent again, nothing takes much memory, and what the decoder of our own
// takes the package takes as the same.
func FuzzMessage(f *testing.F) {
	for typ := typeHello; typ <= typeLast; typ++ {
		b, err := appendFrame(nil, typ, someMessages[typ], 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{byte(typ)}, b[frameHeader:]...))
		f.Add(append(append([]byte{byte(typ)}, b[frameHeader:]...), 0))
	}
	f.Add(append([]byte{byte(typeHello), 0xa1, 3, 0x99, 0x10, 0}, bytes.Repeat([]byte{0xa0}, 4096)...))
	f.Add([]byte{byte(typeLease), 0xa6, 1, 0x18, 1, 2, 0x19, 0, 1, 3, 0x1a, 0, 0, 0, 1, 4, 0x1b, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 6, 0})
	for key := range byte(6) { // a lease with one number of 2^63, which only two may be
		b := []byte{byte(typeLease), 0xa6}
		for k := range byte(6) {
			if b = append(b, k+1, 5); k == key {
				b = append(b[:len(b)-1], 0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0)
			}
		}
		f.Add(b)
		f.Add(append(b, 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > maxMessage {
			return
		}
		typ := typeHello + messageType(data[0]-1)%(typeLast-typeHello+1)
		in := frame{typ: typ, message: data[1:]}
		m := messageOf(typ)
		err := in.decode(m)
		if err != nil && !errors.Is(err, ErrProtocol) {
			t.Fatalf("the error is %v", err)
		}
		allocates(t, messageFactor*len(data)+decodingBase, fmt.Sprintf("message %d of %d bytes", typ, len(data)), func() {
			_ = in.decode(messageOf(typ))
		})
		checkTileDecoder(t, in)
		if err != nil {
			return
		}
		b, err := appendFrame(nil, typ, reflect.ValueOf(m).Elem().Interface(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxMessage && typ != typeBegin {
			return // fields that were left out have grown it
		}
		again, err := readFrame(bytes.NewReader(b))
		back := messageOf(typ)
		if err == nil {
			err = again.decode(back)
		}
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%.300s came back as %.300s, %v", fmt.Sprint(m), fmt.Sprint(back), err)
		}
	})
}

// checkTileDecoder fails unless the package agrees with what the decoders of
// wire_tile.go make of the message.
func checkTileDecoder(t *testing.T, in frame) {
	var lease, leaseByPackage leaseMessage
	if lease.read(in.message) {
		if err := decoding.Unmarshal(in.message, &leaseByPackage); err != nil || lease != leaseByPackage {
			t.Fatalf("% x is %+v, and for the package %+v (%v)", in.message, lease, leaseByPackage, err)
		}
	}
	var result, resultByPackage resultMessage
	if result.read(in.message) {
		if err := decoding.Unmarshal(in.message, &resultByPackage); err != nil || result != resultByPackage {
			t.Fatalf("% x is %+v, and for the package %+v (%v)", in.message, result, resultByPackage, err)
		}
	}
}

// rightHeader says what spec.md does of the first 16 bytes of a frame.
func rightHeader(h []byte) bool {
	length, bulk := binary.LittleEndian.Uint32(h[4:8]), binary.LittleEndian.Uint64(h[8:16])
	limit := uint32(64 << 10)
	if h[0] == 2 {
		limit = 32 << 20
	}
	return h[0] >= 1 && h[0] <= 13 && h[1] == 0 && h[2] == 0 && h[3] == 0 && length <= limit &&
		(bulk == 0 || h[0] == 7 && bulk <= 2<<30 || h[0] == 13 && bulk <= 4<<20)
}

// FuzzFrame reads a frame into memory of some size, and compares it with what
// spec.md says of its bytes.
func FuzzFrame(f *testing.F) {
	for typ := typeHello; typ <= typeLast; typ++ {
		b, err := appendFrame(nil, typ, someMessages[typ], 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(typ*30))
		f.Add(b[:len(b)-1], byte(0))
		f.Add(append(b, b...), byte(255))
	}
	for typ := range byte(15) {
		header := make([]byte, 16)
		for _, at := range []int{1, 2, 3, 8, 15} { // reserved bytes, and bulk data
			header[0], header[at] = typ, 1
			f.Add(append(header[:16:16], 0xa0), byte(0))
			header[at] = 0
		}
	}
	f.Add([]byte{7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0xa0}, byte(0))
	f.Add([]byte{7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 0, 0}, byte(0))
	f.Add([]byte{13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0}, byte(0)) // 4 MiB, and more
	f.Add([]byte{13, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x40, 0, 0, 0, 0, 0}, byte(0))
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0}, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, memory byte) {
		r := bytes.NewReader(data)
		got, err := readFrameIn(r, make([]byte, memory), maxBegin)
		switch {
		case len(data) < 16:
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("half a header: %v", err)
			}
			return
		case !rightHeader(data):
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("a header of % x: %v", data[:16], err)
			}
			allocates(t, 4<<10, fmt.Sprintf("a header of % x", data[:16]), func() { _, _ = readFrame(bytes.NewReader(data)) })
			return
		}
		length := int64(binary.LittleEndian.Uint32(data[4:8]))
		if int64(len(data)) < 16+length {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("half a message: %v", err)
			}
			return
		}
		if err != nil || got.typ != messageType(data[0]) || uint64(got.bulk) != binary.LittleEndian.Uint64(data[8:16]) ||
			!bytes.Equal(got.message, data[16:16+length]) || int64(r.Len()) != int64(len(data))-16-length {
			t.Fatalf("% x was read as %+v, %v, with %d bytes left", data, got, err, r.Len())
		}
	})
}

// FuzzJob decodes jobs. One that is taken is what kernels.Mandelbrot or kernels.MatMul
// allows, and comes back as it is when it is sent again.
func FuzzJob(f *testing.F) {
	julia := remoteJob()
	julia.Julia, julia.CRe, julia.Magnitudes, julia.T = true, 0.25, false, kernels.Float32
	julia.CX, julia.CY = julia.CX[:0:0], julia.CY[:0:0]
	for i := range 5 {
		julia.CX, julia.CY = append(julia.CX, float64(i)/4), append(julia.CY, 1)
	}
	for _, job := range []*kernels.Mandelbrot{remoteJob(), julia} {
		spec, err := encodeJob(job)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("mandelbrot", spec)
		f.Add("julia", spec)
		f.Add("mandelbrot", spec[:len(spec)-1])
	}
	for _, spec := range someProducts(f) {
		f.Add("matmul", spec)
		f.Add("matmul", spec[:len(spec)-1])
	}
	for _, spec := range someKernels(f) {
		f.Add("custom", spec)
		f.Add("custom", spec[:len(spec)-1])
	}
	one, nan := floatBytes([]float64{1}), math.NaN()
	for _, bad := range []mandelbrotSpec{
		{Type: 0, CX: one, CY: one, MaxIter: 1, R2: 4}, {Type: 3, CX: one, CY: one, MaxIter: 1, R2: 4},
		{Type: 2, CY: one, MaxIter: 1, R2: 4}, {Type: 2, CX: one, MaxIter: 1, R2: 4}, {Type: 2, CX: one, CY: one, R2: 4},
		{Type: 2, CX: one, CY: one, MaxIter: 1 << 31, R2: 4}, {Type: 2, CX: one, CY: one, MaxIter: -1, R2: 4},
		{Type: 2, CX: one, CY: one, MaxIter: 1, R2: 3.9}, {Type: 2, CX: one, CY: one, MaxIter: 1, R2: nan},
		{Type: 2, CX: one, CY: one, MaxIter: 1, R2: 1e19}, {Type: 2, CX: floatBytes([]float64{nan}), CY: one, MaxIter: 1, R2: 4},
		{Type: 1, CX: one, CY: floatBytes([]float64{0.1}), MaxIter: 1, R2: 4}, {Type: 2, CX: one, CY: one, MaxIter: 1, R2: 4, CRe: nan},
		{Type: 2, CX: one, CY: one, MaxIter: 1, R2: 4, Julia: true, CRe: 2, CIm: 2},
	} {
		spec, err := encoding.Marshal(bad)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("mandelbrot", spec)
	}
	f.Fuzz(func(t *testing.T, kernel string, spec []byte) {
		job, err := decodeJob(kernel, spec)
		allocates(t, jobFactor*len(spec)+kernelFactor*len(kernel)+decodingBase, fmt.Sprintf("a job of %d bytes", len(spec)), func() {
			_, _ = decodeJob(kernel, spec)
		})
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		if why := harm(kernel, job); why != "" {
			t.Fatalf("a job of kernel %q was taken: %s: %+v", kernel, why, job)
		}
		again, err := encodeJob(job)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeJob(kernel, again)
		if err != nil || !sameJob(back, job) {
			t.Fatalf("%+v came back as %+v, %v", job, back, err)
		}
	})
}

// someProducts returns specs of products, good and bad.
func someProducts(t testing.TB) (specs [][]byte) {
	nan := math.NaN()
	for _, s := range []productSpec{
		{Type: 1, M: 3, N: 4, K: 5, Alpha: 1}, {Type: 2, TransA: true, TransB: true, M: 1, N: 1 << 20, K: 0, Alpha: 0.1, Beta: nan},
		{Type: 1, M: 3, N: 4, K: 5, Alpha: nan, Beta: math.Inf(-1)}, {Type: 1, M: 3, N: 4, K: 5, Alpha: 0.1}, {Type: 1, M: 3, N: 4, K: 5, Beta: 1e300},
		{Type: 0, M: 3, N: 4, K: 5}, {Type: 3, M: 3, N: 4, K: 5}, {Type: 2, N: 4, K: 5}, {Type: 2, M: 3, K: 5}, {Type: 2, M: -3, N: -4, K: 5},
		{Type: 2, M: 3, N: 4, K: -5}, {Type: 2, M: 1 << 24, N: 1 << 24, K: 1}, {Type: 2, M: 1 << 32, N: 1 << 32, K: 1},
		{Type: 1, M: 3, N: 4, K: 5, Alpha: 1, FileA: fileSpec{Path: "/a.npy", Size: 188, Time: 1e18, Sample: [32]byte{1, 2}}},
		{Type: 1, M: 3, N: 4, K: 5, FileA: fileSpec{Path: strings.Repeat("/a", 2049)}, FileB: fileSpec{Time: -1}},
		{Type: 2, M: math.MaxInt64, N: 1, K: math.MaxInt64}, {Type: 2, M: 1, N: math.MaxInt64, K: 2}, {Type: 2, M: 1 << 23, N: 1 << 24, K: 1 << 23},
	} {
		spec, err := encoding.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	return specs
}

// sameJob reports whether two jobs are the same. Any NaN is any NaN.
func sameJob(a, b kernels.Job) bool {
	p, hasOperands := operandsOf(a)
	q, _ := operandsOf(b)
	if !hasOperands {
		return reflect.DeepEqual(a, b)
	}
	return p.same(q) && reflect.TypeOf(a) == reflect.TypeOf(b)
}

// harmOfCustom is harm of a kernel.
func harmOfCustom(c *kernels.Custom) string {
	if err := c.Validate(); err != nil {
		return err.Error()
	}
	most := func(w, h int) bool {
		over, n := bits.Mul64(uint64(w), uint64(h))
		return over == 0 && n <= maxOperand
	}
	for _, a := range c.Args {
		if a.Reads() && a.Array.Read(nil, kernels.Tile{}) == nil {
			return "an array can be read"
		}
		if !most(c.W, c.H) || a.Role == kernels.Whole && !most(a.W, a.H) || a.Each > 0 && !most(a.W, 1) {
			return "the size"
		}
	}
	return ""
}

// someKernels returns specs of kernels, good and bad.
func someKernels(t testing.TB) (specs [][]byte) {
	in, out := argSpec{Name: "x", Role: uint8(kernels.In), Type: 1}, argSpec{Name: "z", Role: uint8(kernels.Out), Type: 2}
	for _, s := range []customSpec{
		{Source: "kernel void f(…)", Entry: "f", W: 10, H: 3, Args: []argSpec{in, out}},
		{W: 10, H: 3, Args: []argSpec{in}}, {W: 1 << 40, H: 1 << 40, Args: []argSpec{in, out}}, {W: -1, H: 3, Args: []argSpec{out}},
		{W: 3, H: 1, Args: []argSpec{{Role: uint8(kernels.In), Type: 1, W: 2500, Each: 1000}, out}, GroupW: 64, GroupH: 1, Items: 64},
		{W: 3, H: 1, Args: []argSpec{{Role: uint8(kernels.In), Type: 1, W: math.MaxInt64, Each: math.MaxInt64}, out}},
		{W: 3, H: 5, Args: []argSpec{{Role: uint8(kernels.Whole), Type: 9, W: 1 << 30, H: 1 << 30}, out}},
		{W: 3, H: 5, Args: []argSpec{{Role: uint8(kernels.In), Type: 4, HaloX: 3, HaloY: 1, Edge: 2}, out, {Role: uint8(kernels.Local), Bits: 1 << 20}, {Role: uint8(kernels.Place), Type: 4, Bits: 5}}},
		{W: 3, H: 5, Args: []argSpec{{Role: uint8(kernels.In), Type: 4, HaloX: math.MaxInt64, HaloY: -1}, out}, Rows: true},
	} {
		spec, err := encoding.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	return specs
}

// harm says in what a job is not as the comments on its type want it.
func harm(kernel string, job kernels.Job) string {
	switch job := job.(type) {
	case *kernels.Mandelbrot:
		if kernel == "mandelbrot" {
			return harmOfImage(job)
		}
	case *kernels.Custom:
		if kernel == "custom" {
			return harmOfCustom(job)
		}
	case *kernels.MatMul[float32]:
		if kernel == "matmul" {
			return harmOfProduct(job.M, job.N, job.K, 4, len(job.A)+len(job.B)+len(job.C))
		}
	case *kernels.MatMul[float64]:
		if kernel == "matmul" {
			return harmOfProduct(job.M, job.N, job.K, 8, len(job.A)+len(job.B)+len(job.C))
		}
	}
	return "the kernel"
}

// harmOfProduct is harm of a product: the bytes of each matrix have to be a number.
func harmOfProduct(m, n, k, element, elements int) string {
	switch {
	case elements > 0:
		return "it has elements"
	case m < 1 || n < 1 || k < 0:
		return "the sides"
	}
	for _, area := range []float64{float64(m) * float64(n), float64(m) * float64(k), float64(k) * float64(n)} {
		if area*float64(element) > 0x1p50 {
			return "the area"
		}
	}
	return ""
}

func harmOfImage(m *kernels.Mandelbrot) string {
	fits := func(v float64) bool { // in the type, and no NaN
		return m.T == kernels.Float64 && v == v || m.T == kernels.Float32 && float64(float32(v)) == v
	}
	switch {
	case m.T != kernels.Float32 && m.T != kernels.Float64:
		return "the type"
	case len(m.CX) < 1 || len(m.CY) < 1:
		return "no pixels"
	case m.MaxIter < 1 || m.MaxIter > 1<<31-1:
		return "the iterations"
	case !fits(m.R2) || m.R2 < 4 || m.R2 > 1.0001e18:
		return "the radius"
	case !fits(m.CRe) || !fits(m.CIm) || m.Julia && math.Hypot(m.CRe, m.CIm) > math.Sqrt(m.R2)*1.0001:
		return "c"
	}
	for _, axis := range [][]float64{m.CX, m.CY} {
		for _, v := range axis {
			if !fits(v) {
				return "a coordinate"
			}
		}
	}
	return ""
}
