package device

import (
	"fmt"
	"sort"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
)

// customSlot is what one tile at a time needs.
type customSlot struct {
	elements int // that its buffers hold
	queue    *cl.Queue
	kernel   *cl.Kernel
	buffers  []*cl.Buffer // of each argument that is an array; nil for others
	owned    []*cl.Buffer // those of them that are the slot's alone
	pinned   *cl.Buffer
	host     *cl.Mapping // of pinned: one array's elements; nil where the host maps buffers
}

// weight returns how many elements an array has for each of the output, at most.
func (r *openCLCustom) weight() int64 {
	weight := 1
	for _, a := range r.job.Args {
		weight = max(weight, a.Weight())
	}
	return int64(weight)
}

// least returns the elements of the output that a launch has at least.
func (r *openCLCustom) least() int {
	if r.job.Rows {
		return r.job.W
	}
	return 1
}

// most returns the elements of the output that a launch has at most.
func (r *openCLCustom) most() int64 { return max(int64(r.least()), maxCustom/r.weight()) }

// whole returns the bytes of the arrays that are there whole.
func (r *openCLCustom) whole() (bytes int64) {
	for _, a := range r.job.Args {
		if a.Role == kernels.Whole {
			bytes += int64(a.W) * int64(a.H) * int64(a.Type.Size())
		}
	}
	return bytes
}

// slotBytes returns the bytes that a slot takes for tiles of so many elements: all arrays, and the
// largest again where the host has its own memory for what is copied.
func (r *openCLCustom) slotBytes(elements int) (all, largest int64) {
	for _, a := range r.job.Args {
		if a.Cut() {
			bytes := r.bufferBytes(a, elements)
			all, largest = all+bytes, max(largest, bytes)
		}
	}
	if !r.mapped() {
		all += largest
	}
	return all, largest
}

// bufferBytes returns the bytes of the array a for tiles of so many elements.
func (r *openCLCustom) bufferBytes(a kernels.Arg, elements int) int64 {
	return int64(r.job.Most(a, elements)) * int64(a.Type.Size())
}

// mapped reports whether the host reads and writes arrays where the kernel does.
func (r *openCLCustom) mapped() bool { return r.device.device.HostUnified }

// share implements openCLBuilder.
func (r *openCLCustom) share(free int64) int64 { return halfOf(free, r) }

// fit implements openCLBuilder.
func (r *openCLCustom) fit(bytes int64) (int64, error) {
	elements, err := r.elements(bytes)
	slot, _ := r.slotBytes(elements)
	return r.whole() + openCLSlots*slot, err
}

// elements returns how many elements a slot has at most if all is to take so many bytes.
func (r *openCLCustom) elements(bytes int64) (int, error) {
	limit := r.device.info.MaxAlloc
	for _, a := range r.job.Args {
		if size := int64(a.W) * int64(a.H) * int64(a.Type.Size()); a.Role == kernels.Whole && size > limit {
			return 0, fmt.Errorf("%w: %s is needed whole, and takes %d bytes where a buffer of the device has %d at most", ErrBudget, a.Name, size, limit)
		}
	}
	n := sort.Search(int(min(r.most(), int64(r.job.Bounds().Area()))), func(i int) bool {
		slot, largest := r.slotBytes(i + 1)
		return largest > limit || r.whole()+openCLSlots*slot > bytes
	})
	if n < r.least() {
		one, _ := r.slotBytes(r.least())
		return 0, fmt.Errorf("%w: %d bytes are left, and this kernel takes %d at least: raise --mem", ErrBudget, max(bytes, 0), r.whole()+openCLSlots*one)
	}
	return n, nil
}

// fill implements openCLBuilder.
func (r *openCLCustom) fill(m *openCLMemory[*customSlot], bytes int64) error {
	elements, err := r.elements(bytes)
	if err != nil {
		return err
	}
	program, err := m.context.program(r.program)
	if err != nil {
		return err
	}
	if r.group, err = r.largestGroup(program); err != nil {
		return err
	}
	whole, err := r.copyWhole(m)
	if err != nil {
		return err
	}
	for range openCLSlots {
		slot, err := r.newSlot(m.context, program, whole, elements)
		if err != nil {
			return err
		}
		m.slots <- slot
	}
	return nil
}

// largestGroup returns the most work-items in a work-group, if those that were asked for are
// no more.
func (r *openCLCustom) largestGroup(program *cl.Program) (int, error) {
	kernel, err := program.CreateKernel(r.program.Entry)
	if err != nil {
		return 0, err
	}
	defer kernel.Release()
	info, err := kernel.WorkGroupInfo()
	if err != nil {
		return 0, err
	}
	if g := r.job.Group; g[0]*g[1] > info.MaxSize {
		return 0, fmt.Errorf("%w: work-groups of %d×%d work-items, where %d are the most on this device: ask for smaller ones",
			ErrUnsupported, g[0], g[1], info.MaxSize)
	}
	return max(info.MaxSize, 1), nil
}

// copyWhole returns a buffer for each array that is there whole.
func (r *openCLCustom) copyWhole(m *openCLMemory[*customSlot]) ([]*cl.Buffer, error) {
	buffers := make([]*cl.Buffer, len(r.job.Args))
	queue, err := m.context.CreateCommandQueue(0)
	if err != nil {
		return nil, err
	}
	defer queue.Release()
	copied := int64(0)
	for i, a := range r.job.Args {
		if a.Role != kernels.Whole {
			continue
		}
		all := kernels.Tile{W: a.W, H: a.H}
		data := make([]byte, all.Area()*a.Type.Size())
		if err := a.Array.Read(data, all); err != nil {
			return nil, err
		}
		if buffers[i], err = m.context.CreateBuffer(cl.MEM_READ_ONLY, int64(len(data))); err != nil {
			return nil, err
		}
		m.shared = append(m.shared, buffers[i])
		if err := queue.WriteBuffer(buffers[i], 0, data); err != nil {
			return nil, err
		}
		copied += int64(len(data))
	}
	r.copied.Store(copied)
	return buffers, nil
}

func (r *openCLCustom) newSlot(c *openCLContext, program *cl.Program, whole []*cl.Buffer, elements int) (slot *customSlot, err error) {
	slot = &customSlot{elements: elements, buffers: append([]*cl.Buffer{}, whole...)}
	defer func() {
		if err != nil {
			slot.finish()
			slot.release()
			slot = nil
		}
	}()
	if slot.queue, err = c.CreateCommandQueue(0); err != nil {
		return slot, err
	}
	if slot.kernel, err = program.CreateKernel(r.program.Entry); err != nil {
		return slot, err
	}
	flags := cl.MEM_READ_WRITE
	if r.mapped() {
		flags |= cl.MEM_ALLOC_HOST_PTR
	}
	for i, a := range r.job.Args {
		if !a.Cut() {
			continue
		}
		if slot.buffers[i], err = c.CreateBuffer(flags, r.bufferBytes(a, elements)); err != nil {
			return slot, err
		}
		slot.owned = append(slot.owned, slot.buffers[i])
	}
	if r.mapped() {
		return slot, nil
	}
	_, bytes := r.slotBytes(elements)
	if slot.pinned, err = c.CreateBuffer(cl.MEM_READ_WRITE|cl.MEM_ALLOC_HOST_PTR, bytes); err != nil {
		return slot, err
	}
	slot.host, err = slot.queue.MapBuffer(slot.pinned, cl.MAP_READ|cl.MAP_WRITE, 0, bytes)
	return slot, err
}

func (s *customSlot) finish() {
	if s.queue != nil {
		s.queue.Finish() // its error was reported by what failed
	}
}

func (s *customSlot) release() {
	s.host.Release()
	s.pinned.Release()
	for _, b := range s.owned {
		b.Release()
	}
	s.kernel.Release()
	s.queue.Release()
}
