package cl

import (
	"bytes"
	"strings"
	"unsafe"
)

// query reads attribute p of the object named by handles with fn, one of the
// clGet…Info functions, into size bytes at value. It returns how many bytes
// the attribute has. A nil value with size 0 asks for that number only.
func query(fn function, handles []uintptr, p param, value unsafe.Pointer, size uintptr) (uintptr, Code) {
	var need uintptr
	var code Code
	switch len(handles) {
	case 1:
		code = callCode(fn, handles[0], uintptr(p), size, uintptr(value), uintptr(unsafe.Pointer(&need)))
	default: // clGetProgramBuildInfo and clGetKernelWorkGroupInfo name a device too
		code = callCode(fn, handles[0], handles[1], uintptr(p), size, uintptr(value), uintptr(unsafe.Pointer(&need)))
	}
	return need, code
}

// queryValue reads an attribute of a fixed size. It is the zero T where the
// object lacks the attribute.
func queryValue[T any](fn function, handles []uintptr, p param) (T, Code) {
	value := new(T)
	if _, code := query(fn, handles, p, unsafe.Pointer(value), unsafe.Sizeof(*value)); code != 0 {
		var zero T
		return zero, code
	}
	return *value, 0
}

// queryString reads an attribute that is text, without the white space that
// some drivers put around it.
func queryString(fn function, handles []uintptr, p param) (string, Code) {
	n, code := query(fn, handles, p, nil, 0)
	if code != 0 || n == 0 {
		return "", code
	}
	text := make([]byte, n)
	if _, code = query(fn, handles, p, unsafe.Pointer(&text[0]), n); code != 0 {
		return "", code
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	return strings.TrimSpace(string(text)), 0
}

// cString returns s as a C string.
func cString(s string) []byte { return append([]byte(s), 0) }
