// Package cl binds OpenCL 1.2 at run time, without cgo and without headers.
//
// Names and argument order follow the C API without its cl prefix, so that
// the Khronos reference pages are this package's reference too:
// [Queue.EnqueueNDRangeKernel] is clEnqueueNDRangeKernel. Three habits differ.
// Errors are returned as [*Error]. A method whose name begins with Enqueue
// never blocks and returns an [Event], which the caller must release; what
// blocks has no such prefix. And OpenCL never holds a Go pointer after a call
// has returned: non-blocking transfers go through a [Mapping], which is memory
// that OpenCL owns.
//
// Sizes and offsets are in bytes unless said otherwise. Every object has a
// Release, which may be called several times, and on nil. Objects may be used
// by several goroutines at once, except that a [Kernel] belongs to one, and
// that nobody may use an object while or after another goroutine releases it.
// A method of an object that was released before returns an error.
package cl

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ErrNoLibrary says that the machine has no OpenCL library. The error that
// wraps it lists what was tried.
var ErrNoLibrary = errors.New("no OpenCL library found")

// ErrBrokenLibrary says that the library that GPURUN_OPENCL_LIB names cannot
// be opened or is not an OpenCL library. The error that wraps it names the
// library, and the symbol that it lacks.
var ErrBrokenLibrary = errors.New("the OpenCL library of GPURUN_OPENCL_LIB cannot be used")

// function is an entry point of OpenCL, an index into entryPoints.
type function int

const (
	getPlatformIDs function = iota
	getPlatformInfo
	getDeviceIDs
	getDeviceInfo
	createContext
	releaseContext
	createCommandQueue
	releaseCommandQueue
	createBuffer
	retainMemObject
	releaseMemObject
	createProgramWithSource
	createProgramWithBinary
	releaseProgram
	buildProgram
	getProgramInfo
	getProgramBuildInfo
	createKernel
	releaseKernel
	setKernelArg
	getKernelWorkGroupInfo
	getEventInfo
	releaseEvent
	getEventProfilingInfo
	setEventCallback
	flush
	finish
	enqueueReadBuffer
	enqueueWriteBuffer
	enqueueCopyBuffer
	enqueueFillBuffer
	enqueueMapBuffer
	enqueueUnmapMemObject
	enqueueNDRangeKernel
	enqueueMarkerWithWaitList
	numFunctions
)

// entryPoints gives each function's symbol, and its slot in the table of
// function pointers that cl_khr_icd defines. An optional one came with
// OpenCL 1.2; its address is 0 in a library that is older.
var entryPoints = [numFunctions]struct {
	symbol   string
	slot     int
	optional bool
}{
	getPlatformIDs:            {symbol: "clGetPlatformIDs", slot: 0},
	getPlatformInfo:           {symbol: "clGetPlatformInfo", slot: 1},
	getDeviceIDs:              {symbol: "clGetDeviceIDs", slot: 2},
	getDeviceInfo:             {symbol: "clGetDeviceInfo", slot: 3},
	createContext:             {symbol: "clCreateContext", slot: 4},
	releaseContext:            {symbol: "clReleaseContext", slot: 7},
	createCommandQueue:        {symbol: "clCreateCommandQueue", slot: 9},
	releaseCommandQueue:       {symbol: "clReleaseCommandQueue", slot: 11},
	createBuffer:              {symbol: "clCreateBuffer", slot: 14},
	retainMemObject:           {symbol: "clRetainMemObject", slot: 17},
	releaseMemObject:          {symbol: "clReleaseMemObject", slot: 18},
	createProgramWithSource:   {symbol: "clCreateProgramWithSource", slot: 26},
	createProgramWithBinary:   {symbol: "clCreateProgramWithBinary", slot: 27},
	releaseProgram:            {symbol: "clReleaseProgram", slot: 29},
	buildProgram:              {symbol: "clBuildProgram", slot: 30},
	getProgramInfo:            {symbol: "clGetProgramInfo", slot: 32},
	getProgramBuildInfo:       {symbol: "clGetProgramBuildInfo", slot: 33},
	createKernel:              {symbol: "clCreateKernel", slot: 34},
	releaseKernel:             {symbol: "clReleaseKernel", slot: 37},
	setKernelArg:              {symbol: "clSetKernelArg", slot: 38},
	getKernelWorkGroupInfo:    {symbol: "clGetKernelWorkGroupInfo", slot: 40},
	getEventInfo:              {symbol: "clGetEventInfo", slot: 42},
	releaseEvent:              {symbol: "clReleaseEvent", slot: 44},
	getEventProfilingInfo:     {symbol: "clGetEventProfilingInfo", slot: 45},
	flush:                     {symbol: "clFlush", slot: 46},
	finish:                    {symbol: "clFinish", slot: 47},
	enqueueReadBuffer:         {symbol: "clEnqueueReadBuffer", slot: 48},
	enqueueWriteBuffer:        {symbol: "clEnqueueWriteBuffer", slot: 49},
	enqueueCopyBuffer:         {symbol: "clEnqueueCopyBuffer", slot: 50},
	enqueueMapBuffer:          {symbol: "clEnqueueMapBuffer", slot: 56},
	enqueueUnmapMemObject:     {symbol: "clEnqueueUnmapMemObject", slot: 58},
	enqueueNDRangeKernel:      {symbol: "clEnqueueNDRangeKernel", slot: 59},
	setEventCallback:          {symbol: "clSetEventCallback", slot: 81},
	enqueueFillBuffer:         {symbol: "clEnqueueFillBuffer", slot: 102, optional: true},
	enqueueMarkerWithWaitList: {symbol: "clEnqueueMarkerWithWaitList", slot: 105, optional: true},
}

// functions holds the address of each function. It is written once, by load,
// before any handle of OpenCL can exist, and only read from then on.
var functions [numFunctions]uintptr

// load finds the library on its first call and returns the same answer ever
// after. The library is never closed: drivers keep threads in it.
var load = sync.OnceValue(func() error {
	found, err := findLibrary(libraryNames())
	if err == nil {
		functions = found
	}
	return err
})

// findLibrary returns the entry points of the library that the environment
// names, or else of the first usable one of names.
func findLibrary(names []string) ([numFunctions]uintptr, error) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		// OpenCL passes 64-bit flags by value, which SyscallN cannot do here.
		return [numFunctions]uintptr{}, fmt.Errorf("%w: only 64-bit systems are supported", ErrNoLibrary)
	}
	if name := os.Getenv("GPURUN_OPENCL_LIB"); name != "" {
		found, err := resolve(name)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrBrokenLibrary, err)
		}
		return found, err
	}
	var failures []string
	for _, name := range names {
		found, err := resolve(name)
		if err == nil {
			return found, nil
		}
		failures = append(failures, err.Error())
	}
	return [numFunctions]uintptr{}, fmt.Errorf("%w; tried: %s", ErrNoLibrary, strings.Join(failures, "; "))
}

// resolve opens the library called name and looks every entry point up: by
// its symbol in a loader, through the ICD interface in a bare driver.
func resolve(name string) (found [numFunctions]uintptr, err error) {
	library, err := openLibrary(name)
	if err != nil {
		if !strings.Contains(err.Error(), name) {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return found, err
	}
	for fn, entry := range entryPoints {
		found[fn] = findSymbol(library, entry.symbol)
	}
	if found[getPlatformIDs] == 0 {
		if driver, ok, err := resolveDriver(library); ok || err != nil {
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			return driver, err
		}
	}
	for fn, entry := range entryPoints {
		if found[fn] == 0 && !entry.optional {
			return found, fmt.Errorf("%s: not an OpenCL library: it has no symbol %s", name, entry.symbol)
		}
	}
	return found, nil
}

// call calls fn and returns what it returned. The pragma keeps whatever the
// arguments point to on the heap and alive until the call is over, if they are
// converted to uintptr in the argument list itself.
//
//go:uintptrescapes
func call(fn function, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(functions[fn], args...)
	return r
}

// callCode is call for the functions that return a cl_int.
//
//go:uintptrescapes
func callCode(fn function, args ...uintptr) Code {
	r, _, _ := purego.SyscallN(functions[fn], args...)
	return Code(int32(r))
}
