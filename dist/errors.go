package dist

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// The ways in which a job ends without being done, besides the error of its
// context or its Sink. Test for them with errors.Is.
var (
	// ErrTileFailed: a tile failed on three devices, or on every device that
	// was left.
	ErrTileFailed = errors.New("a tile failed wherever it was tried")

	// ErrNoDevice: no device was given, or each was set aside.
	ErrNoDevice = errors.New("no device is left")
)

// ErrLost marks an error of a Runner's Run as a loss: the tile did not reach
// the device or its result did not come back, and nothing is wrong with the
// tile. A lost tile is computed elsewhere, any number of times.
var ErrLost = errors.New("the tile was lost")

// ErrWrong is matched by the error of Options.Verify about a result that is not
// right.
var ErrWrong = errors.New("the result is wrong")

var (
	// errHostGone marks a loss that every further tile would suffer too.
	errHostGone = errors.New("the host has gone")

	errHung = errors.New("the device did not stop when it was told to")

	// errLate is why a lease is lost that has reached its deadline.
	errLate = errors.New("no answer came in time")

	// errRefused answers a puller whose lease is no longer good: it expired,
	// its area was answered by another, or the job has ended.
	errRefused = errors.New("dist: the lease has ended")

	// errOver answers a pull when there will be no more work for the puller.
	errOver = errors.New("dist: no more work")
)

// DeviceError says what failed on which device.
type DeviceError struct {
	Device string // the device's ID
	Op     string // what was attempted, such as "computing tile 64×64+0+0"
	Err    error
}

// Error returns the device, what was attempted, and the cause.
func (e *DeviceError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Device, e.Op, e.Err) }

// Unwrap returns the cause.
func (e *DeviceError) Unwrap() error { return e.Err }

func computing(device string, t kernels.Tile, err error) *DeviceError {
	return &DeviceError{Device: device, Op: "computing tile " + t.String(), Err: err}
}

// JobError ends a job that no device could complete. errors.Is and errors.As
// see its Reason and through every cause.
type JobError struct {
	Reason error // ErrTileFailed or ErrNoDevice
	Causes []*DeviceError

	joinable bool          // devices could have joined the job
	waited   time.Duration // for one that would
	absent   []error       // why hosts are not there, if there are no causes
}

// Error returns the reason, what to do, and every cause.
func (e *JobError) Error() string {
	var b strings.Builder
	b.WriteString(e.Reason.Error())
	causes := make([]error, len(e.Causes))
	for i, c := range e.Causes {
		causes[i] = c
	}
	switch {
	case len(e.absent) > 0:
		fmt.Fprintf(&b, ": none came within %v; start the hosts again, raise --wait, or choose a device: ", e.waited)
		causes = e.absent
	case len(e.Causes) == 0 && e.joinable:
		fmt.Fprintf(&b, ": none joined within %v; start gpurun worker --join, raise --wait, or choose a device", e.waited)
	case len(e.Causes) == 0:
		b.WriteString(": no devices were given; choose one")
	case e.Reason == ErrTileFailed:
		b.WriteString("; look for the fault in the job, or in each device named, and leave out a faulty one: ")
	default:
		b.WriteString("; choose other devices, or remove the cause: ")
	}
	for i, c := range causes {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Error())
	}
	return b.String()
}

// Unwrap returns the reason and the causes.
func (e *JobError) Unwrap() []error {
	errs := append([]error{e.Reason}, e.absent...)
	for _, c := range e.Causes {
		errs = append(errs, c)
	}
	return errs
}
