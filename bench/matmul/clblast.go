package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Values of the OpenCL and CLBlast headers.
const (
	deviceTypeAll  = 0xFFFFFFFF
	deviceUnits    = 0x1002
	deviceName     = 0x102B
	memReadWrite   = 1 << 0
	memCopyHostPtr = 1 << 5
	blockingRead   = 1
	rowMajor       = 101
	noTranspose    = 111
)

// clFunctions are those of OpenCL that CLBlast is driven with. Handles are
// uintptr.
type clFunctions struct {
	getPlatformIDs     func(room uint32, platforms *uintptr, n *uint32) int32
	getDeviceIDs       func(platform uintptr, types uint64, room uint32, devices *uintptr, n *uint32) int32
	getDeviceInfo      func(device uintptr, what uint32, room uintptr, to unsafe.Pointer, n *uintptr) int32
	createContext      func(properties uintptr, n uint32, devices *uintptr, notify, data uintptr, code *int32) uintptr
	createCommandQueue func(context, device uintptr, properties uint64, code *int32) uintptr
	createBuffer       func(context uintptr, flags uint64, size uintptr, from unsafe.Pointer, code *int32) uintptr
	releaseMemObject   func(buffer uintptr) int32
	enqueueReadBuffer  func(queue, buffer uintptr, blocking uint32, offset, size uintptr, to unsafe.Pointer,
		waits uint32, waitFor, event uintptr) int32
	finish       func(queue uintptr) int32
	releaseEvent func(event uintptr) int32
}

// gemm is CLBlastSgemm or CLBlastDgemm.
type gemm[T float32 | float64] func(layout, transA, transB int32, m, n, k uintptr, alpha T,
	a, offsetA, ldA, b, offsetB, ldB uintptr, beta T, c, offsetC, ldC uintptr, queue, event *uintptr) int32

// clBlast is CLBlast, a BLAS for OpenCL.
type clBlast struct {
	cl             clFunctions
	sgemm          gemm[float32]
	dgemm          gemm[float64]
	context, queue uintptr
	text           string
	copies         bool // operands go to the device, and the result comes back, each time
}

func openCLBlast(copies bool) (multiplier, error) {
	openCL, err := openFirst([]string{"libOpenCL.so.1", "OpenCL.dll", "/System/Library/Frameworks/OpenCL.framework/OpenCL"})
	if err != nil {
		return nil, err
	}
	clblast, err := openFirst([]string{"libclblast.so.1", "clblast.dll", "libclblast.1.dylib"})
	if err != nil {
		return nil, err
	}
	b := &clBlast{copies: copies}
	for name, f := range map[string]any{
		"clGetPlatformIDs": &b.cl.getPlatformIDs, "clGetDeviceIDs": &b.cl.getDeviceIDs,
		"clGetDeviceInfo": &b.cl.getDeviceInfo, "clCreateContext": &b.cl.createContext,
		"clCreateCommandQueue": &b.cl.createCommandQueue, "clCreateBuffer": &b.cl.createBuffer,
		"clReleaseMemObject": &b.cl.releaseMemObject, "clEnqueueReadBuffer": &b.cl.enqueueReadBuffer,
		"clFinish": &b.cl.finish, "clReleaseEvent": &b.cl.releaseEvent,
		"CLBlastSgemm": &b.sgemm, "CLBlastDgemm": &b.dgemm,
	} {
		library := openCL
		if strings.HasPrefix(name, "CLBlast") {
			library = clblast
		}
		address, err := symbol(library, name)
		if err != nil {
			return nil, err
		}
		purego.RegisterFunc(f, address)
	}
	return b, b.open()
}

// open creates a context and a queue on the device that package device has under
// the same id.
func (b *clBlast) open() error {
	id, err := firstDevice()
	if err != nil {
		return err
	}
	var p, d int
	if _, err := fmt.Sscanf(id, "ocl:%d.%d", &p, &d); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	var n uint32
	var platforms, devices [64]uintptr
	if err := status("clGetPlatformIDs", b.cl.getPlatformIDs(uint32(len(platforms)), &platforms[0], &n)); err != nil {
		return err
	}
	if err := status("clGetDeviceIDs", b.cl.getDeviceIDs(platforms[p], deviceTypeAll, uint32(len(devices)), &devices[0], &n)); err != nil {
		return err
	}
	var code int32
	b.context = b.cl.createContext(0, 1, &devices[d], 0, 0, &code)
	if err := status("clCreateContext", code); err != nil {
		return err
	}
	b.queue = b.cl.createCommandQueue(b.context, devices[d], 0, &code)
	if err := status("clCreateCommandQueue", code); err != nil {
		return err
	}
	var name [256]byte
	var units uint32
	b.cl.getDeviceInfo(devices[d], deviceName, uintptr(len(name)-1), unsafe.Pointer(&name), nil)
	b.cl.getDeviceInfo(devices[d], deviceUnits, 4, unsafe.Pointer(&units), nil)
	b.text = fmt.Sprintf("%s with the parameters that came with it, %s, %s, %d units", fileOf("clblast"), id, name[:bytes.IndexByte(name[:], 0)], units)
	return nil
}

// fileOf returns the name of the file with that word in its name from which a
// library was loaded, or else the word.
func fileOf(word string) string {
	maps, _ := os.ReadFile("/proc/self/maps") // on Linux
	for line := range strings.Lines(string(maps)) {
		if name := filepath.Base(strings.TrimSpace(line)); strings.Contains(name, word) {
			return name
		}
	}
	return word
}

func (b *clBlast) about() string {
	if b.copies {
		return b.text + "; allocation, copies and the product are in the time"
	}
	return b.text + "; A, B and C are on the device already"
}

func (b *clBlast) product32(s shape, x, y, z []float32) (product, error) {
	return productIn(b, b.sgemm, s, x, y, z)
}

func (b *clBlast) product64(s shape, x, y, z []float64) (product, error) {
	return productIn(b, b.dgemm, s, x, y, z)
}

// operands are the matrices of a product on the device.
type operands[T float32 | float64] struct {
	b       *clBlast
	gemm    gemm[T]
	s       shape
	x, y, z uintptr
}

func productIn[T float32 | float64](b *clBlast, gemm gemm[T], s shape, x, y, z []T) (product, error) {
	o := &operands[T]{b: b, gemm: gemm, s: s}
	if b.copies {
		p, err := onHost(nil) // which has nothing to fetch or close
		p.times = func(n int) error {
			for range n {
				err := o.create(x, y, z)
				if err == nil {
					err = o.multiply()
				}
				if err == nil {
					err = o.read(z)
				}
				o.release()
				if err != nil {
					return err
				}
			}
			return nil
		}
		return p, err
	}
	if err := o.create(x, y, z); err != nil {
		o.release()
		return product{}, err
	}
	times := func(n int) error {
		for range n {
			if err := o.multiply(); err != nil {
				return err
			}
		}
		return nil
	}
	return product{times: times, fetch: func() error { return o.read(z) }, close: o.release}, nil
}

// create creates the buffers; what is in z is not brought there.
func (o *operands[T]) create(x, y, z []T) error {
	for _, one := range []struct {
		to     *uintptr
		matrix []T
		flags  uint64
	}{{&o.x, x, memCopyHostPtr}, {&o.y, y, memCopyHostPtr}, {&o.z, z, 0}} {
		var from unsafe.Pointer
		if one.flags != 0 {
			from = unsafe.Pointer(&one.matrix[0])
		}
		var code int32
		*one.to = o.b.cl.createBuffer(o.b.context, memReadWrite|one.flags, byteSize(one.matrix), from, &code)
		if err := status("clCreateBuffer", code); err != nil {
			return err
		}
	}
	return nil
}

// multiply returns when the device is done.
func (o *operands[T]) multiply() error {
	m, n, k := uintptr(o.s.m), uintptr(o.s.n), uintptr(o.s.k)
	var event uintptr
	code := o.gemm(rowMajor, noTranspose, noTranspose, m, n, k, 1, o.x, 0, k, o.y, 0, n, 0, o.z, 0, n, &o.b.queue, &event)
	if err := status("CLBlast", code); err != nil {
		return err
	}
	if err := status("clFinish", o.b.cl.finish(o.b.queue)); err != nil {
		return err
	}
	return status("clReleaseEvent", o.b.cl.releaseEvent(event))
}

func (o *operands[T]) read(z []T) error {
	return status("clEnqueueReadBuffer",
		o.b.cl.enqueueReadBuffer(o.b.queue, o.z, blockingRead, 0, byteSize(z), unsafe.Pointer(&z[0]), 0, 0, 0))
}

func (o *operands[T]) release() {
	for _, buffer := range []*uintptr{&o.x, &o.y, &o.z} {
		if *buffer != 0 {
			o.b.cl.releaseMemObject(*buffer)
			*buffer = 0
		}
	}
}

func byteSize[T float32 | float64](x []T) uintptr { return uintptr(len(x)) * unsafe.Sizeof(x[0]) }

// status returns an error unless code, which call returned, is that of success.
func status(call string, code int32) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: error %d", call, code)
}
