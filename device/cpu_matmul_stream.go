package device

import (
	"context"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// cpuMatMulStream computes tiles of a product whose operands are not in memory: a
// tile of C stays there while panels of both are read, one beside those that are
// being multiplied.
type cpuMatMulStream[T float32 | float64] struct {
	job     *kernels.MatMul[T]
	compute func(kernels.MatMul[T], *atomic.Bool) bool
	plan    tiler.Blocks
	step    tiler.Grid         // of the tiles that suit plan
	free    chan *cpuPanels[T] // has what no tile uses
	sets    int
}

// cpuPanels are a panel of each operand, with the same steps.
type cpuPanels[T float32 | float64] struct {
	a, b         []T
	haveA, haveB kernels.Tile // which they are, as they are stored
}

// The kernels are at their best with tiles whose sides are multiples of the first of
// these: of the panels of all variants. The others are for little memory.
var cpuSteps = []tiler.Grid{{StepX: 96, StepY: 168}, {StepX: 32, StepY: 28}, {StepX: 1, StepY: 1}}

// worthSteps is how much more may be moved so that tiles are of those sides.
const worthSteps = 1.04

// planCPU returns the plan for job in d's budget, and the tiles that suit it; or false
// if the budget is too small.
func planCPU[T float32 | float64](d *cpuDevice, job *kernels.MatMul[T]) (plan tiler.Blocks, step tiler.Grid, ok bool) {
	size, elements := tiler.Product{M: job.M, N: job.N, K: job.K}, float64(d.budget())/float64(unsafe.Sizeof(job.Alpha))
	finest, ok := tiler.PlanBlocks(size, elements, 1, 1)
	if !ok {
		return plan, step, false
	}
	for _, step = range cpuSteps {
		if plan, ok = tiler.PlanBlocks(size, elements, step.StepX, step.StepY); ok && plan.Moved <= worthSteps*finest.Moved {
			break
		}
	}
	return plan, step, true
}

func newCPUMatMulStream[T float32 | float64](d *cpuDevice, job *kernels.MatMul[T], compute func(kernels.MatMul[T], *atomic.Bool) bool) (*cpuMatMulStream[T], error) {
	plan, step, ok := planCPU(d, job)
	if !ok {
		return nil, fmt.Errorf("%w: %d bytes are less than a product of %d steps takes: raise --mem", ErrBudget, d.info.Budget, job.K)
	}
	r := &cpuMatMulStream[T]{job: job, compute: compute, plan: plan, step: step, sets: 2}
	if r.plan.Depth >= job.K {
		r.sets = 1
	}
	d.notePeak(int64(plan.Memory(job.K)) * int64(unsafe.Sizeof(job.Alpha)))
	r.free = make(chan *cpuPanels[T], r.sets)
	for range r.sets {
		r.free <- &cpuPanels[T]{a: make([]T, r.plan.Rows*r.plan.Depth), b: make([]T, r.plan.Cols*r.plan.Depth)}
	}
	return r, nil
}

// Grid returns the steps of the kernels, and the block that there is room for.
func (r *cpuMatMulStream[T]) Grid() tiler.Grid {
	return tiler.Grid{StepX: r.step.StepX, StepY: r.step.StepY, MaxW: r.plan.Cols, MaxH: r.plan.Rows}
}

// Run computes t, in blocks that there is room for.
func (r *cpuMatMulStream[T]) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	defer keepAdvancing(out)()
	out.BytesIn, out.BytesOut = 0, 0
	for y := 0; y < t.H; y += r.plan.Rows {
		for x := 0; x < t.W; x += r.plan.Cols {
			block := kernels.Tile{X: t.X + x, Y: t.Y + y, W: min(r.plan.Cols, t.W-x), H: min(r.plan.Rows, t.H-y)}
			p := *r.job
			p.M, p.N, p.SourceA, p.SourceB = block.H, block.W, nil, nil
			p.C, p.LDC = kernels.Elements[T](out.Planes[0])[y*t.W+x:], t.W
			if p.Beta != 0 {
				for i := range block.H {
					copy(p.C[i*t.W:][:block.W], r.job.C[(block.Y+i)*r.job.LDC+block.X:])
				}
			}
			if err := r.block(ctx, block, p, out); err != nil {
				return err
			}
		}
	}
	out.BytesOut = int64(t.Area()) * int64(unsafe.Sizeof(r.job.Alpha))
	return nil
}

// panelsRead are panels that have been read, or the error that there was.
type panelsRead[T float32 | float64] struct {
	panels *cpuPanels[T]
	steps  int
	moved  int64
	err    error
}

// block computes p, which is block, with panels of it read on the way.
func (r *cpuMatMulStream[T]) block(ctx context.Context, block kernels.Tile, p kernels.MatMul[T], out *kernels.Result) error {
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	reading, end := context.WithCancel(ctx)
	defer end()
	read := make(chan panelsRead[T])
	go r.read(reading, block, read)
	for done := 0; done < r.job.K; {
		var next panelsRead[T]
		select {
		case next = <-read:
		case <-ctx.Done():
			return ctx.Err()
		}
		if next.err != nil {
			return next.err
		}
		out.BytesIn += next.moved
		p.K, p.A, p.B = next.steps, next.panels.a, next.panels.b
		p.LDA, p.LDB = next.panels.haveA.W, next.panels.haveB.W
		finished := r.compute(p, &stop)
		r.free <- next.panels
		if !finished {
			return ctx.Err()
		}
		p.Beta = 1
		done += next.steps
	}
	return nil
}

// read reads the panels of block, one after the other, into what is free, until ctx
// is done.
func (r *cpuMatMulStream[T]) read(ctx context.Context, block kernels.Tile, to chan<- panelsRead[T]) {
	for k := 0; k < r.job.K; k += r.plan.Depth {
		var panels *cpuPanels[T]
		select {
		case panels = <-r.free:
		case <-ctx.Done():
			return
		}
		next := panelsRead[T]{panels: panels, steps: min(r.plan.Depth, r.job.K-k)}
		next.moved, next.err = r.load(panels, block, k, next.steps)
		select {
		case to <- next:
			if next.err != nil {
				r.free <- panels
				return
			}
		case <-ctx.Done():
			r.free <- panels
			return
		}
	}
}

// load reads what panels do not have yet of the steps from k on, and returns how many
// bytes that were.
func (r *cpuMatMulStream[T]) load(panels *cpuPanels[T], block kernels.Tile, k, steps int) (moved int64, err error) {
	a := kernels.Tile{X: k, Y: block.Y, W: steps, H: block.H}
	if r.job.TransA {
		a = kernels.Tile{X: block.Y, Y: k, W: block.H, H: steps}
	}
	b := kernels.Tile{X: block.X, Y: k, W: block.W, H: steps}
	if r.job.TransB {
		b = kernels.Tile{X: k, Y: block.X, W: steps, H: block.W}
	}
	for _, part := range []struct {
		have *kernels.Tile
		want kernels.Tile
		to   []T
		read func([]T, kernels.Tile) error
	}{{&panels.haveA, a, panels.a, r.job.ReadA}, {&panels.haveB, b, panels.b, r.job.ReadB}} {
		if *part.have == part.want {
			continue
		}
		*part.have = kernels.Tile{}
		if err := part.read(part.to[:part.want.Area()], part.want); err != nil {
			return moved, err
		}
		*part.have = part.want
		moved += int64(part.want.Area()) * int64(unsafe.Sizeof(r.job.Alpha))
	}
	return moved, nil
}

// Close waits until nothing is read any more.
func (r *cpuMatMulStream[T]) Close() error {
	for range r.sets {
		<-r.free
	}
	return nil
}
