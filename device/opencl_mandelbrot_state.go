package device

import (
	"fmt"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
)

// mandelbrotState is what a job holds on a device: it is built anew, with a
// smaller budget, when the device runs out of memory.
type mandelbrotState struct {
	context *openCLContext
	cx, cy  *cl.Buffer
	size    stateSize
	slots   chan *mandelbrotSlot
}

// stateSize is how large a state is.
type stateSize struct {
	pixels int   // that a slot's buffers hold
	orbits int   // that a slot can keep from one launch to the next
	bytes  int64 // of the whole state
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

	lastRunning uint32
	drained     bool // a launch ran on after its Run had gone, so lastRunning is old
}

// maxBand bounds a slot's buffers: more pixels at once would not be faster.
const maxBand = 4 << 20

// newState builds a state in half of what is left of the budget, so that the
// device can begin another job too, or in all of it where half is too little.
func (r *openCLMandelbrot) newState() (*mandelbrotState, error) {
	size, err := r.fit(r.free() / 2)
	if err != nil {
		if size, err = r.fit(r.free()); err != nil {
			return nil, err
		}
	}
	c, err := r.device.acquire()
	if err != nil {
		return nil, err
	}
	s := &mandelbrotState{context: c, size: size, slots: make(chan *mandelbrotSlot, openCLSlots)}
	if err := r.fill(s); err != nil {
		s.release(len(s.slots))
		r.device.abandon(c)
		return nil, err
	}
	return s, nil
}

// free returns the bytes of the budget that nothing has yet.
func (r *openCLMandelbrot) free() int64 {
	return r.device.ledger.Budget() - r.device.ledger.Used()
}

// fit returns the largest useful size of a state in bytes.
func (r *openCLMandelbrot) fit(bytes int64) (stateSize, error) {
	all, element := r.job.Bounds(), int64(r.job.T.Size())
	perOrbit := 2 * element
	perPixel := 2 * int64(kernels.ResultBytes(r.job, kernels.Tile{W: 1, H: 1})) // here, and in pinned memory
	fixed := int64(all.W+all.H)*element + openCLSlots*8                         // axes; running, here and there

	slot := (bytes - fixed) / openCLSlots
	orbits := min(int64(r.full), slot/(perPixel+perOrbit))
	pixels := min((slot-orbits*perOrbit)/max(perPixel, 1), maxBand, r.device.info.MaxAlloc/perPixel-1, int64(all.Area()))
	orbits = min(orbits, pixels)
	if orbits < 1 {
		return stateSize{}, fmt.Errorf("%w: %d bytes are left, and this job takes %d: raise --mem",
			ErrBudget, max(bytes, 0), fixed+openCLSlots*(perPixel+perOrbit))
	}
	return stateSize{
		pixels: int(pixels), orbits: int(orbits),
		bytes: fixed + openCLSlots*(pixels*perPixel+orbits*perOrbit),
	}, nil
}

// rebuild makes a new state after cause has ended the last one: with half its
// size, as often as the cause is that memory ran out. Without success it
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

// halve lowers the device's budget so that half as much is left of it as a
// state would have taken, and reports whether one still fits. The budget stays
// so until the device is closed.
func (r *openCLMandelbrot) halve() bool {
	size, err := r.fit(r.free())
	if err != nil {
		return false
	}
	ledger := r.device.ledger
	ledger.SetBudget(ledger.Used() + size.bytes/2)
	_, err = r.fit(r.free())
	return err == nil
}

// fill allocates what s holds. On an error the caller releases s.
func (r *openCLMandelbrot) fill(s *mandelbrotState) error {
	program, err := s.context.program(r.program)
	if err != nil {
		return err
	}
	for range openCLSlots {
		slot, err := r.newSlot(s, program)
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

func (r *openCLMandelbrot) newSlot(s *mandelbrotState, program *cl.Program) (slot *mandelbrotSlot, err error) {
	slot = &mandelbrotSlot{}
	defer func() {
		if err != nil {
			slot.release()
			slot = nil
		}
	}()
	c, plane := s.context, int64(s.size.pixels)*4
	if slot.queue, err = c.CreateCommandQueue(0); err != nil {
		return slot, err
	}
	if slot.kernel, err = program.CreateKernel(r.program.Entry); err != nil {
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
	if slot.orbits, err = c.CreateBuffer(cl.MEM_READ_WRITE, int64(s.size.orbits)*2*int64(r.job.T.Size())); err != nil {
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

// release waits until n slots, which is all that s has, have come back from
// those who use them, and releases everything.
func (s *mandelbrotState) release(n int) {
	for range n {
		(<-s.slots).release()
	}
	s.cx.Release()
	s.cy.Release()
	s.context.release()
}
