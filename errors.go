package gpurun

import (
	"errors"
	"fmt"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/launch"
	"github.com/gpurun/gpurun/internal/npy"
)

var (
	// ErrView is matched by every error about a View that cannot be computed.
	ErrView = errors.New("gpurun: invalid view")

	// ErrPalette is matched by the error about an unknown palette.
	ErrPalette = errors.New("gpurun: unknown palette")

	// ErrShape is matched by every error about matrices that cannot be multiplied:
	// their shapes do not fit together, a stride is shorter than a row, or data are
	// missing.
	ErrShape = errors.New("gpurun: matrices do not fit")

	// ErrOverlap is matched by the error about a result that shares elements with
	// an operand.
	ErrOverlap = errors.New("gpurun: the result overlaps an operand")

	// ErrTooLarge is matched by the error about an image or a matrix that does not
	// fit into this machine's memory.
	ErrTooLarge = errors.New("gpurun: too large for memory")

	// ErrFormat is matched by the error about a file that holds no matrix that can be
	// read.
	ErrFormat = npy.ErrFormat

	// ErrChanged is matched by the error about a file that changed while it was in
	// use.
	ErrChanged = npy.ErrChanged

	// ErrBuild is matched by the error about OpenCL C that the compiler of a device refused:
	// a *BuildError says where.
	ErrBuild = device.ErrBuild

	// ErrLaunch is matched by errors about a launcher, such as mpiexec, that does not do what
	// is expected of it: see Launched.
	ErrLaunch = launch.ErrLaunch

	// ErrDrained is matched by the error of a worker in a Job of Kubernetes that was asked to
	// stop before rank 0 was done.
	ErrDrained = errors.New("asked to stop before the job was done")

	// ErrClosed is returned by an Engine that has been closed.
	ErrClosed = errors.New("gpurun: engine is closed")

	// ErrDevice is matched by the error about devices that were asked for and are
	// not there.
	ErrDevice = device.ErrChoice

	// ErrDeviceName is matched by the error about a word that names no kind of
	// device and is no id.
	ErrDeviceName = device.ErrName

	// ErrNoDevice is matched by the error of a job that every device failed. It
	// has their errors too.
	ErrNoDevice = dist.ErrNoDevice

	// ErrTileFailed is matched by the error of a job of which a part failed
	// wherever it was tried. It has the errors of those devices too.
	ErrTileFailed = dist.ErrTileFailed

	// ErrBudget is matched by the error about a memory budget too small for a
	// single element.
	ErrBudget = device.ErrBudget
)

// BuildError is OpenCL C that the compiler of a device refused, with its messages. It matches
// ErrBuild.
type BuildError = device.BuildError

// ViewError says which field of a View is wrong, and how. It matches ErrView.
type ViewError struct {
	Field  string // as the command line spells it
	Value  string
	Reason string
}

func (e *ViewError) Error() string { return e.Field + " " + e.Value + " " + e.Reason }

// Is makes a ViewError match ErrView.
func (e *ViewError) Is(target error) bool { return target == ErrView }

func viewError(field string, value any, reason string) error {
	return &ViewError{Field: field, Value: fmt.Sprint(value), Reason: reason}
}
