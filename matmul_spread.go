package gpurun

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// productJob is a product as a job: a kernels.MatMul.
type productJob interface {
	kernels.Job
	Flops() float64
}

// spreadOver returns the devices that are to compute p together, or none where
// the CPU does it in place. A device that was named computes whatever it is;
// where "auto" or "all" has found GPUs, what the CPU has done sooner than they
// could begin stays there.
func (e *Engine) spreadOver(p productJob) ([]device.Device, error) {
	if p.Bounds().Empty() {
		return nil, nil
	}
	devices, err := e.devicesFor(p.DType())
	if err != nil {
		return nil, err
	}
	here := []device.Device(nil) // in place
	if e.config.Verify > 0 {
		here = []device.Device{e.spare}
	}
	if len(devices) == 0 || len(devices) == 1 && devices[0].ID() == e.spare.ID() {
		return here, nil
	}
	if e.leavesChoice() {
		there := time.Duration(math.MaxInt64)
		for _, d := range devices {
			if d.ID() != e.spare.ID() {
				there = min(there, d.Predict(p).Time)
			}
		}
		if e.spare.Predict(p).Time <= there {
			return here, nil
		}
	}
	return devices, nil
}

// onlyCPU reports whether products are computed in place, whatever they are.
func (e *Engine) onlyCPU() bool {
	return len(e.devices) == 0 || len(e.devices) == 1 && e.devices[0].ID() == e.spare.ID()
}

// smallFlops is how many operations the CPU has done, with any of its kernels,
// before a transfer to another device has begun.
const smallFlops = 1 << 17

// inPlace reports whether a product of so many operations is computed in place
// whatever the devices predict: finding that out takes memory, and longer.
func (e *Engine) inPlace(flops float64) bool {
	return e.config.Verify == 0 && (e.onlyCPU() || flops < smallFlops && e.leavesChoice())
}

// spreadQuietly computes p on devices, if it is not for the CPU, and leaves no
// report. It returns false, with C as it was where β ≠ 0, if that did not succeed.
func spreadQuietly[T float32 | float64](e *Engine, p kernels.MatMul[T]) bool {
	ctx := context.Background()
	devices, err := e.spreadOver(&p)
	if err != nil || len(devices) == 0 {
		return false
	}
	end, err := e.begin(ctx)
	if err != nil {
		return false
	}
	defer end()
	before, err := copyOfC(ctx, &p)
	if err != nil {
		return false
	}
	if _, err = spreadTiles(ctx, e, devices, p, before); err != nil {
		_ = copyMatrix(ctx, result(&p), before) // ctx is never done
	}
	return err == nil
}

// failure is what came of devices that the engine had chosen, and that failed.
type failure struct {
	start   time.Time
	devices []DeviceReport
	err     error
}

// tell adds f, unless it is nil, to the report of the product that the CPU then
// computed.
func (f *failure) tell(r *Report) {
	if f == nil {
		return
	}
	r.Seconds = time.Since(f.start).Seconds()
	for _, d := range f.devices {
		if d.ID == r.Devices[0].ID {
			continue // the CPU had a part in both
		}
		if d.SetAside == "" {
			d.SetAside = f.err.Error()
		}
		r.Devices = append(r.Devices, DeviceReport{ID: d.ID, Host: d.Host, Kind: d.Kind, Name: d.Name, SetAside: d.SetAside})
	}
}

// spread computes p on devices, which pull tiles of C. It returns a failure, with C
// as it was where β ≠ 0, if the engine chose the devices and they cannot: then the
// CPU is to compute p. After an error alone C is undefined.
func spread[T float32 | float64](ctx context.Context, e *Engine, devices []device.Device, p kernels.MatMul[T]) (*failure, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	start := time.Now()
	before, err := copyOfC(ctx, &p)
	switch {
	case errors.Is(err, ErrTooLarge) && e.leavesChoice():
		return &failure{start: start, err: err}, nil
	case err != nil:
		return nil, err
	}
	predictions := predict(&p, devices)
	report, err := spreadTiles(ctx, e, devices, p, before)
	report.setPrediction(predictions)
	report.Seconds = time.Since(start).Seconds()
	switch {
	case err == nil || !e.leavesChoice():
		e.keep(report)
		return nil, err
	case ctx.Err() != nil:
		e.keep(report)
		return nil, ctx.Err()
	}
	if err := copyMatrix(ctx, result(&p), before); err != nil {
		return nil, err
	}
	return &failure{start, report.Devices, err}, nil
}

// result returns C.
func result[T float32 | float64](p *kernels.MatMul[T]) matrix[T] {
	return matrix[T]{p.M, p.N, p.LDC, p.C}
}

// copyOfC returns a copy of C where β ≠ 0, and else a matrix without elements:
// tiles are put into C while others are still computed from what it was.
func copyOfC[T float32 | float64](ctx context.Context, p *kernels.MatMul[T]) (before matrix[T], err error) {
	if p.Beta == 0 {
		return before, nil
	}
	if err := checkMatrixMemory[T]("the copy of c", p.M, p.N); err != nil {
		return before, err
	}
	before = matrix[T]{p.M, p.N, p.N, make([]T, p.M*p.N)}
	return before, copyMatrix(ctx, before, result(p))
}

// spreadTiles has devices pull the tiles of p, whose turn it is, and of which before
// is copyOfC. On an error C is undefined.
func spreadTiles[T float32 | float64](ctx context.Context, e *Engine, devices []device.Device, p kernels.MatMul[T], before matrix[T]) (*Report, error) {
	c, ldc := p.C, p.LDC
	if p.Beta != 0 {
		p.C, p.LDC = before.data, before.stride
	}
	sink := sinkFunc(func(t kernels.Tile, r *kernels.Result) error {
		tile := kernels.Elements[T](r.Planes[0])
		for i := range t.H {
			copy(c[(t.Y+i)*ldc+t.X:][:t.W], tile[i*t.W:])
		}
		return nil
	})
	report, err := e.run(ctx, &p, devices, sink, dist.Options{Cost: tiler.Uniform(2 * max(p.K, 1))})
	if err == nil {
		report.setProduct(&p, devices)
	}
	return report, err
}
