package main

import (
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

//go:noescape
func fma512(n int)

//go:noescape
func fma256(n int)

//go:noescape
func read(p *byte, n int)

//lint:ignore U1000 what is used is its address
func callMany()

func callManyAddress() uintptr

// repeat calls a function of C n times, from assembly, so that the way from Go
// to C and back is not in the time of each.
func repeat(n int, f uintptr, args [15]uintptr) {
	purego.SyscallN(callManyAddress(), f, uintptr(unsafe.Pointer(&args)), uintptr(n))
}

// fmaPeak returns the GFLOP/s of fused multiply-adds that have their operands in
// registers.
func fmaPeak(t kernels.DType, threads int) float64 {
	const n = 100_000
	loop, perTurn := fma512, 2*24*64/t.Size()
	switch cpu.Best() {
	case cpu.AVX2:
		loop, perTurn = fma256, 2*12*32/t.Size()
	case cpu.Generic:
		return 0
	}
	return float64(perTurn) * n * float64(threads) / 1e9 / together(threads, func(int) { loop(n) })
}

// memoryBandwidth returns the GB/s at which memory is read that is in no cache.
func memoryBandwidth(threads int) float64 {
	const size = 256 << 20
	memory := make([]byte, size)
	for i := range memory {
		memory[i] = byte(i)
	}
	best := 0.0
	for range 5 {
		share := size / threads &^ 255
		seconds := together(threads, func(i int) { read(&memory[i*share], share) })
		best = max(best, float64(share*threads)/1e9/seconds)
	}
	return best
}

// together returns the seconds that n goroutines take for f.
func together(n int, f func(i int)) float64 {
	var done sync.WaitGroup
	begin := time.Now()
	for i := range n - 1 {
		done.Go(func() { f(i + 1) })
	}
	f(0)
	done.Wait()
	return time.Since(begin).Seconds()
}
