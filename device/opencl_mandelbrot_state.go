package device

import (
	"fmt"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
)

// stateSize is how large a state is.
type stateSize struct {
	pixels int   // that a slot's buffers hold
	groups int   // work-groups that a slot can keep the orbits of
	bytes  int64 // of the whole state
}

// mandelbrotSlot is what one tile at a time needs.
type mandelbrotSlot struct {
	size   stateSize
	cx, cy *cl.Buffer // shared by all slots

	queue        *cl.Queue
	kernel       *cl.Kernel
	counts, mags *cl.Buffer // one element a pixel; mags is nil without magnitudes
	orbits       *cl.Buffer // see the kernel
	places       *cl.Buffer // see the kernel
	control      *cl.Buffer // see the kernel
	pinned       *cl.Buffer
	host         *cl.Mapping // of pinned: control, after a plane unless the result is mapped
}

// maxBand bounds a slot's buffers: more pixels at once would not be faster.
const maxBand = 4 << 20

// share implements openCLBuilder.
func (r *openCLMandelbrot) share(free int64) int64 { return halfOf(free, r) }

// fit implements openCLBuilder.
func (r *openCLMandelbrot) fit(bytes int64) (int64, error) {
	size, err := r.size(bytes)
	return size.bytes, err
}

// size returns the largest useful size of a state in bytes.
func (r *openCLMandelbrot) size(bytes int64) (stateSize, error) {
	all, k := r.job.Bounds(), r.kernel
	element := int64(r.job.T.Size())
	perGroup := int64(k.GroupReals)*element + int64(k.GroupUints)*4
	perPixel := int64(kernels.ResultBytes(r.job, kernels.Tile{W: 1, H: 1}))
	if !r.mapped() {
		perPixel += 4 // in pinned memory
	}
	fixed := int64(all.W+all.H)*element + openCLSlots*2*opencl.Counters*4               // axes; control, here and there
	useful := min(int64(r.full), (int64(all.Area())+int64(k.Orbits)-1)/int64(k.Orbits)) // groups

	slot := (bytes - fixed) / openCLSlots
	groups := max(min(useful, slot/2/perGroup), 1)
	pixels := min((slot-groups*perGroup)/perPixel, maxBand, r.device.info.MaxAlloc/perPixel-1, int64(all.Area()))
	if pixels < 1 {
		return stateSize{}, fmt.Errorf("%w: %d bytes are left, and this job takes %d: raise --mem",
			ErrBudget, max(bytes, 0), fixed+openCLSlots*(perPixel+perGroup))
	}
	return stateSize{
		pixels: int(pixels), groups: int(groups),
		bytes: fixed + openCLSlots*(pixels*perPixel+groups*perGroup),
	}, nil
}

// fill implements openCLBuilder.
func (r *openCLMandelbrot) fill(m *openCLMemory[*mandelbrotSlot], bytes int64) error {
	size, err := r.size(bytes)
	if err != nil {
		return err
	}
	program, err := m.context.program(r.kernel.Program)
	if err != nil {
		return err
	}
	queue, err := m.context.CreateCommandQueue(0)
	if err != nil {
		return err
	}
	defer queue.Release()
	cx, err := axisBuffer(m, queue, r.job.T, r.job.CX)
	if err != nil {
		return err
	}
	cy, err := axisBuffer(m, queue, r.job.T, r.job.CY)
	if err != nil {
		return err
	}
	for range openCLSlots {
		slot, err := r.newSlot(m.context, program, size)
		if err != nil {
			return err
		}
		slot.cx, slot.cy = cx, cy
		m.slots <- slot
	}
	return nil
}

// axisBuffer returns a buffer of m with the values of axis in type t.
func axisBuffer(m *openCLMemory[*mandelbrotSlot], q *cl.Queue, t kernels.DType, axis []float64) (*cl.Buffer, error) {
	data := kernels.Bytes(axis)
	if t == kernels.Float32 {
		rounded := make([]float32, len(axis))
		for i, v := range axis {
			rounded[i] = float32(v)
		}
		data = kernels.Bytes(rounded)
	}
	b, err := m.context.CreateBuffer(cl.MEM_READ_ONLY, int64(len(data)))
	if err != nil {
		return nil, err
	}
	m.shared = append(m.shared, b)
	return b, q.WriteBuffer(b, 0, data)
}

func (r *openCLMandelbrot) newSlot(c *openCLContext, program *cl.Program, size stateSize) (slot *mandelbrotSlot, err error) {
	slot = &mandelbrotSlot{size: size}
	defer func() {
		if err != nil {
			slot.finish()
			slot.release()
			slot = nil
		}
	}()
	plane := int64(size.pixels) * 4
	if slot.queue, err = c.CreateCommandQueue(0); err != nil {
		return slot, err
	}
	if slot.kernel, err = program.CreateKernel(r.kernel.Entry); err != nil {
		return slot, err
	}
	flags := cl.MEM_READ_WRITE
	if r.mapped() {
		flags |= cl.MEM_ALLOC_HOST_PTR
	}
	if slot.counts, err = c.CreateBuffer(flags, plane); err != nil {
		return slot, err
	}
	control := int64(opencl.Counters * 4)
	pinned := control
	if !r.mapped() {
		pinned += plane
	}
	if r.job.Magnitudes {
		if slot.mags, err = c.CreateBuffer(flags, plane); err != nil {
			return slot, err
		}
	}
	groups := int64(size.groups)
	if slot.orbits, err = c.CreateBuffer(cl.MEM_READ_WRITE, groups*int64(r.kernel.GroupReals*r.job.T.Size())); err != nil {
		return slot, err
	}
	if slot.places, err = c.CreateBuffer(cl.MEM_READ_WRITE, groups*int64(r.kernel.GroupUints*4)); err != nil {
		return slot, err
	}
	if slot.control, err = c.CreateBuffer(cl.MEM_READ_WRITE, control); err != nil {
		return slot, err
	}
	if slot.pinned, err = c.CreateBuffer(cl.MEM_READ_WRITE|cl.MEM_ALLOC_HOST_PTR, pinned); err != nil {
		return slot, err
	}
	slot.host, err = slot.queue.MapBuffer(slot.pinned, cl.MAP_READ|cl.MAP_WRITE, 0, pinned)
	return slot, err
}

func (s *mandelbrotSlot) finish() {
	if s.queue != nil {
		s.queue.Finish() // its error was reported by what failed
	}
}

func (s *mandelbrotSlot) release() {
	s.host.Release()
	s.pinned.Release()
	s.control.Release()
	s.places.Release()
	s.orbits.Release()
	s.mags.Release()
	s.counts.Release()
	s.kernel.Release()
	s.queue.Release()
}
