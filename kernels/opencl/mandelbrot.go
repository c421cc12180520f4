package opencl

import (
	_ "embed"
	"fmt"

	"github.com/gpurun/gpurun/kernels"
)

//go:embed mandelbrot.cl
var mandelbrotSource string

//go:embed mandelbrot_cpu.cl
var mandelbrotCPUSource string

//go:embed mandelbrot_cpu_lanes.cl
var mandelbrotCPULanesSource string

// Mandelbrot is one of the kernels of Mandelbrot jobs. They have the same
// arguments, which mandelbrot.cl documents.
type Mandelbrot struct {
	Program

	// RoundSteps is the steps of all orbits of a work-group in one of the rounds by
	// which the length of a launch is given.
	RoundSteps int

	// Orbits is how many pixels a work-group has in hand at a time.
	Orbits int

	// GroupReals and GroupUints are the elements that a work-group keeps between
	// launches: of the job's type, and uint.
	GroupReals, GroupUints int
}

// The pixels taken, the pixels finished and the rounds done are counted in these
// elements of the buffer that the kernels call control, which has Counters.
const (
	Taken = iota
	Finished
	Rounds
	Counters
)

// MandelbrotScalar returns the kernel for jobs of type t, Float32 or Float64, in
// which a work-item has one pixel at a time: for GPUs.
func MandelbrotScalar(t kernels.DType) Mandelbrot {
	// The schedulers of GPUs issue 32 or 64 items together; larger groups wait longer
	// for one another. In longer rounds items that are done wait longer for a pixel, in
	// shorter ones the barriers cost more.
	const group, round = 64, 64
	return Mandelbrot{
		Program: Program{
			Source:  mandelbrotSource,
			Options: fmt.Sprintf(standard+" -DREAL=%s -DGROUP=%d -DROUND=%d", realName(t), group, round),
			Entry:   "mandelbrot",
			Group:   group,
		},
		RoundSteps: group * round, Orbits: group, GroupReals: 4 * group, GroupUints: 2 * group,
	}
}

// MandelbrotVector returns the kernel for jobs of type t, Float32 or Float64, in
// which a work-item has several vectors of pixels, of vector elements each, 2, 4, 8
// or 16: for CPUs.
func MandelbrotVector(t kernels.DType, vector int) Mandelbrot {
	// A step of four vectors keeps the arithmetic of one core of an x86 processor busy
	// while it waits for the last. The longest block that few orbits leave costs least.
	const vectors, block = 4, 32
	name, integer := realName(t), "int"
	if t == kernels.Float64 {
		integer = "long"
	}
	lanes := vectors * vector
	fresh, aside := 5*lanes, 2*lanes // as in the source
	options := fmt.Sprintf(standard+" -DREAL=%s -DINT=%s -DVECTOR=%d -DVECTORS=%d -DBLOCK=%d", name, integer, vector, vectors, block)
	options += fmt.Sprintf(" -DREALV=%[1]s%[2]d -DINTV=%[3]s%[2]d -DUINTV=uint%[2]d -DTO_UINT=convert_uint%[2]d -DTO_FLOAT=convert_float%[2]d", name, vector, integer)
	options += fmt.Sprintf(" -DLOAD=vload%[1]d -DSTORE=vstore%[1]d", vector)
	return Mandelbrot{
		Program:    Program{Source: mandelbrotCPUSource + mandelbrotCPULanesSource, Options: options, Entry: "mandelbrot_cpu", Group: 1},
		RoundSteps: lanes * block, Orbits: lanes,
		GroupReals: 4*(lanes+fresh+aside) + 2*lanes, GroupUints: 2*(lanes+fresh+aside) + 16,
	}
}

// realName returns what OpenCL C calls t, Float32 or Float64.
func realName(t kernels.DType) string {
	if t == kernels.Float64 {
		return "double"
	}
	return "float"
}
