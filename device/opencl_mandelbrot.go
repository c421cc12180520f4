package device

import (
	"context"
	"errors"
	"fmt"
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
	device *openCLDevice
	job    *kernels.Mandelbrot
	full   int          // work-items that keep the whole device busy
	axes   atomic.Int64 // bytes copied at the beginning that no tile has reported yet

	mu    sync.Mutex // held to build the state anew
	state *mandelbrotState
	fatal error // why there is no state any more
}

// mandelbrotState is what a job holds on a device: it is built anew, with a
// smaller budget, when the device runs out of memory.
type mandelbrotState struct {
	context *openCLContext
	cx, cy  *cl.Buffer
	pixels  int // that a slot's buffers hold
	slots   chan *mandelbrotSlot
}

// mandelbrotSlot is what one tile at a time needs.
type mandelbrotSlot struct {
	queue        *cl.Queue
	kernel       *cl.Kernel
	counts, mags *cl.Buffer // one element a pixel; mags is nil without magnitudes
	orbits       *cl.Buffer // x, y for each work-item of a launch that goes on
	running      *cl.Buffer // see the kernel
	pinned       *cl.Buffer
	host         *cl.Mapping // of pinned: counts, then mags, then running
	lastRunning  uint32
}

// maxBand bounds a slot's buffers: more pixels at once would not be faster.
const maxBand = 4 << 20

func newOpenCLMandelbrot(d *openCLDevice, job *kernels.Mandelbrot) (*openCLMandelbrot, error) {
	itemsPerUnit := 1024
	if d.info.Kind == CPU {
		itemsPerUnit = 64
	}
	r := &openCLMandelbrot{device: d, job: job, full: max(d.info.Units, 1) * itemsPerUnit}
	state, err := r.newState()
	if err == nil {
		r.state = state
	} else if err = r.rebuild(err); err != nil {
		return nil, err
	}
	r.axes.Store(r.state.cx.Size() + r.state.cy.Size())
	return r, nil
}

// rebuild makes a new state after cause has ended the last one: with half the
// budget as often as the cause is that memory ran out. Without success it
// returns what the job failed of.
func (r *openCLMandelbrot) rebuild(cause error) error {
	for cl.IsOutOfMemory(cause) {
		if !r.halve() {
			return fmt.Errorf("%w, even with %d bytes: free memory on the device, or use another", cause, r.device.ledger.Budget())
		}
		state, err := r.newState()
		if err == nil {
			r.state = state
			return nil
		}
		cause = err
	}
	return cause
}

// halve halves the device's budget, and reports whether a pixel still fits.
func (r *openCLMandelbrot) halve() bool {
	ledger := r.device.ledger
	ledger.SetBudget(ledger.Budget() / 2)
	_, err := r.capacity()
	return err == nil
}

// capacity returns how many pixels a slot can have in what is left of the
// budget.
func (r *openCLMandelbrot) capacity() (int, error) {
	bytes := r.device.ledger.Budget() - r.device.ledger.Used()
	size := int64(r.job.T.Size())
	all := r.job.Bounds()
	perPixel := 2 * int64(kernels.ResultBytes(r.job, kernels.Tile{W: 1, H: 1})) // here, and in pinned memory
	fixed := int64(all.W+all.H)*size + openCLSlots*(int64(r.full)*2*size+8)
	pixels := (bytes - fixed) / openCLSlots / perPixel
	pixels = min(pixels, maxBand, r.device.info.MaxAlloc/perPixel-1, int64(all.Area()))
	if pixels < 1 {
		return 0, fmt.Errorf("%w: %d bytes are left, and this job takes %d: raise --mem", ErrBudget, bytes, fixed+openCLSlots*perPixel)
	}
	return int(pixels), nil
}

func (r *openCLMandelbrot) newState() (*mandelbrotState, error) {
	pixels, err := r.capacity()
	if err != nil {
		return nil, err
	}
	c, err := r.device.acquire()
	if err != nil {
		return nil, err
	}
	s := &mandelbrotState{context: c, pixels: pixels, slots: make(chan *mandelbrotSlot, openCLSlots)}
	if err := r.fill(s); err != nil {
		s.release()
		r.device.abandon(c)
		return nil, err
	}
	return s, nil
}

// fill allocates what s holds. On an error the caller releases s.
func (r *openCLMandelbrot) fill(s *mandelbrotState) error {
	spec := opencl.Mandelbrot(r.job.T)
	program, err := s.context.program(spec)
	if err != nil {
		return err
	}
	for range openCLSlots {
		slot, err := r.newSlot(s, program, spec.Entry)
		if err != nil {
			return err
		}
		s.slots <- slot
	}
	queue, err := s.context.CreateCommandQueue(0)
	if err != nil {
		return err
	}
	defer queue.Release()
	if s.cx, err = axisBuffer(s.context, queue, r.job.T, r.job.CX); err != nil {
		return err
	}
	s.cy, err = axisBuffer(s.context, queue, r.job.T, r.job.CY)
	return err
}

// axisBuffer returns a buffer with the values of axis in type t.
func axisBuffer(c *openCLContext, q *cl.Queue, t kernels.DType, axis []float64) (*cl.Buffer, error) {
	data := kernels.Bytes(axis)
	if t == kernels.Float32 {
		rounded := make([]float32, len(axis))
		for i, v := range axis {
			rounded[i] = float32(v)
		}
		data = kernels.Bytes(rounded)
	}
	b, err := c.CreateBuffer(cl.MEM_READ_ONLY, int64(len(data)))
	if err != nil {
		return nil, err
	}
	if err := q.WriteBuffer(b, 0, data); err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

func (r *openCLMandelbrot) newSlot(s *mandelbrotState, program *cl.Program, entry string) (slot *mandelbrotSlot, err error) {
	slot = &mandelbrotSlot{}
	defer func() {
		if err != nil {
			slot.release()
			slot = nil
		}
	}()
	c, plane := s.context, int64(s.pixels)*4
	if slot.queue, err = c.CreateCommandQueue(0); err != nil {
		return slot, err
	}
	if slot.kernel, err = program.CreateKernel(entry); err != nil {
		return slot, err
	}
	if slot.counts, err = c.CreateBuffer(cl.MEM_READ_WRITE, plane); err != nil {
		return slot, err
	}
	pinned := plane + 4
	if r.job.Magnitudes {
		pinned += plane
		if slot.mags, err = c.CreateBuffer(cl.MEM_READ_WRITE, plane); err != nil {
			return slot, err
		}
	}
	orbits := int64(min(r.full, s.pixels)) * 2 * int64(r.job.T.Size())
	if slot.orbits, err = c.CreateBuffer(cl.MEM_READ_WRITE, orbits); err != nil {
		return slot, err
	}
	if slot.running, err = c.CreateBuffer(cl.MEM_READ_WRITE, 4); err != nil {
		return slot, err
	}
	if err = slot.queue.WriteBuffer(slot.running, 0, make([]byte, 4)); err != nil {
		return slot, err
	}
	if slot.pinned, err = c.CreateBuffer(cl.MEM_READ_WRITE|cl.MEM_ALLOC_HOST_PTR, pinned); err != nil {
		return slot, err
	}
	slot.host, err = slot.queue.MapBuffer(slot.pinned, cl.MAP_READ|cl.MAP_WRITE, 0, pinned)
	return slot, err
}

func (s *mandelbrotSlot) release() {
	if s.queue != nil {
		s.queue.Finish() // its error was reported by what failed
	}
	s.host.Release()
	s.pinned.Release()
	s.running.Release()
	s.orbits.Release()
	s.mags.Release()
	s.counts.Release()
	s.kernel.Release()
	s.queue.Release()
}

// release waits for the slots that were filled and releases everything. Slots
// that are in use come back first.
func (s *mandelbrotState) release() {
	s.releaseSlots(len(s.slots))
}

func (s *mandelbrotState) releaseSlots(n int) {
	for range n {
		(<-s.slots).release()
	}
	s.cx.Release()
	s.cy.Release()
	s.context.release()
}

// Run computes t. When the device runs out of memory, the job goes on with
// half of it.
func (r *openCLMandelbrot) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	for {
		r.mu.Lock()
		state, fatal := r.state, r.fatal
		r.mu.Unlock()
		if fatal != nil {
			return fatal
		}
		err := r.runIn(ctx, state, t, out)
		if err == nil {
			return nil
		}
		if err == errStale {
			continue
		}
		if cl.IsOutOfMemory(err) {
			err = r.shrink(state, err)
		}
		if err != nil {
			return err
		}
	}
}

// errStale tells Run that the state that it used has been replaced.
var errStale = errors.New("the state was replaced")

// shrink replaces state, unless somebody has, after memory ran out with cause.
func (r *openCLMandelbrot) shrink(state *mandelbrotState, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fatal != nil || r.state != state {
		return r.fatal
	}
	state.releaseSlots(openCLSlots)
	close(state.slots)
	r.device.abandon(state.context)
	r.fatal = r.rebuild(cause)
	return r.fatal
}

func (r *openCLMandelbrot) runIn(ctx context.Context, state *mandelbrotState, t kernels.Tile, out *kernels.Result) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	var slot *mandelbrotSlot
	select {
	case s, ok := <-state.slots:
		if !ok {
			return errStale
		}
		slot = s
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		if err != nil && ctx.Err() != nil {
			// What was launched drains into the slot, and only then is it free.
			go func() {
				slot.queue.Finish()
				state.slots <- slot
			}()
			return
		}
		state.slots <- slot
	}()
	out.BytesIn = r.axes.Swap(0)
	out.BytesOut = 0
	for _, band := range tiler.Bands(t, state.pixels) {
		start := time.Now()
		if err := r.runBand(ctx, state, slot, band); err != nil {
			return err
		}
		elapsed := time.Since(start)
		steps, err := r.deliver(ctx, slot, t, band, out)
		if err != nil {
			return err
		}
		r.device.speed.record(steps, elapsed)
	}
	return nil
}

// runBand leaves the counts and magnitudes of band in the slot's buffers.
func (r *openCLMandelbrot) runBand(ctx context.Context, state *mandelbrotState, slot *mandelbrotSlot, band kernels.Tile) error {
	n, maxIter := band.Area(), r.job.MaxIter
	for from := 0; from < n; {
		pixels, steps := planLaunch(n-from, maxIter, min(r.full, state.pixels), r.device.speed.stepsPerLaunch())
		for first := 0; first < maxIter; {
			last := first + min(steps, maxIter-first)
			start := time.Now()
			if err := r.launch(ctx, state, slot, band, from, pixels, first, last); err != nil {
				return err
			}
			if last < maxIter {
				running, err := slot.stillRunning(ctx)
				if err != nil {
					return err
				}
				if running == 0 {
					break
				}
				r.device.speed.record(int64(running)*int64(last-first), time.Since(start))
			}
			first = last
		}
		from += pixels
	}
	return nil
}

// launch does the steps first+1 … last of pixels of the band, and waits.
func (r *openCLMandelbrot) launch(ctx context.Context, state *mandelbrotState, slot *mandelbrotSlot, band kernels.Tile, from, pixels, first, last int) error {
	job := r.job
	limit := kernels.MonotoneLimit(job.R2)
	mags := slot.mags
	if mags == nil {
		mags = slot.counts // an argument that the kernel then ignores
	}
	var err error
	if job.T == kernels.Float32 {
		err = slot.kernel.SetArgs(state.cx, state.cy, uint32(band.X), uint32(band.Y), uint32(band.W),
			uint32(from), uint32(pixels), uint32(first), uint32(last), uint32(job.MaxIter),
			flag(job.Julia), float32(job.CRe), float32(job.CIm), float32(job.R2), float32(limit*limit),
			slot.counts, flag(job.Magnitudes), mags, uint32(from), slot.orbits, slot.running)
	} else {
		err = slot.kernel.SetArgs(state.cx, state.cy, uint32(band.X), uint32(band.Y), uint32(band.W),
			uint32(from), uint32(pixels), uint32(first), uint32(last), uint32(job.MaxIter),
			flag(job.Julia), job.CRe, job.CIm, job.R2, limit*limit,
			slot.counts, flag(job.Magnitudes), mags, uint32(from), slot.orbits, slot.running)
	}
	if err != nil {
		return err
	}
	group := opencl.Mandelbrot(job.T).Group
	global := (pixels + group - 1) / group * group
	return slot.wait(ctx)(slot.queue.EnqueueNDRangeKernel(slot.kernel, nil, []int{global}, []int{group}))
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// wait returns a function that waits for what an Enqueue method returned.
func (s *mandelbrotSlot) wait(ctx context.Context) func(*cl.Event, error) error {
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
	if err := s.wait(ctx)(s.queue.EnqueueReadBuffer(s.running, 0, s.host, at, 4)); err != nil {
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
	counts, err := slot.queue.EnqueueReadBuffer(slot.counts, 0, slot.host, 0, bytes)
	if err != nil {
		return 0, err
	}
	defer counts.Release()
	done := counts
	if slot.mags != nil {
		mags, err := slot.queue.EnqueueReadBuffer(slot.mags, 0, slot.host, plane, bytes)
		if err != nil {
			return 0, err
		}
		defer mags.Release()
		done = mags
	}
	if err := done.Wait(ctx); err != nil {
		return 0, err
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fatal == nil {
		r.state.releaseSlots(openCLSlots)
		r.fatal = fmt.Errorf("the runner is closed")
	}
	return nil
}
