package device

import (
	"context"
	"runtime"
	"sync"
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
	kernel    opencl.Mandelbrot
	monotone2 float64 // the square of kernels.MonotoneLimit
	full      int     // work-groups that keep the whole device busy
	speed     *speedometer
	axes      atomic.Int64 // bytes copied at the beginning that no tile has reported yet

	state openCLState[*mandelbrotSlot]
}

func newOpenCLMandelbrot(d *openCLDevice, job *kernels.Mandelbrot) (*openCLMandelbrot, error) {
	limit := kernels.MonotoneLimit(job.R2)
	r := &openCLMandelbrot{device: d, job: job, monotone2: limit * limit, speed: d.speeds[job.T]}
	r.kernel, r.full = d.mandelbrotKernel(job.T)
	if err := r.state.open(d, r); err != nil {
		return nil, err
	}
	all := job.Bounds()
	r.axes.Store(int64(all.W+all.H) * int64(job.T.Size()))
	return r, nil
}

// mandelbrotKernel returns the kernel for jobs of type t, and how many of its
// work-groups keep the whole device busy.
func (d *openCLDevice) mandelbrotKernel(t kernels.DType) (k opencl.Mandelbrot, full int) {
	const (
		// itemsPerUnit of a GPU hide the latencies of its arithmetic and barriers.
		itemsPerUnit = 1024

		// groupsPerUnit of a CPU are more than one, so that a unit with other things
		// to do does not keep the others waiting.
		groupsPerUnit = 4
	)
	lanes, units := 1, max(d.info.Units, 1)
	switch {
	case d.lanes > 0:
		lanes = d.lanes
	case d.info.Kind == CPU && t == kernels.Float32:
		lanes = min(d.device.VectorFloat, 16)
	case d.info.Kind == CPU:
		lanes = min(d.device.VectorDouble, 16)
	}
	if lanes > 1 {
		return opencl.MandelbrotVector(t, lanes), units * groupsPerUnit
	}
	k = opencl.MandelbrotScalar(t)
	if d.info.Kind == CPU {
		return k, units * groupsPerUnit
	}
	return k, units * itemsPerUnit / k.Group
}

// Run computes t.
func (r *openCLMandelbrot) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	return r.state.run(ctx, func(slot *mandelbrotSlot) error { return r.runIn(ctx, slot, t, out) })
}

func (r *openCLMandelbrot) runIn(ctx context.Context, slot *mandelbrotSlot, t kernels.Tile, out *kernels.Result) error {
	out.BytesIn = r.axes.Swap(0)
	out.BytesOut = 0
	for _, band := range tiler.Bands(t, slot.size.pixels) {
		if err := r.runBand(ctx, slot, band, out); err != nil {
			return err
		}
		if err := r.deliver(ctx, slot, t, band, out); err != nil {
			return err
		}
	}
	return nil
}

// runBand leaves the counts and magnitudes of band in the slot's buffers, and tells
// out of each launch.
func (r *openCLMandelbrot) runBand(ctx context.Context, slot *mandelbrotSlot, band kernels.Tile, out *kernels.Result) error {
	pixels := band.Area()
	groups := min(slot.size.groups, (pixels+r.kernel.Orbits-1)/r.kernel.Orbits)
	cleared, err := slot.queue.EnqueueFillBuffer(slot.control, make([]byte, 4), 0, slot.control.Size())
	if err != nil {
		return err
	}
	cleared.Release()
	for done := (mandelbrotCounters{}); done[opencl.Finished] < uint32(pixels); {
		rounds := r.speed.roundsPerLaunch(r.full, r.kernel.RoundSteps, r.kernel.Orbits)
		start := time.Now()
		now, err := r.launch(ctx, slot, band, groups, rounds, done)
		if err != nil {
			return err
		}
		elapsed := time.Since(start)
		out.Advance()
		// A group that is alone is faster than one among many, so launches with few
		// groups tell little of the device's speed, unless they were too long.
		if groups >= r.full || elapsed > launchTime {
			steps := int64(now[opencl.Rounds]-done[opencl.Rounds]) * int64(r.kernel.RoundSteps)
			r.speed.record(steps, min(1, float64(groups)/float64(r.full)), launchTimes{total: elapsed, longest: elapsed})
		}
		done = now
	}
	return nil
}

// mandelbrotCounters is what the kernel's control buffer holds: sums over all launches
// for a band.
type mandelbrotCounters [opencl.Counters]uint32

// launch has so many groups go on for so many rounds with the band, of which so much is
// done. It waits, and returns what is done then.
func (r *openCLMandelbrot) launch(ctx context.Context, slot *mandelbrotSlot, band kernels.Tile, groups, rounds int, done mandelbrotCounters) (now mandelbrotCounters, err error) {
	job, mags := r.job, slot.mags
	if mags == nil {
		mags = slot.counts // an argument that the kernel then ignores
	}
	taken, pixels := done[opencl.Taken], uint32(band.Area())
	err = slot.kernel.SetArgs(slot.cx, slot.cy, uint32(band.X), uint32(band.Y), uint32(band.W),
		pixels, flag(taken == 0), flag(taken < pixels), uint32(rounds), uint32(job.MaxIter),
		flag(job.Julia), real(job.T, job.CRe), real(job.T, job.CIm), real(job.T, job.R2), real(job.T, r.monotone2),
		slot.counts, flag(job.Magnitudes), mags, slot.orbits, slot.places, slot.control)
	if err != nil {
		return now, err
	}
	group := r.kernel.Group
	launched, err := slot.queue.EnqueueNDRangeKernel(slot.kernel, nil, []int{groups * group}, []int{group})
	if err != nil {
		return now, err
	}
	defer launched.Release()
	// Enqueued at once, the counters come without a second wait of the device for us.
	at := slot.host.Size() - slot.control.Size()
	counted, err := slot.queue.EnqueueReadBuffer(slot.control, 0, slot.host, at, slot.control.Size())
	if err != nil {
		return now, err
	}
	defer counted.Release()
	if err := launched.Wait(ctx); err != nil {
		return now, err
	}
	if err := counted.Wait(ctx); err != nil {
		return now, err
	}
	copy(now[:], kernels.Elements[uint32](slot.host.Bytes()[at:]))
	return now, nil
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

// deliver copies band, computed in the slot's buffers, to its place in out, the
// result of tile t.
//
// The device never has out's planes themselves to write to: after ctx is done they
// are the caller's again, and nothing can stop a transfer that has been enqueued.
func (r *openCLMandelbrot) deliver(ctx context.Context, slot *mandelbrotSlot, t, band kernels.Tile, out *kernels.Result) error {
	bytes := int64(band.Area()) * 4
	place := kernels.Tile{X: band.X - t.X, Y: band.Y - t.Y, W: band.W, H: band.H}
	var staging *cl.Mapping
	if !r.mapped() {
		staging = slot.host
	}
	for p, buffer := range []*cl.Buffer{slot.counts, slot.mags}[:len(out.Planes)] {
		paste := func(packed []byte) { r.paste(out.Planes[p], t.W, place, packed) }
		if err := readBuffer(ctx, slot.queue, buffer, bytes, staging, paste); err != nil {
			return err
		}
		out.BytesOut += bytes
	}
	return nil
}

// mapped reports whether the host looks at results where the kernel has left them. A
// device that has memory of its own would copy them, and not into pinned memory.
func (r *openCLMandelbrot) mapped() bool { return r.device.device.HostUnified }

// paste is tiler.Paste, by as many goroutines as the device has units if it is a CPU:
// one core's share of the memory's bandwidth is little, and the others would idle.
func (r *openCLMandelbrot) paste(plane []byte, planeW int, t kernels.Tile, packed []byte) {
	const least = 1 << 16 // pixels for a goroutine, which take longer than to start it
	parts := 1
	if r.device.info.Kind == CPU {
		parts = max(1, min(r.device.info.Units, runtime.GOMAXPROCS(0), t.Area()/least, t.H))
	}
	var wg sync.WaitGroup
	for i := range parts {
		from, to := i*t.H/parts, (i+1)*t.H/parts
		wg.Go(func() {
			part := kernels.Tile{X: t.X, Y: t.Y + from, W: t.W, H: to - from}
			tiler.Paste(plane, planeW, part, packed[from*t.W*4:to*t.W*4], 4)
		})
	}
	wg.Wait()
}

// Close waits for what still drains.
func (r *openCLMandelbrot) Close() error {
	r.state.close()
	return nil
}
