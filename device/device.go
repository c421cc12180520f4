// Package device finds the devices of this machine that compute tiles, and
// chooses among them: the CPU, which is always there, and every OpenCL device
// that a driver offers. OpenCL is looked for at run time; a machine without it
// has one device.
package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
)

// Kind says what a device is.
type Kind string

const (
	CPU         Kind = "cpu"
	GPU         Kind = "gpu"
	Accelerator Kind = "accelerator"
)

// Support says how well a device does the arithmetic of one element type.
type Support string

const (
	// Exact: fused multiply-add, denormals, infinities, NaN and rounding to
	// nearest are those of IEEE 754, so results are the same to the last bit
	// as everywhere else.
	Exact Support = "exact"

	// Inexact: the type is there, but one of those is missing. Such a device
	// computes nothing in that type unless it is asked for by its id.
	Inexact Support = "inexact"

	// None: the device does not have the type.
	None Support = "none"
)

// The backends: how a device is driven.
const (
	BackendCPU    = "cpu"
	BackendOpenCL = "opencl"
)

// Info describes a device.
type Info struct {
	ID      string `json:"id"`      // "cpu", or "ocl:P.D" for device D of OpenCL platform P
	Kind    Kind   `json:"kind"`    // of the hardware: PoCL, an OpenCL driver for CPUs, is "cpu"
	Backend string `json:"backend"` // "cpu" or "opencl"
	Name    string `json:"name"`
	Driver  string `json:"driver"` // the OpenCL driver with its version, or the instruction set

	// What tells a device from others, each empty where it is unknown.
	Vendor string `json:"vendor"` // of a GPU: "nvidia", "amd" or "intel"
	PCI    string `json:"pci"`    // address of the card, such as "0000:3b:00.0"
	UUID   string `json:"uuid"`   // such as "4b2c1a9f-8d3e-6f7a-b5c9-2e4d8a1f6c3b"

	Units    int   `json:"units"`     // cores or compute units
	Memory   int64 `json:"memory"`    // bytes
	MaxAlloc int64 `json:"max_alloc"` // bytes that one buffer may have
	Budget   int64 `json:"budget"`    // bytes that tiles on it may take together

	Float32 Support `json:"f32"`
	Float64 Support `json:"f64"`
}

// Support returns how well the device computes in t.
func (i Info) Support(t kernels.DType) Support {
	switch t {
	case kernels.Float32:
		return i.Float32
	case kernels.Float64:
		return i.Float64
	}
	return None
}

// Device computes tiles. All methods are safe for concurrent use.
type Device interface {
	// Info describes the device.
	Info() Info

	// ID returns Info().ID.
	ID() string

	// Slots returns how many tiles the device likes to have at once.
	Slots() int

	// Begin prepares the device for job: it builds the kernel and allocates
	// buffers. The runner must be closed before the device is.
	Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error)

	// Predict returns what all of a matrix product would take on the device,
	// roughly, or the zero Prediction for another job. The time rests on what was
	// measured, or else on a guess.
	Predict(job kernels.Job) Prediction

	// PeakBytes returns the largest sum of allocations that there has been in
	// the device's memory since it was opened. For the CPU, that is what products
	// take whose operands are not in memory.
	PeakBytes() int64

	// Close releases the device. Every runner must have been closed.
	Close() error
}

// Prediction is what a job is predicted to take on a device.
type Prediction struct {
	Time  time.Duration
	Bytes int64 // to and from its memory
}

var (
	// ErrChoice is matched by errors about devices that were asked for and are
	// not there.
	ErrChoice = errors.New("no such device")

	// ErrUnsupported is matched by the error of a device that has no kernel for
	// a job, or lacks the job's element type.
	ErrUnsupported = errors.New("not supported by the device")

	// ErrBuild is matched by the error of a device whose compiler refused a kernel: a
	// *BuildError.
	ErrBuild error = cl.BUILD_PROGRAM_FAILURE

	// ErrBudget is matched by the error of a device whose memory budget does
	// not hold what a single element of a job takes.
	ErrBudget = errors.New("memory budget too small")
)

// BuildError is OpenCL C that a device's compiler refused.
type BuildError = cl.BuildError

// unsupported is the error of Begin for a job that a device cannot compute.
func unsupported(job kernels.Job) error {
	return fmt.Errorf("%w: %s in %v", ErrUnsupported, job.Kernel(), job.DType())
}

// outside is the error of Run for a tile that is not in the job.
func outside(job kernels.Job, t kernels.Tile) error {
	return fmt.Errorf("tile %v is not in the job's %v", t, job.Bounds())
}
