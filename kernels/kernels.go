// Package kernels defines what the devices compute: the jobs, the tiles that
// a job is cut into, and the results that a tile yields.
//
// It holds no kernel itself. The CPU kernels are in kernels/cpu, the OpenCL
// kernels in kernels/opencl; both obey the arithmetic that the job types
// document here, operation by operation, so that every device computes the
// same bits.
package kernels

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unsafe"
)

// Version is the version of the arithmetic of all kernels. Hosts compute one
// job together only if theirs is the same.
const Version = 1

// DType is the type of one element of an array.
type DType uint8

// The element types, named as NumPy names them.
const (
	Float32 DType = iota + 1
	Float64
	Uint32
	Int32
	Int64
	Uint64
	Int16
	Uint16
	Int8
	Uint8
)

// dtypes are the element types: the short name, the bytes of an element, and the name in
// OpenCL C.
var dtypes = [...]struct {
	name   string
	size   int
	opencl string
}{
	Float32: {"f32", 4, "float"}, Float64: {"f64", 8, "double"},
	Int8: {"i8", 1, "char"}, Int16: {"i16", 2, "short"}, Int32: {"i32", 4, "int"}, Int64: {"i64", 8, "long"},
	Uint8: {"u8", 1, "uchar"}, Uint16: {"u16", 2, "ushort"}, Uint32: {"u32", 4, "uint"}, Uint64: {"u64", 8, "ulong"},
}

// Valid reports whether d is one of the element types.
func (d DType) Valid() bool { return d >= 1 && int(d) < len(dtypes) }

// Size returns the bytes that one element takes, or 4 if d is no element type.
func (d DType) Size() int {
	if d.Valid() {
		return dtypes[d].size
	}
	return 4
}

// MaxInt returns the largest number that d, a type of integers, holds, or the largest int if that is
// less.
func (d DType) MaxInt() int {
	bits := 8 * d.Size()
	switch d {
	case Int8, Int16, Int32, Int64:
		return int(uint64(1)<<(bits-1) - 1)
	}
	return int(min(uint64(math.MaxUint64)>>(64-bits), math.MaxInt))
}

// String returns the short name that the command line and the reports use.
func (d DType) String() string {
	if d.Valid() {
		return dtypes[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// OpenCL returns the type's name in OpenCL C, or "" if d is no element type.
func (d DType) OpenCL() string {
	if d.Valid() {
		return dtypes[d].opencl
	}
	return ""
}

// Float reports whether d is a floating-point type.
func (d DType) Float() bool { return d == Float32 || d == Float64 }

// Float64 returns the element of type d whose bytes are x, in the byte order of the machine: of
// integers of 64 bits the nearest number.
func (d DType) Float64(x []byte) float64 {
	order := binary.NativeEndian
	switch d {
	case Float32:
		return float64(math.Float32frombits(order.Uint32(x)))
	case Float64:
		return math.Float64frombits(order.Uint64(x))
	case Int8:
		return float64(int8(x[0]))
	case Int16:
		return float64(int16(order.Uint16(x)))
	case Int32:
		return float64(int32(order.Uint32(x)))
	case Int64:
		return float64(int64(order.Uint64(x)))
	case Uint8:
		return float64(x[0])
	case Uint16:
		return float64(order.Uint16(x))
	case Uint32:
		return float64(order.Uint32(x))
	}
	return float64(order.Uint64(x))
}

// Number is any of the element types.
type Number interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// TypeOf returns the element type T.
func TypeOf[T Number]() DType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	}
	return Uint64
}

// Job is one problem whose output is a rectangle of elements. A job is
// immutable once it has been handed to a device or a queue.
type Job interface {
	// Kernel names the kernel that computes the job, such as "mandelbrot".
	Kernel() string

	// Bounds returns the whole output as one tile, with its corner at (0, 0).
	Bounds() Tile

	// DType returns the type in which the job's arithmetic is done.
	DType() DType

	// Planes returns the element type of each plane of the output. Every
	// plane has one element for each element of Bounds.
	Planes() []DType
}

// RowJob is a Job whose tiles may have to be whole rows.
type RowJob interface {
	Job
	WholeRows() bool
}

// Runner computes tiles of one job on one device.
//
// Run computes t and writes every plane of r, which must come from
// NewResult(job, t). It may be called from as many goroutines at once as the
// device has slots. When ctx is done Run returns ctx's error within 100 ms,
// and nothing writes to r after it has returned.
//
// Close waits until nothing runs any more and releases what the job held on
// the device. Run must not be called after Close.
type Runner interface {
	Run(ctx context.Context, t Tile, r *Result) error
	Close() error
}

// Result is what a device computed for one tile.
type Result struct {
	// Planes holds for each plane of the job the tile's elements, row by row,
	// packed, in the byte order of the machine. Each plane starts at an
	// address that is a multiple of eight.
	Planes [][]byte

	// BytesIn and BytesOut count what was copied to and from the device for
	// this tile; both are 0 for the CPU where it works in place.
	BytesIn, BytesOut int64

	// Progress, if not nil, is called by Run now and then when it has come some
	// way, from any goroutine. It does not block.
	Progress func()

	// Busy is how long the device computed and Waited how long the tile lay
	// ready beside it before that, where Run took longer for other reasons: for
	// a device of another host. Both are 0 where Run's own time says it.
	Busy, Waited time.Duration

	// Began is when that device began to compute, on this process's clock, and
	// BeganWithin how much earlier or later it may have been. Began is the zero Time
	// where Run's own time says it.
	Began       time.Time
	BeganWithin time.Duration
}

// Advance calls Progress, if there is one.
func (r *Result) Advance() {
	if r.Progress != nil {
		r.Progress()
	}
}

// NewResult returns a zeroed result with the planes that job has for t.
func NewResult(job Job, t Tile) *Result {
	types := job.Planes()
	r := &Result{Planes: make([][]byte, len(types))}
	for i, d := range types {
		n := t.Area() * d.Size()
		words := make([]uint64, (n+7)/8)
		if n > 0 {
			r.Planes[i] = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n)
		}
	}
	return r
}

// ResultBytes returns how many bytes the planes of job take for t.
func ResultBytes(job Job, t Tile) int {
	n := 0
	for _, d := range job.Planes() {
		n += d.Size()
	}
	return n * t.Area()
}

// Elements returns plane, a plane of a Result or of a whole output, as a slice
// of its elements. The two share their memory. It panics if plane is not a
// whole number of elements.
func Elements[T Number](plane []byte) []T {
	var zero T
	size := int(unsafe.Sizeof(zero))
	if len(plane)%size != 0 {
		panic(fmt.Sprintf("kernels: plane of %d bytes is not a whole number of %d-byte elements", len(plane), size))
	}
	if len(plane) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&plane[0])), len(plane)/size)
}

// Bytes returns the memory of elements as bytes: the inverse of Elements.
func Bytes[T Number](elements []T) []byte {
	if len(elements) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&elements[0])), len(elements)*int(unsafe.Sizeof(elements[0])))
}
