package device

import (
	"context"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
)

// operand is op(A) or the transpose of op(B): rows of K steps.
type operand[T float32 | float64] struct {
	read   func(to []T, t kernels.Tile) error // as it is stored
	alongK bool                               // steps of a row are neighbours there; or else rows of a step
	origin int                                // the row with which panel 0 begins
	count  int                                // rows up to the last that is of use
	panel  int
	alpha  T
}

// operands returns op(A) and op(B), with the panels of the block.
func (b *matMulBlock[T]) operands() (opA, opB operand[T]) {
	job, rows, cols := b.r.job, b.part.Y+b.part.H, b.part.X+b.part.W
	if b.slot.size.resident {
		rows, cols = job.M, job.N // for other blocks too
	}
	return operand[T]{read: job.ReadA, alongK: !job.TransA, origin: b.originY, count: rows, panel: b.r.params.Rows, alpha: job.Alpha},
		operand[T]{read: job.ReadB, alongK: job.TransB, origin: b.originX, count: cols, panel: b.r.params.Cols, alpha: 1}
}

// loadMissing makes sure that the panels of the block are among those that stay on
// the device.
func (b *matMulBlock[T]) loadMissing(ctx context.Context) error {
	panels := b.slot.panels
	// The other slot may need the same ones. Loading takes long, so that waiting
	// for it can be cancelled.
	select {
	case panels.loading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-panels.loading }()
	opA, opB := b.operands()
	if err := b.packMissing(ctx, opA, b.slot.staging.packA, panels.a, panels.haveA, b.panelA, b.endA); err != nil {
		return err
	}
	return b.packMissing(ctx, opB, b.slot.staging.packB, panels.b, panels.haveB, b.panelB, b.endB)
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
		moved, err := b.pack(ctx, op, kernel, to, from, next, 0, b.r.steps, b.out.Advance)
		b.out.BytesIn += moved
		if err != nil {
			return err
		}
		if err := b.slot.staging.drain(ctx); err != nil {
			return err
		}
		for ; from < next; from++ {
			have[from] = true
		}
	}
	return nil
}

// pack brings the panels from … end−1 of op, with the steps first … last−1, into
// the buffer to, and returns how many bytes those were. It calls advance now and then.
func (b *matMulBlock[T]) pack(ctx context.Context, op operand[T], kernel *cl.Kernel, to *cl.Buffer, from, end, first, last int, advance func()) (moved int64, err error) {
	stage := b.slot.size.stage
	row, rows := op.origin+from*op.panel, min(op.origin+end*op.panel, op.count)
	steps := min(max(stage/op.panel, 1), last-first)
	if steps <= 0 {
		return 0, nil
	}
	height := max(stage/steps/op.panel, 1) * op.panel
	for ; row < rows; row += height {
		for k := first; k < last; k += steps {
			piece := kernels.Tile{X: k, Y: row, W: min(steps, last-k), H: min(height, rows-row)}
			size, err := b.packPiece(ctx, op, kernel, to, k-first, piece)
			moved += size
			if err != nil {
				return moved, err
			}
			advance()
		}
	}
	return moved, nil
}

// packPiece packs the steps X … and the rows Y … of piece to step toStep of the panels
// in to.
func (b *matMulBlock[T]) packPiece(ctx context.Context, op operand[T], kernel *cl.Kernel, to *cl.Buffer, toStep int, piece kernels.Tile) (moved int64, err error) {
	staging, element := b.slot.staging, int64(b.r.params.T.Size())
	i, err := staging.next(ctx)
	if err != nil {
		return 0, err
	}
	stage := half[T](staging.stagingHalves, i)
	stored := piece
	if !op.alongK {
		stored = kernels.Tile{X: piece.Y, Y: piece.X, W: piece.H, H: piece.W}
	}
	if err := op.read(stage[:stored.Area()], stored); err != nil {
		return 0, err
	}
	size := int64(stored.Area()) * element
	written, err := staging.queue.EnqueueWriteBuffer(staging.raw[i], 0, staging.host, staging.offset(i, element), size)
	if err != nil {
		return 0, err
	}
	written.Release() // the queue is in order
	if err := kernel.SetArgs(staging.raw[i], uint64(stored.W), flag(op.alongK), uint32(piece.Y-op.origin), uint32(piece.H),
		uint32(toStep), uint32(piece.W), uint32(b.slot.size.depth), real(b.r.params.T, float64(op.alpha)), flag(op.alpha != 1), to); err != nil {
		return 0, err
	}
	const side = opencl.PackSide
	staging.busy[i], err = staging.queue.EnqueueNDRangeKernel(kernel, nil,
		[]int{wholePanels(wholePanels(piece.H, op.panel), side), wholePanels(piece.W, side)}, []int{side, side})
	return size, err
}
