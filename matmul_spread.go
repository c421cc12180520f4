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
	Moved() int64
}

// spreading is who is to compute a product, in tiles. It is nobody where the CPU does
// it in place.
type spreading struct {
	devices []device.Device // of this machine
	hosts   bool            // and what there is of hosts
}

func (s spreading) none() bool { return len(s.devices) == 0 && !s.hosts }

// alone returns the devices if they do without hosts, of which nothing is predicted.
func (s spreading) alone() []device.Device {
	if s.hosts {
		return nil
	}
	return s.devices
}

// predict asks them what p would take.
func (s spreading) predict(p kernels.Job) (all []device.Prediction) {
	for _, d := range s.alone() {
		all = append(all, d.Predict(p))
	}
	return all
}

// spreadOver returns who is to compute p. A device that was named computes whatever
// it is; where "auto" or "all" has found GPUs, what the CPU has done sooner than they
// could begin stays there. Hosts take part if nobody else is to compute, and otherwise
// where that pays.
func (e *Engine) spreadOver(p productJob) (spreading, error) {
	if p.Bounds().Empty() {
		return spreading{}, nil
	}
	devices, err := e.devicesFor(p.DType())
	if err != nil {
		return spreading{}, err
	}
	if e.cluster != nil && (len(devices) == 0 || e.hostsPay(p, devices)) {
		return spreading{devices, true}, nil
	}
	here := spreading{} // in place
	if e.config.Verify > 0 {
		here.devices = []device.Device{e.spare}
	}
	if len(devices) == 1 && devices[0].ID() == e.spare.ID() {
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
	return spreading{devices: devices}, nil
}

// What pays to be sent to hosts: what takes so long here, and longer than its matrices
// take on a fast line. How fast the line is nobody knows before they have been sent; on
// a slow one the devices of this machine do most of the work, and are done about when
// they would be alone.
const (
	travelTime  = 50 * time.Millisecond
	travelBytes = 1 << 30 // a second
)

// hostsPay reports whether there are hosts, and p takes long enough on devices to be
// sent to them.
func (e *Engine) hostsPay(p productJob, devices []device.Device) bool {
	here := time.Duration(math.MaxInt64)
	for _, d := range devices {
		here = min(here, d.Predict(p).Time)
	}
	moved := time.Duration(float64(p.Moved()) / travelBytes * float64(time.Second))
	return here >= max(travelTime, moved) && e.cluster != nil && e.cluster.any()
}

// onlyCPU reports whether products are computed in place, whatever they are.
func (e *Engine) onlyCPU() bool {
	return len(e.devices) == 0 || len(e.devices) == 1 && e.devices[0].ID() == e.spare.ID()
}

// smallFlops is how many operations the CPU has done, with any of its kernels,
// before a transfer to another device has begun.
const smallFlops = 1 << 17

// neverTravels is how many operations any CPU has done in less than travelTime.
const neverTravels = 1 << 24

// inPlace reports whether a product of so many operations is computed in place
// whatever the devices predict: finding that out takes memory, and longer.
func (e *Engine) inPlace(flops float64) bool {
	switch {
	case e.config.Verify > 0, e.cluster != nil && len(e.devices) == 0:
		return false
	case e.onlyCPU():
		return e.cluster == nil || flops < neverTravels
	}
	return flops < smallFlops && e.leavesChoice()
}

// inPlaceForBLAS is inPlace for products through BLAS, which is called for small ones
// too, thousands of times a second. Where it is left to hosts to compute, what does not
// pay to be sent is computed here all the same.
func (e *Engine) inPlaceForBLAS(flops float64) bool {
	return e.inPlace(flops) || e.config.Verify == 0 && len(e.devices) == 0 && flops < neverTravels
}

// spreadQuietly computes p in tiles, if it is not for the CPU alone, and leaves no
// report. It returns false, with C as it was where β ≠ 0, if that did not succeed.
func spreadQuietly[T float32 | float64](e *Engine, p kernels.MatMul[T]) bool {
	ctx := context.Background()
	who, err := e.spreadOver(&p)
	if err != nil || who.none() || len(who.devices) == 0 && !e.hostsPay(&p, []device.Device{e.spare}) {
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
	if _, err = spreadTiles(ctx, e, who, p, before); err != nil {
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

// spread has who is to compute p pull tiles of C. It returns a failure, with C
// as it was where β ≠ 0, if the engine chose the devices and they cannot: then the
// CPU is to compute p. After an error alone C is undefined.
func spread[T float32 | float64](ctx context.Context, e *Engine, who spreading, p kernels.MatMul[T]) (*failure, error) {
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
	predictions := who.predict(&p)
	report, err := spreadTiles(ctx, e, who, p, before)
	report.setPrediction(predictions)
	report.Seconds = time.Since(start).Seconds()
	switch {
	case err == nil || !e.leavesChoice():
		e.keep(report, err)
		return nil, err
	case ctx.Err() != nil:
		e.keep(report, err)
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

// spreadTiles has who is to compute p pull its tiles. It is p's turn, and before is
// copyOfC of it. On an error C is undefined.
func spreadTiles[T float32 | float64](ctx context.Context, e *Engine, who spreading, p kernels.MatMul[T], before matrix[T]) (*Report, error) {
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
	report, err := e.run(ctx, &p, who.devices, who.hosts, sink, dist.Options{Cost: tiler.Uniform(2 * max(p.K, 1))})
	if err == nil {
		report.setProduct(&p, who.alone())
	}
	return report, err
}
