package main

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

//lint:ignore U1000 what is used is its address
func callMany()

func callManyAddress() uintptr

// repeat calls a function of C n times, from assembly, so that the way from Go
// to C and back is not in the time of each.
func repeat(n int, f uintptr, args [15]uintptr) {
	purego.SyscallN(callManyAddress(), f, uintptr(unsafe.Pointer(&args)), uintptr(n))
}
