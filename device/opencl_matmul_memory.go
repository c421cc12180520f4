package device

import (
	"fmt"
	"sync"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
	"github.com/gpurun/gpurun/tiler"
)

// matMulSize is how large the parts of a product's memory on a device are.
type matMulSize struct {
	resident   bool // whole operands are kept, for all slots
	slots      int
	sets       int // of panels, of a slot; or one of all slots, if resident
	depth      int // steps that panels hold: all of them, if resident
	rows, cols int // of the block of C that a slot holds: whole panels
	rowsEach   int // of a buffer: several hold a block that is larger than one may be
	stage      int // elements of one half of a slot's staging memory, of either way
	bytes      int64
	moved      float64 // elements, if not resident
}

// What a slot takes where there is plenty of memory: a block of C so large that
// computing it takes longer than moving it, and pieces of transfers so large that
// beginning one costs nothing.
const (
	mostBlock = 2048
	mostStage = 8 << 20 // bytes

	// stageShare is what part of the memory a half of the staging memory may be.
	stageShare = 64
)

// stageParts: two halves for what goes to the device, each here and there, and two for
// what comes back.
const stageParts = 6

// share has a product leave half of the memory free if the whole operands fit into the
// other; or else the larger it is, the less has to be moved.
func (r *openCLMatMul[T]) share(free int64) int64 {
	if _, ok := r.residentSize(free / 2); ok {
		return free / 2
	}
	return free
}

func (r *openCLMatMul[T]) fit(bytes int64) (int64, error) {
	size, err := r.size(bytes)
	return size.bytes, err
}

// size returns the largest useful size in bytes. The whole operands stay on the
// device if they fit; or else panels of them stream through it, by a block of C that
// takes most of the memory.
func (r *openCLMatMul[T]) size(bytes int64) (matMulSize, error) {
	if s, ok := r.residentSize(bytes); ok {
		return s, nil
	}
	if s, ok := r.streamSize(bytes); ok {
		return s, nil
	}
	least := matMulSize{slots: 1, sets: 2, depth: 1, rows: r.params.Rows, cols: r.params.Cols, stage: max(r.params.Rows, r.params.Cols)}
	if !r.measure(&least) {
		return matMulSize{}, fmt.Errorf("%w: a buffer may have %d bytes here, and this product takes larger ones: use another device",
			ErrBudget, r.device.info.MaxAlloc)
	}
	return matMulSize{}, fmt.Errorf("%w: %d bytes are left, and this product takes %d: raise --mem", ErrBudget, max(bytes, 0), least.bytes)
}

// residentSize returns the size with which whole operands stay on the device.
func (r *openCLMatMul[T]) residentSize(bytes int64) (matMulSize, bool) {
	whole := r.whole()
	s := matMulSize{
		resident: true, slots: openCLSlots, sets: 1, depth: whole.K,
		rows: wholePanels(min(whole.M, mostBlock), r.params.Rows), cols: wholePanels(min(whole.N, mostBlock), r.params.Cols),
	}
	panels := max(whole.M, whole.N) * whole.K
	s.stage = max(min(r.stage(bytes), panels), s.leastStage(r.params))
	return s, r.measure(&s) && s.rowsEach >= s.rows && s.bytes <= bytes
}

// streamSize returns the size with which panels stream through the device.
func (r *openCLMatMul[T]) streamSize(bytes int64) (s matMulSize, ok bool) {
	whole, stage := r.whole(), r.stage(bytes)
	// All that is left, or less where a row of the block needs more staging memory, or
	// panels are larger than a buffer may be.
	for elements := float64(bytes/int64(r.params.T.Size()) - stageParts*int64(stage)); ; elements *= 0.9 {
		plan, found := tiler.PlanBlocks(whole, elements, r.params.Cols, r.params.Rows)
		if !found {
			return s, false
		}
		s = matMulSize{slots: 1, sets: 2, depth: plan.Depth, rows: plan.Rows, cols: plan.Cols, moved: plan.Moved}
		s.stage = max(stage, s.leastStage(r.params))
		if plan.Depth >= whole.K {
			s.sets = 1
		}
		if r.measure(&s) && s.bytes <= bytes {
			return s, true
		}
	}
}

// whole returns the size of the product in whole panels.
func (r *openCLMatMul[T]) whole() tiler.Product {
	return tiler.Product{
		M: wholePanels(max(r.job.M, 1), r.params.Rows), N: wholePanels(max(r.job.N, 1), r.params.Cols), K: max(r.steps, 1),
	}
}

// stage returns how many elements a half of the staging memory has in so much memory.
func (r *openCLMatMul[T]) stage(bytes int64) int {
	return int(min(mostStage, max(bytes, 0)/stageShare, r.device.info.MaxAlloc/2) / int64(r.params.T.Size()))
}

// leastStage returns the elements that a half of the staging memory must have:
// a step of a panel, and a row of the block.
func (s *matMulSize) leastStage(params opencl.MatMul) int {
	return max(params.Rows, params.Cols, s.cols)
}

// measure works out the bytes of s, and reports whether no buffer is larger than the
// device allows.
func (r *openCLMatMul[T]) measure(s *matMulSize) bool {
	rows, cols := s.rows, s.cols
	if s.resident {
		rows, cols = r.whole().M, r.whole().N
	}
	element, block := int64(r.params.T.Size()), int64(s.rows)*int64(s.cols)
	inBuffer := int(min(r.device.info.MaxAlloc/element/int64(s.cols), int64(s.rows)))
	s.rowsEach = max(inBuffer/r.params.Rows, 1) * r.params.Rows
	panels := int64(s.sets) * int64(rows+cols) * int64(s.depth)
	s.bytes = element * (panels + int64(s.slots)*(block+stageParts*int64(s.stage)))
	return element*max(int64(max(rows, cols))*int64(s.depth), int64(s.rowsEach)*int64(s.cols), 2*int64(s.stage)) <= r.device.info.MaxAlloc
}

// wholePanels returns n rounded up to whole panels.
func wholePanels(n, panel int) int { return (n + panel - 1) / panel * panel }

// operandPanels are panels of both operands on the device.
type operandPanels struct {
	a, b *cl.Buffer

	// If they stay: who loads some has what loading has room for, and which are there.
	loading      chan struct{}
	haveA, haveB []bool

	nowA, nowB kernels.Tile // or else which rows and steps, and steps and columns, they hold
}

// matMulSlot is what one tile at a time needs.
type matMulSlot struct {
	size     matMulSize
	panels   *operandPanels      // those that all slots share; or else
	free     chan *operandPanels // has those of the slot that are not in use
	staging  *matMulStaging
	results  *stagingHalves // where the result passes, in a queue of its own
	loading  sync.WaitGroup // of what goes through staging, by another goroutine
	queue    *cl.Queue
	multiply *cl.Kernel
	c        []*cl.Buffer // rows×cols of the result, each with rowsEach of them
}

func (r *openCLMatMul[T]) fill(m *openCLMemory[*matMulSlot], bytes int64) error {
	size, err := r.size(bytes)
	if err != nil {
		return err
	}
	var shared *operandPanels
	if size.resident {
		whole := r.whole()
		shared, err = r.newPanels(m.context, whole.M, whole.N, size.depth)
		m.shared = append(m.shared, shared)
		if err != nil {
			return err
		}
	}
	for range size.slots {
		slot, err := r.newSlot(m.context, size, shared)
		if err != nil {
			slot.release()
			return err
		}
		m.slots <- slot
	}
	r.now = size
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
	s = &matMulSlot{size: size, panels: shared, free: make(chan *operandPanels, size.sets)}
	for range size.sets {
		if shared != nil {
			break
		}
		p, err := r.newPanels(c, size.rows, size.cols, size.depth)
		s.free <- p
		if err != nil {
			return s, err
		}
	}
	if s.staging, err = r.newStaging(c, size.stage); err != nil {
		return s, err
	}
	if s.results, err = newStagingHalves(c, size.stage, r.params.T.Size()); err != nil {
		return s, err
	}
	if s.queue, err = c.CreateCommandQueue(0); err != nil {
		return s, err
	}
	if s.multiply, err = c.kernel(r.params.Multiply()); err != nil {
		return s, err
	}
	for row := 0; row < size.rows; row += size.rowsEach {
		rows := min(size.rowsEach, size.rows-row)
		buffer, err := c.CreateBuffer(cl.MEM_READ_WRITE, int64(rows)*int64(size.cols)*int64(r.params.T.Size()))
		if err != nil {
			return s, err
		}
		s.c = append(s.c, buffer)
	}
	return s, nil
}

func (s *matMulSlot) finish() {
	s.loading.Wait()
	if s.queue != nil {
		s.queue.Finish() // its error was reported by what failed
	}
	if s.staging != nil {
		s.staging.finish()
	}
	s.results.finish()
}

func (s *matMulSlot) release() {
	for _, b := range s.c {
		b.Release()
	}
	s.multiply.Release()
	s.queue.Release()
	s.results.release()
	if s.staging != nil {
		s.staging.release()
	}
	for range len(s.free) {
		(<-s.free).Release()
	}
}
