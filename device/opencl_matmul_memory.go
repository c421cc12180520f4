package device

import (
	"fmt"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
)

// matMulSize is how large the parts of a product's memory on a device are.
type matMulSize struct {
	resident   bool // whole operands are kept, for all slots
	depth      int  // steps that panels hold: all of them, if resident
	rows, cols int  // of the block of C that a slot holds: whole panels
	stage      int  // elements of one half of a slot's staging memory
	bytes      int64
}

// What a slot takes where there is plenty of memory: a block of C so large that
// computing it takes longer than moving its panels, and pieces of transfers so
// large that beginning one costs nothing.
const (
	mostBlock = 2048
	mostStage = 8 << 20 // bytes
	mostDepth = 1024
)

const (
	// goodDepth is where panels begin to be too short to be worth a launch.
	goodDepth = 64

	// stageParts: two halves, each here and on the device.
	stageParts = 4
)

func (r *openCLMatMul[T]) fit(bytes int64) (int64, error) {
	size, err := r.size(bytes)
	return size.bytes, err
}

// size returns the largest useful size in bytes. The whole operands stay on the
// device if they fit; or else panels of them stream through it.
func (r *openCLMatMul[T]) size(bytes int64) (matMulSize, error) {
	p, params := r.job, r.params
	s := matMulSize{
		resident: true, depth: max(r.steps, 1),
		rows: wholePanels(min(max(p.M, 1), mostBlock), params.Rows),
		cols: wholePanels(min(max(p.N, 1), mostBlock), params.Cols),
	}
	element := int64(params.T.Size())
	// A quarter of the memory is for staging, if that much is of use.
	s.stage = int(min(mostStage, bytes/4/(openCLSlots*stageParts)) / element)
	s.stage = min(s.stage, int(min(r.panelElements(s), mostStage)))
	s.stage = max(s.stage, s.leastStage(params))
	if !r.measure(&s, bytes) {
		s.resident, s.depth = false, min(s.depth, mostDepth)
	}
	for !r.measure(&s, bytes) {
		switch {
		case s.depth > goodDepth && s.depth >= max(s.rows, s.cols)/4:
			s.depth /= 2
		case s.rows > params.Rows && (s.rows >= s.cols || s.cols == params.Cols):
			s.rows = wholePanels(s.rows/2, params.Rows)
		case s.cols > params.Cols:
			s.cols = wholePanels(s.cols/2, params.Cols)
		case s.stage > s.leastStage(params):
			s.stage = max(s.stage/2, s.leastStage(params))
		case s.depth > 1:
			s.depth /= 2
		default:
			return matMulSize{}, fmt.Errorf("%w: %d bytes are left, and this product takes %d: raise --mem", ErrBudget, max(bytes, 0), s.bytes)
		}
	}
	return s, nil
}

// leastStage returns the elements that a half of the staging memory must have:
// a step of a panel, and a row of the block.
func (s *matMulSize) leastStage(params opencl.MatMul) int {
	return max(params.Rows, params.Cols, s.cols)
}

// panelElements returns the elements of the larger operand's panels in s.
func (r *openCLMatMul[T]) panelElements(s matMulSize) int64 {
	rows, cols := s.rows, s.cols
	if s.resident {
		rows, cols = wholePanels(max(r.job.M, 1), r.params.Rows), wholePanels(max(r.job.N, 1), r.params.Cols)
	}
	return int64(max(rows, cols)) * int64(s.depth)
}

// measure works out the bytes of s, and reports whether it may have as many and
// no buffer is larger than the device allows.
func (r *openCLMatMul[T]) measure(s *matMulSize, bytes int64) bool {
	element := int64(r.params.T.Size())
	panels := openCLSlots * int64(s.rows+s.cols) * int64(s.depth)
	if s.resident {
		rows, cols := wholePanels(max(r.job.M, 1), r.params.Rows), wholePanels(max(r.job.N, 1), r.params.Cols)
		panels = int64(rows+cols) * int64(s.depth)
	}
	block := int64(s.rows) * int64(s.cols)
	s.bytes = element * (panels + openCLSlots*(block+stageParts*int64(s.stage)))
	return s.bytes <= bytes && element*max(r.panelElements(*s), block, 2*int64(s.stage)) <= r.device.info.MaxAlloc
}

// wholePanels returns n rounded up to whole panels.
func wholePanels(n, panel int) int { return (n + panel - 1) / panel * panel }

// operandPanels are panels of both operands on the device.
type operandPanels struct {
	a, b *cl.Buffer

	loading      chan struct{} // has room for one: whoever loads some of the resident ones
	haveA, haveB []bool        // of each panel, if resident
}

// matMulSlot is what one tile at a time needs.
type matMulSlot struct {
	size                   matMulSize
	panels                 *operandPanels
	own                    bool // panels are this slot's
	queue                  *cl.Queue
	packA, packB, multiply *cl.Kernel
	c                      *cl.Buffer    // rows×cols of the result
	raw                    [2]*cl.Buffer // what is to be packed
	pinned                 *cl.Buffer
	host                   *cl.Mapping  // of pinned: two halves
	busy                   [2]*cl.Event // until a half may be written to again
	turn                   int          // the half that was used last
}

func (r *openCLMatMul[T]) fill(m *openCLMemory[*matMulSlot], bytes int64) error {
	size, err := r.size(bytes)
	if err != nil {
		return err
	}
	var shared *operandPanels
	if size.resident {
		p := r.job
		shared, err = r.newPanels(m.context, wholePanels(max(p.M, 1), r.params.Rows), wholePanels(max(p.N, 1), r.params.Cols), size.depth)
		m.shared = append(m.shared, shared)
		if err != nil {
			return err
		}
	}
	for range openCLSlots {
		slot, err := r.newSlot(m.context, size, shared)
		if err != nil {
			slot.release()
			return err
		}
		m.slots <- slot
	}
	return nil
}

// newPanels returns panels of rows and cols with room for depth steps. They are
// to be released on an error too.
func (r *openCLMatMul[T]) newPanels(c *openCLContext, rows, cols, depth int) (p *operandPanels, err error) {
	element := int64(r.params.T.Size())
	p = &operandPanels{loading: make(chan struct{}, 1), haveA: make([]bool, rows/r.params.Rows), haveB: make([]bool, cols/r.params.Cols)}
	if p.a, err = c.CreateBuffer(cl.MEM_READ_WRITE, int64(rows)*int64(depth)*element); err != nil {
		return p, err
	}
	p.b, err = c.CreateBuffer(cl.MEM_READ_WRITE, int64(cols)*int64(depth)*element)
	return p, err
}

// Release frees the buffers.
func (p *operandPanels) Release() {
	p.a.Release()
	p.b.Release()
}

// newSlot returns a slot, which is to be released on an error too.
func (r *openCLMatMul[T]) newSlot(c *openCLContext, size matMulSize, shared *operandPanels) (s *matMulSlot, err error) {
	s = &matMulSlot{size: size, panels: shared, own: shared == nil}
	if s.own {
		if s.panels, err = r.newPanels(c, size.rows, size.cols, size.depth); err != nil {
			return s, err
		}
	}
	if s.queue, err = c.CreateCommandQueue(0); err != nil {
		return s, err
	}
	for _, k := range []struct {
		kernel  **cl.Kernel
		program func() (*cl.Program, error)
		entry   string
	}{
		{&s.packA, func() (*cl.Program, error) { return c.program(r.params.PackA()) }, r.params.PackA().Entry},
		{&s.packB, func() (*cl.Program, error) { return c.program(r.params.PackB()) }, r.params.PackB().Entry},
		{&s.multiply, func() (*cl.Program, error) { return c.program(r.params.Multiply()) }, r.params.Multiply().Entry},
	} {
		program, err := k.program()
		if err != nil {
			return s, err
		}
		if *k.kernel, err = program.CreateKernel(k.entry); err != nil {
			return s, err
		}
	}
	element := int64(r.params.T.Size())
	half := int64(size.stage) * element
	if s.c, err = c.CreateBuffer(cl.MEM_READ_WRITE, int64(size.rows)*int64(size.cols)*element); err != nil {
		return s, err
	}
	for i := range s.raw {
		if s.raw[i], err = c.CreateBuffer(cl.MEM_READ_ONLY, half); err != nil {
			return s, err
		}
	}
	if s.pinned, err = c.CreateBuffer(cl.MEM_READ_WRITE|cl.MEM_ALLOC_HOST_PTR, 2*half); err != nil {
		return s, err
	}
	s.host, err = s.queue.MapBuffer(s.pinned, cl.MAP_READ|cl.MAP_WRITE, 0, 2*half)
	return s, err
}

func (s *matMulSlot) finish() {
	if s.queue != nil {
		s.queue.Finish() // its error was reported by what failed
	}
	for i, e := range s.busy {
		e.Release()
		s.busy[i] = nil
	}
}

func (s *matMulSlot) release() {
	s.host.Release()
	s.pinned.Release()
	for _, b := range s.raw {
		b.Release()
	}
	s.c.Release()
	s.multiply.Release()
	s.packB.Release()
	s.packA.Release()
	s.queue.Release()
	if s.own {
		s.panels.Release()
	}
}

// half returns one half of the slot's staging memory.
func half[T float32 | float64](s *matMulSlot, i int) []T {
	all := kernels.Elements[T](s.host.Bytes())
	return all[i*s.size.stage:][:s.size.stage]
}
