package device

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
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

	part           kernels.Tile // the block, in C
	panelA, panelB int          // the first panels that it touches
	endA, endB     int          // behind the last
	baseA, baseB   int          // the panels with which the slot's buffers begin
}

// place puts the block at (x, y), as large as the slot has room for.
func (b *matMulBlock[T]) place(x, y int) {
	size, params := b.slot.size, b.r.params
	b.panelA, b.panelB = y/params.Rows, x/params.Cols
	bottom := min((b.panelA*params.Rows)+size.rows, b.whole.Y+b.whole.H)
	right := min((b.panelB*params.Cols)+size.cols, b.whole.X+b.whole.W)
	b.part = kernels.Tile{X: x, Y: y, W: right - x, H: bottom - y}
	b.endA, b.endB = wholePanels(bottom, params.Rows)/params.Rows, wholePanels(right, params.Cols)/params.Cols
	if !size.resident {
		b.baseA, b.baseB = b.panelA, b.panelB
	}
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
	if keep != keepNothing {
		if err := b.uploadC(ctx); err != nil {
			return err
		}
	}
	for first := 0; first == 0 || first < b.r.steps; first += b.slot.size.depth {
		last := min(first+b.slot.size.depth, b.r.steps)
		if err := b.load(ctx, first, last); err != nil {
			return err
		}
		if err := b.multiply(ctx, last-first, keep); err != nil {
			return err
		}
		keep = keepAsItIs
	}
	return b.deliver(ctx)
}

// What the kernel does with C before it adds to it.
const (
	keepNothing = iota
	keepAsItIs
	keepScaled
)

// load makes sure that the panels of the block are there, with the steps first …
// last−1.
func (b *matMulBlock[T]) load(ctx context.Context, first, last int) error {
	job, panels := b.r.job, b.slot.panels
	opA := operand[T]{data: job.A, ld: job.LDA, alongK: !job.TransA, count: job.M, panel: b.r.params.Rows, alpha: job.Alpha}
	opB := operand[T]{data: job.B, ld: job.LDB, alongK: job.TransB, count: job.N, panel: b.r.params.Cols, alpha: 1}
	if !b.slot.size.resident {
		if err := b.pack(ctx, opA, b.slot.packA, panels.a, b.baseA, b.panelA, b.endA, first, last); err != nil {
			return err
		}
		return b.pack(ctx, opB, b.slot.packB, panels.b, b.baseB, b.panelB, b.endB, first, last)
	}
	// The other slot may need the same ones. Loading takes long, so that waiting
	// for it can be cancelled.
	select {
	case panels.loading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-panels.loading }()
	if err := b.packMissing(ctx, opA, b.slot.packA, panels.a, panels.haveA, b.panelA, b.endA); err != nil {
		return err
	}
	return b.packMissing(ctx, opB, b.slot.packB, panels.b, panels.haveB, b.panelB, b.endB)
}

// packMissing packs those of the panels from … to−1 that are not there yet.
func (b *matMulBlock[T]) packMissing(ctx context.Context, op operand[T], kernel *cl.Kernel, to *cl.Buffer, have []bool, from, end int) error {
	for from < end {
		if have[from] {
			from++
			continue
		}
		next := from
		for next < end && !have[next] {
			next++
		}
		if err := b.pack(ctx, op, kernel, to, 0, from, next, 0, b.r.steps); err != nil {
			return err
		}
		if err := b.drainStage(ctx); err != nil {
			return err
		}
		for ; from < next; from++ {
			have[from] = true
		}
	}
	return nil
}

// operand is op(A) or the transpose of op(B): count rows of K steps.
type operand[T float32 | float64] struct {
	data   []T
	ld     int
	alongK bool // steps of a row are neighbours in memory; or else rows of a step
	count  int
	panel  int
	alpha  T
}

// pack brings the panels from … end−1 of op, with the steps first … last−1, into
// the buffer to, which begins with panel base.
func (b *matMulBlock[T]) pack(ctx context.Context, op operand[T], kernel *cl.Kernel, to *cl.Buffer, base, from, end, first, last int) error {
	stage := b.slot.size.stage
	row, rows := from*op.panel, min(end*op.panel, op.count)
	steps := min(max(stage/op.panel, 1), last-first)
	if steps <= 0 {
		return nil
	}
	height := max(stage/steps/op.panel, 1) * op.panel
	for ; row < rows; row += height {
		for k := first; k < last; k += steps {
			piece := kernels.Tile{X: k, Y: row, W: min(steps, last-k), H: min(height, rows-row)}
			if err := b.packPiece(ctx, op, kernel, to, row-base*op.panel, k-first, piece); err != nil {
				return err
			}
		}
	}
	return nil
}

// packPiece packs the steps X … and the rows Y … of piece to row toRow and step
// toStep of the panels in to.
func (b *matMulBlock[T]) packPiece(ctx context.Context, op operand[T], kernel *cl.Kernel, to *cl.Buffer, toRow, toStep int, piece kernels.Tile) error {
	slot := b.slot
	i, err := b.nextHalf(ctx)
	if err != nil {
		return err
	}
	stage := half[T](slot, i)
	width, height, origin := piece.W, piece.H, piece.Y*op.ld+piece.X
	if !op.alongK {
		width, height, origin = piece.H, piece.W, piece.X*op.ld+piece.Y
	}
	for y := range height {
		copy(stage[y*width:][:width], op.data[origin+y*op.ld:])
	}
	size := int64(width) * int64(height) * int64(b.r.params.T.Size())
	offset := int64(i) * int64(slot.size.stage) * int64(b.r.params.T.Size())
	written, err := slot.queue.EnqueueWriteBuffer(slot.raw[i], 0, slot.host, offset, size)
	if err != nil {
		return err
	}
	written.Release() // the queue is in order
	if err := kernel.SetArgs(slot.raw[i], uint64(width), flag(op.alongK), uint32(toRow), uint32(piece.H),
		uint32(toStep), uint32(piece.W), uint32(slot.size.depth), real(b.r.params.T, float64(op.alpha)), flag(op.alpha != 1), to); err != nil {
		return err
	}
	const side = opencl.PackSide
	slot.busy[i], err = slot.queue.EnqueueNDRangeKernel(kernel, nil,
		[]int{wholePanels(wholePanels(piece.H, op.panel), side), wholePanels(piece.W, side)}, []int{side, side})
	b.out.BytesIn += size
	return err
}

// nextHalf returns the half of the staging memory that is free first.
func (b *matMulBlock[T]) nextHalf(ctx context.Context) (int, error) {
	s := b.slot
	s.turn ^= 1
	if e := s.busy[s.turn]; e != nil {
		s.busy[s.turn] = nil
		defer e.Release()
		if err := e.Wait(ctx); err != nil {
			return 0, err
		}
		b.out.Advance()
	}
	return s.turn, nil
}

// drainStage waits until both halves are free.
func (b *matMulBlock[T]) drainStage(ctx context.Context) error {
	for range 2 {
		if _, err := b.nextHalf(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cachedSteps are as many as a device that is a CPU does at a time, so that a panel
// of A and one of B stay in its nearest cache.
const cachedSteps = 384

// multiply adds the products of the steps that are loaded to the block. Each
// launch does some panels of A and some steps with all panels of B.
func (b *matMulBlock[T]) multiply(ctx context.Context, steps, keep int) error {
	params := b.r.params
	alongB := b.endB - b.panelB
	perPanel := float64(params.Rows*params.Cols) * float64(alongB)
	for panel := b.panelA; panel < b.endA; {
		budget := b.r.speed.stepsPerLaunch()
		depth := min(steps, max(int(budget/perPanel), 64))
		if params.Depth == 0 {
			depth = min(depth, cachedSteps)
		}
		count := min(max(int(budget/(perPanel*float64(max(depth, 1)))), 1), b.endA-panel)
		how := keep
		for first := 0; first == 0 || first < steps; first += depth {
			last := min(first+depth, steps)
			if err := b.enqueue(ctx, panel, count, first, last, how); err != nil {
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

// enqueue has the kernel do the steps first … last−1 of count panels of A, from
// panel on, with all panels of B, and waits.
func (b *matMulBlock[T]) enqueue(ctx context.Context, panel, count, first, last, keep int) error {
	params, slot, alongB := b.r.params, b.slot, b.endB-b.panelB
	top, left := b.part.Y-b.baseA*params.Rows, b.part.X-b.baseB*params.Cols
	err := slot.multiply.SetArgs(slot.panels.a, slot.panels.b, uint32(slot.size.depth), uint32(first), uint32(last),
		uint32(count), uint32(alongB), uint32(panel-b.baseA), uint32(b.panelB-b.baseB),
		slot.c, uint32(b.part.W), uint32(top), uint32(left), uint32(top+b.part.H), uint32(left+b.part.W),
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
	rows := min((panel+count)*params.Rows, b.part.Y+b.part.H) - max(panel*params.Rows, b.part.Y)
	b.r.speed.record(int64(rows)*int64(b.part.W)*int64(last-first), b.r.occupancy(count*alongB), one)
	return nil
}

// occupancy returns what part of the device so many groups keep busy.
func (r *openCLMatMul[T]) occupancy(groups int) float64 {
	return min(1, float64(groups)/float64(max(r.device.info.Units, 1)))
}

// uploadC brings the block of C to the device.
func (b *matMulBlock[T]) uploadC(ctx context.Context) error {
	job := b.r.job
	return b.moveC(ctx, func(stage []T, y, h int) {
		for i := range h {
			copy(stage[i*b.part.W:][:b.part.W], job.C[(b.part.Y+y+i)*job.LDC+b.part.X:])
		}
	}, nil)
}

// deliver brings the block to its place in out.
func (b *matMulBlock[T]) deliver(ctx context.Context) error {
	plane := kernels.Elements[T](b.out.Planes[0])
	return b.moveC(ctx, nil, func(stage []T, y, h int) {
		for i := range h {
			at := (b.part.Y-b.whole.Y+y+i)*b.whole.W + b.part.X - b.whole.X
			copy(plane[at:][:b.part.W], stage[i*b.part.W:])
		}
	})
}

// moveC moves the block to the device after put has put rows y … y+h−1 into the
// staging memory, or from there before get gets them.
func (b *matMulBlock[T]) moveC(ctx context.Context, put, get func(stage []T, y, h int)) error {
	slot, element := b.slot, int64(unsafe.Sizeof(b.r.job.Alpha))
	height := max(slot.size.stage/b.part.W, 1)
	for y := 0; y < b.part.H; y += height {
		h := min(height, b.part.H-y)
		at, size := int64(y)*int64(b.part.W)*element, int64(h)*int64(b.part.W)*element
		if err := b.drainStage(ctx); err != nil {
			return err
		}
		stage := half[T](slot, 0)
		if put != nil {
			put(stage, y, h)
			if err := wait(ctx)(slot.queue.EnqueueWriteBuffer(slot.c, at, slot.host, 0, size)); err != nil {
				return err
			}
			b.out.BytesIn += size
			continue
		}
		if err := wait(ctx)(slot.queue.EnqueueReadBuffer(slot.c, at, slot.host, 0, size)); err != nil {
			return err
		}
		get(stage, y, h)
		b.out.BytesOut += size
	}
	return nil
}
