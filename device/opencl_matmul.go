package device

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
	"github.com/gpurun/gpurun/tiler"
)

// openCLMatMul computes blocks of a product on an OpenCL device. The operands go
// there raw, and are packed into panels there; a block of C stays there while
// panels of both go by.
type openCLMatMul[T float32 | float64] struct {
	device *openCLDevice
	job    *kernels.MatMul[T]
	params opencl.MatMul
	steps  int          // K, or 0 where A and B are not read
	taken  atomic.Int64 // nanoseconds of all launches
	speed  *speedometer
	clock  launchClock
	state  openCLState[*matMulSlot]
	now    matMulSize // of the state's memory
}

func newOpenCLMatMul[T float32 | float64](d *openCLDevice, job *kernels.MatMul[T]) (*openCLMatMul[T], error) {
	r := newMatMulRunner(d, job, d.launch(job.DType()))
	return r, r.open()
}

// newMatMulRunner returns a runner that is to be opened.
func newMatMulRunner[T float32 | float64](d *openCLDevice, job *kernels.MatMul[T], params opencl.MatMul) *openCLMatMul[T] {
	r := &openCLMatMul[T]{device: d, job: job, params: params, steps: job.K, speed: d.products[job.DType()]}
	if job.Alpha == 0 {
		r.steps = 0
	}
	return r
}

func (r *openCLMatMul[T]) open() error {
	if err := r.params.Check(); err != nil {
		return err
	}
	if err := r.state.open(r.device, r); err != nil {
		return err
	}
	r.device.opened.Store(true)
	return nil
}

// Run computes t, in blocks that a slot has room for.
func (r *openCLMatMul[T]) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	if t.Empty() {
		return nil
	}
	return r.state.run(ctx, func(slot *matMulSlot) error {
		out.BytesIn, out.BytesOut = 0, 0
		b := matMulBlock[T]{r: r, slot: slot, out: out, whole: t}
		for y := t.Y; y < t.Y+t.H; y = b.part.Y + b.part.H {
			for x := t.X; x < t.X+t.W; x = b.part.X + b.part.W {
				b.place(x, y)
				if err := b.compute(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Grid returns the panels of the kernel and, where operands stream, the block that
// there is room for.
func (r *openCLMatMul[T]) Grid() tiler.Grid {
	g := tiler.Grid{StepX: r.params.Cols, StepY: r.params.Rows}
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	if size := r.now; !size.resident && r.steps > 0 {
		g.MaxW, g.MaxH = size.cols, size.rows
	}
	return g
}

// Close waits for what still drains.
func (r *openCLMatMul[T]) Close() error {
	r.state.close()
	return nil
}

// matMulBlock is a block of C that is being computed in a slot.
type matMulBlock[T float32 | float64] struct {
	r     *openCLMatMul[T]
	slot  *matMulSlot
	out   *kernels.Result
	whole kernels.Tile // that out is of

	part             kernels.Tile // the block, in C
	originX, originY int          // the column and the row with which panels 0 begin
	panelA, panelB   int          // the first panels that it touches
	endA, endB       int          // behind the last
}

// place puts the block at (x, y), as large as the slot has room for.
func (b *matMulBlock[T]) place(x, y int) {
	size, params := b.slot.size, b.r.params
	b.originX, b.originY = x, y
	if size.resident {
		b.originX, b.originY = 0, 0
	}
	b.panelA, b.panelB = (y-b.originY)/params.Rows, (x-b.originX)/params.Cols
	bottom := min(b.originY+b.panelA*params.Rows+size.rows, b.whole.Y+b.whole.H)
	right := min(b.originX+b.panelB*params.Cols+size.cols, b.whole.X+b.whole.W)
	b.part = kernels.Tile{X: x, Y: y, W: right - x, H: bottom - y}
	b.endA = wholePanels(bottom-b.originY, params.Rows) / params.Rows
	b.endB = wholePanels(right-b.originX, params.Cols) / params.Cols
}

// compute computes the block and delivers it.
func (b *matMulBlock[T]) compute(ctx context.Context) error {
	keep := keepScaled
	switch b.r.job.Beta {
	case 0:
		keep = keepNothing
	case 1:
		keep = keepAsItIs
	}
	if !b.slot.size.resident {
		return b.stream(ctx, keep)
	}
	if keep != keepNothing {
		moved, err := b.uploadC(ctx, b.all())
		b.out.BytesIn += moved
		if err != nil {
			return err
		}
	}
	if err := b.loadMissing(ctx); err != nil {
		return err
	}
	if err := b.multiply(ctx, b.slot.panels, b.all(), b.r.steps, keep); err != nil {
		return err
	}
	moved, err := b.deliver(ctx, b.all())
	b.out.BytesOut += moved
	return err
}

// What the kernel does with C before it adds to it.
const (
	keepNothing = iota
	keepAsItIs
	keepScaled
)

// cachedSteps are as many as a device that is a CPU does at a time, so that a panel
// of A and one of B stay in its nearest cache.
const cachedSteps = 384

// multiply adds the products of so many steps of panels to rows of the block. Each
// launch does some panels of A and some steps with all panels of B.
func (b *matMulBlock[T]) multiply(ctx context.Context, panels *operandPanels, rows slab, steps, keep int) error {
	params := b.r.params
	alongB := b.endB - b.panelB
	perPanel := float64(params.Rows*params.Cols) * float64(alongB)
	for panel := rows.from; panel < rows.end; {
		budget := b.r.speed.stepsPerLaunch()
		depth := min(steps, max(int(budget/perPanel), 64))
		if params.Depth == 0 {
			depth = min(depth, cachedSteps)
		}
		count := min(max(int(budget/(perPanel*float64(max(depth, 1)))), 1), rows.end-panel, b.leftInBuffer(panel))
		how := keep
		for first := 0; first == 0 || first < steps; first += depth {
			last := min(first+depth, steps)
			if err := b.enqueue(ctx, panels, panel, count, first, last, how); err != nil {
				return err
			}
			how = keepAsItIs
			if depth == 0 {
				break
			}
		}
		panel += count
	}
	return nil
}

// bufferOf returns which of the buffers of C has the rows of panel of A, and the row of
// the block with which it begins. Where there are several, panel 0 begins with the block.
func (b *matMulBlock[T]) bufferOf(panel int) (buffer, firstRow int) {
	each := b.slot.size.rowsEach
	if len(b.slot.c) == 1 {
		return 0, 0
	}
	buffer = panel * b.r.params.Rows / each
	return buffer, buffer * each
}

// leftInBuffer returns how many panels of A from panel on have their rows of C in the
// same buffer.
func (b *matMulBlock[T]) leftInBuffer(panel int) int {
	if len(b.slot.c) == 1 {
		return b.endA - panel
	}
	_, first := b.bufferOf(panel)
	return (first+b.slot.size.rowsEach)/b.r.params.Rows - panel
}

// enqueue has the kernel do the steps first … last−1 of count panels of A, from
// panel on, with all panels of B, and waits.
func (b *matMulBlock[T]) enqueue(ctx context.Context, panels *operandPanels, panel, count, first, last, keep int) error {
	params, slot, alongB := b.r.params, b.slot, b.endB-b.panelB
	top, left := b.part.Y-b.originY, b.part.X-b.originX
	buffer, firstRow := b.bufferOf(panel)
	err := slot.multiply.SetArgs(panels.a, panels.b, uint32(slot.size.depth), uint32(first), uint32(last),
		uint32(count), uint32(alongB), uint32(panel), uint32(b.panelB),
		slot.c[buffer], uint32(b.part.W), uint32(top+firstRow), uint32(left), uint32(top+b.part.H), uint32(left+b.part.W),
		real(params.T, float64(b.r.job.Beta)), int32(keep))
	if err != nil {
		return err
	}
	start := time.Now()
	group := params.Group()
	if err := wait(ctx)(slot.queue.EnqueueNDRangeKernel(slot.multiply, nil, []int{count * alongB * group}, []int{group})); err != nil {
		return err
	}
	elapsed := b.r.clock.took(start, time.Now())
	b.r.taken.Add(int64(elapsed))
	b.out.Advance()
	var one launchTimes
	one.add(elapsed)
	rows := min((panel+count)*params.Rows, top+b.part.H) - max(panel*params.Rows, top)
	b.r.speed.record(int64(rows)*int64(b.part.W)*int64(last-first), b.r.occupancy(count*alongB), one)
	return nil
}

// occupancy returns what part of the device so many groups keep busy.
func (r *openCLMatMul[T]) occupancy(groups int) float64 {
	return min(1, float64(groups)/float64(max(r.device.info.Units, 1)))
}
