//go:build !amd64

package main

import (
	"github.com/ebitengine/purego"

	"github.com/gpurun/gpurun/kernels"
)

// Of other processors neither is known.
func fmaPeak(kernels.DType, int) float64 { return 0 }

func memoryBandwidth(int) float64 { return 0 }

// repeat calls a function of C n times.
func repeat(n int, f uintptr, args [15]uintptr) {
	for range n {
		purego.SyscallN(f, args[:]...)
	}
}
