package machine

import "github.com/gpurun/gpurun/kernels/cpu"

//go:noescape
func fma512(n int)

//go:noescape
func fma256(n int)

//go:noescape
func read(p *byte, n int)

// fmaLoop returns a loop of fused multiply-adds, and the bytes of the results
// of one turn of it, or nil.
func fmaLoop() (loop func(turns int), bytes int) {
	switch cpu.Best() {
	case cpu.AVX512:
		return fma512, 24 * 64
	case cpu.AVX2:
		return fma256, 12 * 32
	}
	return nil, 0
}

// readLoop returns what reads n bytes, a multiple of 256, or nil.
func readLoop() func(p *byte, n int) {
	if cpu.Best() == cpu.Generic {
		return nil // it is not known whether there is AVX, which read needs
	}
	return read
}
