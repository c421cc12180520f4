// Package opencl holds the OpenCL C kernels and how to launch them. Each
// kernel is a file that stands alone, so that compilers and checkers can read
// it; it is embedded in the binary.
package opencl

import (
	_ "embed"
	"fmt"

	"github.com/gpurun/gpurun/kernels"
)

// Program is one kernel with the options that it is built with.
type Program struct {
	Source  string // OpenCL C 1.2
	Options string // for clBuildProgram
	Entry   string // the kernel function
	Group   int    // work-items a work-group, fixed in the source
}

//go:embed mandelbrot.cl
var mandelbrotSource string

// Settled is the count that the Mandelbrot kernel leaves where the interior
// test settled the pixel; the result's count there is 0.
const Settled = 1<<32 - 1

// mandelbrotGroup suits GPUs, whose schedulers issue 32 or 64 items together;
// larger groups wait longer for their slowest pixel.
const mandelbrotGroup = 64

// Mandelbrot returns the kernel for jobs of type t, Float32 or Float64. The
// source documents the arguments.
func Mandelbrot(t kernels.DType) Program {
	real := "float"
	if t == kernels.Float64 {
		real = "double"
	}
	return Program{
		Source:  mandelbrotSource,
		Options: fmt.Sprintf("-cl-std=CL1.2 -DGROUP=%d -DREAL=%s", mandelbrotGroup, real),
		Entry:   "mandelbrot",
		Group:   mandelbrotGroup,
	}
}
