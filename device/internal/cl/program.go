package cl

import (
	"crypto/sha256"
	"strings"
	"unsafe"
)

// Program is compiled OpenCL C.
type Program struct {
	object
	ctx *Context
}

// CreateProgramWithSource compiles source with the compiler's options, such as
// "-cl-std=CL1.2 -D TILE=16". A source that does not compile is a *BuildError.
// It blocks, for a second or more on some drivers.
func (c *Context) CreateProgramWithSource(source, options string) (*Program, error) {
	const op = "create program"
	context := c.handle.Load()
	if context == 0 {
		return nil, c.released(op, INVALID_CONTEXT)
	}
	var code Code
	text, length := unsafe.StringData(source), uintptr(len(source))
	handle := call(createProgramWithSource, context, 1, uintptr(unsafe.Pointer(&text)),
		uintptr(unsafe.Pointer(&length)), uintptr(unsafe.Pointer(&code)))
	if code != 0 {
		return nil, c.result(op, code)
	}
	if code := c.build(handle, options); code != 0 {
		log, _ := queryString(getProgramBuildInfo, []uintptr{handle, c.device.id}, programBuildLog)
		callCode(releaseProgram, handle)
		if code != BUILD_PROGRAM_FAILURE {
			return nil, c.errorf("build program", code, "%s", log)
		}
		return nil, newBuildError(c.device.Name, source, log)
	}
	return c.newProgram(handle), nil
}

// CreateProgramWithBinary takes what Program.Binary returned, for the same
// device, driver and options. What is damaged, or what the driver refuses, is
// INVALID_BINARY.
func (c *Context) CreateProgramWithBinary(sealed []byte, options string) (*Program, error) {
	const op = "load program binary"
	context := c.handle.Load()
	if context == 0 {
		return nil, c.released(op, INVALID_CONTEXT)
	}
	binary, ok := unseal(sealed)
	if !ok {
		return nil, c.errorf(op, INVALID_BINARY, "it is damaged")
	}
	var code, loaded Code
	data, length := unsafe.SliceData(binary), uintptr(len(binary))
	handle := call(createProgramWithBinary, context, 1, uintptr(unsafe.Pointer(&c.device.id)),
		uintptr(unsafe.Pointer(&length)), uintptr(unsafe.Pointer(&data)),
		uintptr(unsafe.Pointer(&loaded)), uintptr(unsafe.Pointer(&code)))
	if code == 0 {
		code = loaded
	}
	if code == 0 {
		code = c.build(handle, options)
	}
	if code == 0 {
		return c.newProgram(handle), nil
	}
	if handle != 0 {
		callCode(releaseProgram, handle)
	}
	if IsOutOfMemory(code) {
		return nil, c.result(op, code)
	}
	return nil, c.errorf(op, INVALID_BINARY, "the driver said %v", code)
}

// build compiles or links the program called handle.
func (c *Context) build(handle uintptr, options string) Code {
	if strings.ContainsRune(options, 0) {
		return INVALID_VALUE
	}
	text := cString(options)
	var code Code
	intoDriver(func() {
		code = callCode(buildProgram, handle, 1, uintptr(unsafe.Pointer(&c.device.id)),
			uintptr(unsafe.Pointer(&text[0])), 0, 0)
	})
	return code
}

func (c *Context) newProgram(handle uintptr) *Program {
	p := &Program{ctx: c}
	p.own(programs, handle)
	return p
}

// Release gives the program up. Its kernels stay usable.
func (p *Program) Release() {
	if p != nil {
		p.release(programs, releaseProgram)
	}
}

// Binary returns the compiled program, to be kept for CreateProgramWithBinary:
// the driver's own format behind a checksum.
func (p *Program) Binary() ([]byte, error) {
	const op = "get program binary"
	handle := p.handle.Load()
	if handle == 0 {
		return nil, p.ctx.released(op, INVALID_PROGRAM)
	}
	handles := []uintptr{handle}
	size, code := queryValue[uintptr](getProgramInfo, handles, programBinarySizes)
	if code != 0 {
		return nil, p.ctx.result(op, code)
	}
	if size == 0 {
		return nil, p.ctx.errorf(op, INVALID_OPERATION, "the driver has none")
	}
	sealed := make([]byte, sha256.Size+size)
	binary := sealed[sha256.Size:]
	pointers := [1]*byte{&binary[0]}
	_, code = query(getProgramInfo, handles, programBinaries, unsafe.Pointer(&pointers), unsafe.Sizeof(pointers))
	if code != 0 {
		return nil, p.ctx.result(op, code)
	}
	sum := sha256.Sum256(binary)
	copy(sealed, sum[:])
	return sealed, nil
}

// unseal returns the driver's part of what Binary returned, or false if it is
// not whole. Drivers cannot be asked: PoCL aborts the process when a binary
// was cut short.
func unseal(sealed []byte) ([]byte, bool) {
	if len(sealed) <= sha256.Size {
		return nil, false
	}
	binary := sealed[sha256.Size:]
	return binary, sha256.Sum256(binary) == [sha256.Size]byte(sealed)
}
