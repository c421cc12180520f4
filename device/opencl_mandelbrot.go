package device

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
	"github.com/gpurun/gpurun/tiler"
)

// openCLMandelbrot runs Mandelbrot tiles on an OpenCL device: bands of a tile
// that fit the memory budget, each in launches that are short.
type openCLMandelbrot struct {
	device    *openCLDevice
	job       *kernels.Mandelbrot
	program   opencl.Program
	monotone2 float64 // the square of kernels.MonotoneLimit
	full      int     // work-items that keep the whole device busy
	speed     *speedometer
	axes      atomic.Int64 // bytes copied at the beginning that no tile has reported yet

	state openCLState[*mandelbrotSlot]
}

func newOpenCLMandelbrot(d *openCLDevice, job *kernels.Mandelbrot) (*openCLMandelbrot, error) {
	itemsPerUnit := 1024
	if d.info.Kind == CPU {
		itemsPerUnit = 64
	}
	limit := kernels.MonotoneLimit(job.R2)
	r := &openCLMandelbrot{
		device: d, job: job, program: opencl.Mandelbrot(job.T), monotone2: limit * limit,
		full: max(d.info.Units, 1) * itemsPerUnit, speed: d.speeds[job.T],
	}
	if err := r.state.open(d, r); err != nil {
		return nil, err
	}
	all := job.Bounds()
	r.axes.Store(int64(all.W+all.H) * int64(job.T.Size()))
	return r, nil
}

// Run computes t.
func (r *openCLMandelbrot) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	return r.state.run(ctx, func(slot *mandelbrotSlot) error { return r.runIn(ctx, slot, t, out) })
}

func (r *openCLMandelbrot) runIn(ctx context.Context, slot *mandelbrotSlot, t kernels.Tile, out *kernels.Result) (err error) {
	if slot.drained {
		if _, err := slot.stillRunning(ctx); err != nil {
			return err
		}
		slot.drained = false
	}
	out.BytesIn = r.axes.Swap(0)
	out.BytesOut = 0
	for _, band := range tiler.Bands(t, slot.size.pixels) {
		times, err := r.runBand(ctx, slot, band, out)
		if err != nil {
			return err
		}
		steps, err := r.deliver(ctx, slot, t, band, out)
		if err != nil {
			return err
		}
		r.speed.record(steps, r.occupancy(band.Area()), times)
	}
	return nil
}

// occupancy returns what part of the device n pixels keep busy.
func (r *openCLMandelbrot) occupancy(n int) float64 { return min(1, float64(n)/float64(r.full)) }

// runBand leaves the counts and magnitudes of band in the slot's buffers. It
// returns what its launches took, and tells out of each.
func (r *openCLMandelbrot) runBand(ctx context.Context, slot *mandelbrotSlot, band kernels.Tile, out *kernels.Result) (times launchTimes, err error) {
	n, maxIter := band.Area(), r.job.MaxIter
	for from := 0; from < n; {
		pixels, steps := planLaunch(n-from, maxIter, r.full, r.speed.stepsPerLaunch())
		if steps < maxIter {
			pixels = min(pixels, slot.size.orbits)
		}
		for first := 0; first < maxIter; {
			last := first + min(steps, maxIter-first)
			start := time.Now()
			if err := r.enqueue(ctx, slot, band, from, pixels, first, last); err != nil {
				return times, err
			}
			elapsed := time.Since(start)
			times.add(elapsed)
			out.Advance()
			if last < maxIter {
				running, err := slot.stillRunning(ctx)
				if err != nil {
					return times, err
				}
				if running == 0 {
					break
				}
				var one launchTimes
				one.add(elapsed)
				r.speed.record(int64(running)*int64(last-first), r.occupancy(pixels), one)
			}
			first = last
		}
		from += pixels
	}
	return times, nil
}

// enqueue has the kernel do the steps first+1 … last of pixels of the band, from
// the one with index from on, and waits.
func (r *openCLMandelbrot) enqueue(ctx context.Context, slot *mandelbrotSlot, band kernels.Tile, from, pixels, first, last int) error {
	job, mags := r.job, slot.mags
	if mags == nil {
		mags = slot.counts // an argument that the kernel then ignores
	}
	err := slot.kernel.SetArgs(slot.cx, slot.cy, uint32(band.X), uint32(band.Y), uint32(band.W),
		uint32(from), uint32(pixels), uint32(first), uint32(last), uint32(job.MaxIter),
		flag(job.Julia), real(job.T, job.CRe), real(job.T, job.CIm), real(job.T, job.R2), real(job.T, r.monotone2),
		slot.counts, flag(job.Magnitudes), mags, uint32(from), slot.orbits, slot.running)
	if err != nil {
		return err
	}
	group := r.program.Group
	global := (pixels + group - 1) / group * group
	return wait(ctx)(slot.queue.EnqueueNDRangeKernel(slot.kernel, nil, []int{global}, []int{group}))
}

// real returns x as an argument of type t.
func real(t kernels.DType, x float64) any {
	if t == kernels.Float32 {
		return float32(x)
	}
	return x
}

// flag returns b as an argument of type int.
func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// wait returns a function that waits for what an Enqueue method returned.
func wait(ctx context.Context) func(*cl.Event, error) error {
	return func(e *cl.Event, err error) error {
		if err != nil {
			return err
		}
		defer e.Release()
		return e.Wait(ctx)
	}
}

// stillRunning returns how many pixels of the last launch have to go on.
func (s *mandelbrotSlot) stillRunning(ctx context.Context) (uint32, error) {
	at := s.host.Size() - 4
	if err := wait(ctx)(s.queue.EnqueueReadBuffer(s.running, 0, s.host, at, 4)); err != nil {
		return 0, err
	}
	now := kernels.Elements[uint32](s.host.Bytes()[at:])[0]
	running := now - s.lastRunning // the counter is never reset, and may go round
	s.lastRunning = now
	return running, nil
}

// deliver copies band, computed in the slot's buffers, to its place in out, the
// result of tile t. It returns how many steps the band took.
func (r *openCLMandelbrot) deliver(ctx context.Context, slot *mandelbrotSlot, t, band kernels.Tile, out *kernels.Result) (steps int64, err error) {
	bytes := int64(band.Area()) * 4
	plane := slot.counts.Size()
	for p, buffer := range []*cl.Buffer{slot.counts, slot.mags}[:len(out.Planes)] {
		if err := wait(ctx)(slot.queue.EnqueueReadBuffer(buffer, 0, slot.host, int64(p)*plane, bytes)); err != nil {
			return 0, err
		}
	}
	host := slot.host.Bytes()
	elements := kernels.Elements[uint32](host[:bytes])
	for i, n := range elements {
		switch n {
		case 0:
			steps += int64(r.job.MaxIter)
		case opencl.Settled:
			elements[i] = 0
		default:
			steps += int64(n)
		}
	}
	place := kernels.Tile{X: band.X - t.X, Y: band.Y - t.Y, W: band.W, H: band.H}
	for p := range out.Planes {
		tiler.Paste(out.Planes[p], t.W, place, host[int64(p)*plane:int64(p)*plane+bytes], 4)
		out.BytesOut += bytes
	}
	return steps, nil
}

// Close waits for what still drains.
func (r *openCLMandelbrot) Close() error {
	r.state.close()
	return nil
}
