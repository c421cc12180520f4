package gpurun

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
)

// Trial is one way to launch a kernel, which Tune has tried.
type Trial struct {
	Device    string  // its id
	Precision string  // "f32" or "f64"
	Launch    string  // the blocks and vectors
	Rate      float64 // operations a second, without transfers; 0 after an error
	Err       error   // it does not run on this device, or gives other bits than the CPU
	Kept      bool    // all have been tried, and this is the one to be used
}

// Tune tries ways to launch the kernel of matrix products on each OpenCL device of
// e, in both precisions, and keeps the fastest, for later engines and processes
// too; with GPURUN_CACHE=off for e alone. It tells of each trial, unless tell is nil.
// The present way comes first, and then unlike ones early, so that it may be cut
// short: the fastest so far is stored at once, and when ctx is done Tune returns
// its error. A trial whose result differs in a bit from the CPU's is an error, and is
// not kept; a cache that cannot be written to ends Tune.
//
// A deadline of ctx is shared out evenly among devices and precisions. It waits
// for the job that runs, and others wait for it.
func (e *Engine) Tune(ctx context.Context, tell func(Trial)) error {
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if tell == nil {
		tell = func(Trial) {}
	}
	var turns []turn
	for _, d := range e.devices {
		if tuner, ok := d.(device.Tuner); ok {
			for _, t := range []kernels.DType{kernels.Float32, kernels.Float64} {
				if d.Info().Support(t) != device.None {
					turns = append(turns, turn{tuner, t})
				}
			}
		}
	}
	for i, x := range turns {
		if err := x.tune(ctx, len(turns)-i, tell); err != nil {
			return fmt.Errorf("gpurun: tune %s: %w", x.ID(), err)
		}
	}
	return ctx.Err()
}

// turn is a device and a precision to tune it in.
type turn struct {
	device.Tuner
	t kernels.DType
}

// tune takes one part of the parts of time that ctx leaves.
func (x turn) tune(ctx context.Context, parts int, tell func(Trial)) error {
	mine := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		mine, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(parts))
		defer cancel()
	}
	best, err := x.TuneMatMul(mine, x.t, func(tried device.Trial) {
		tell(Trial{Device: x.ID(), Precision: x.t.String(), Launch: tried.Launch.String(), Rate: tried.Flops, Err: tried.Err})
	})
	if best.Flops > 0 {
		tell(Trial{Device: x.ID(), Precision: x.t.String(), Launch: best.Launch.String(), Rate: best.Flops, Kept: true})
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // its part of the time is up
	}
	return err
}
