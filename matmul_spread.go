package gpurun

import (
	"context"
	"math"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// spreadOver returns the devices that are to compute p together, or none where
// the CPU does it in place. A device that was named computes whatever it is;
// where "auto" or "all" has found GPUs, what the CPU has done sooner than they
// could begin stays there.
func spreadOver[T float32 | float64](e *Engine, p *kernels.MatMul[T]) ([]device.Device, error) {
	if p.M == 0 || p.N == 0 {
		return nil, nil
	}
	devices, err := e.devicesFor(p.DType())
	if err != nil {
		return nil, err
	}
	if len(devices) == 0 || len(devices) == 1 && devices[0].ID() == e.spare.ID() {
		return nil, nil
	}
	if e.leavesChoice() {
		here := e.spare.Predict(p)
		there := time.Duration(math.MaxInt64)
		for _, d := range devices {
			if d.ID() != e.spare.ID() {
				there = min(there, d.Predict(p))
			}
		}
		if here <= there {
			return nil, nil
		}
	}
	return devices, nil
}

// onlyCPU reports whether products are computed in place, whatever they are.
func (e *Engine) onlyCPU() bool {
	return len(e.devices) == 0 || len(e.devices) == 1 && e.devices[0].ID() == e.spare.ID()
}

// spreadQuietly computes p on devices, if it is not for the CPU, and leaves no
// report. It returns false, with C as it was where β ≠ 0, if that did not succeed.
func spreadQuietly[T float32 | float64](e *Engine, p kernels.MatMul[T]) bool {
	devices, err := spreadOver(e, &p)
	if err != nil || len(devices) == 0 {
		return false
	}
	end, err := e.begin(context.Background())
	if err != nil {
		return false
	}
	defer end()
	_, err = spreadTiles(context.Background(), e, devices, p)
	return err == nil
}

// spread computes p on devices, which pull tiles of C.
func spread[T float32 | float64](ctx context.Context, e *Engine, devices []device.Device, p kernels.MatMul[T]) error {
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	start := time.Now()
	report, err := spreadTiles(ctx, e, devices, p)
	report.Seconds = time.Since(start).Seconds()
	e.keep(report)
	return err
}

// spreadTiles has devices pull the tiles of p, whose turn it is. On an error C is as
// it was where β ≠ 0, and undefined else.
func spreadTiles[T float32 | float64](ctx context.Context, e *Engine, devices []device.Device, p kernels.MatMul[T]) (*Report, error) {
	c, ldc := p.C, p.LDC
	if p.Beta != 0 {
		// Tiles are put into C while others are still computed from what it was.
		p.C, p.LDC = make([]T, p.M*p.N), p.N
		for i := range p.M {
			copy(p.C[i*p.N:][:p.N], c[i*ldc:])
		}
	}
	sink := sinkFunc(func(t kernels.Tile, r *kernels.Result) error {
		tile := kernels.Elements[T](r.Planes[0])
		for i := range t.H {
			copy(c[(t.Y+i)*ldc+t.X:][:t.W], tile[i*t.W:])
		}
		return nil
	})
	report, err := e.run(ctx, &p, devices, sink, dist.Options{Cost: tiler.Uniform(2 * max(p.K, 1))})
	switch {
	case err == nil:
		report.setFlops(p.Flops())
	case p.Beta != 0:
		for i := range p.M {
			copy(c[i*ldc:][:p.N], p.C[i*p.N:])
		}
	}
	return report, err
}
