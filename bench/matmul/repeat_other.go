//go:build !amd64

package main

import "github.com/ebitengine/purego"

// repeat calls a function of C n times.
func repeat(n int, f uintptr, args [15]uintptr) {
	for range n {
		purego.SyscallN(f, args[:]...)
	}
}
