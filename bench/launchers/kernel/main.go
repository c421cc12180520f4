//go:build linux && cgo

// Kernel is a shared library for programs in other languages: the rows of an image of
// the Mandelbrot set, computed by the kernel with which gpurun computes them. So what
// those programs are compared in is all but the kernel.
package main

/*
#include <stdint.h>
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

func main() {}

// mandelbrot_rows writes the counts of the rows from … to−1 of an image of width×height
// pixels, in float64 and with an escape radius of 2. counts has width·(to−from) elements.
//
//export mandelbrot_rows
func mandelbrot_rows(re, im, span C.double, width, height, maxIter, from, to C.int64_t, counts *C.uint32_t) {
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: int(maxIter), R2: 4}
	job.CX, job.CY = kernels.Axes(job.T, float64(re), float64(im), float64(span), int(width), int(height))
	t := kernels.Tile{Y: int(from), W: int(width), H: int(to - from)}
	r := kernels.NewResult(job, t)
	cpu.Best().Mandelbrot(job, t, r, cpu.Once(0, t.Area()), new(atomic.Bool))
	copy(unsafe.Slice((*byte)(unsafe.Pointer(counts)), len(r.Planes[0])), r.Planes[0])
}
