package device

import (
	"context"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
)

// panelsLoaded are panels of both operands that are on the device, and a slab of the
// block to multiply by them; or the error that there was.
type panelsLoaded struct {
	panels *operandPanels
	steps  int
	rows   slab
	keep   int
	last   bool // of the slabs: the panels are free then
	done   bool // no steps of the slab are left
	moved  int64
	err    error
}

// slabDelivered is a slab that has come to its place, or the error that there was.
type slabDelivered struct {
	moved int64
	err   error
}

// stream multiplies the block by panels that are loaded while those before them are
// being multiplied. Slabs of C come before the first panels are multiplied by the next
// of them, and go while the last panels are. Three queues do that at the same time.
func (b *matMulBlock[T]) stream(ctx context.Context, keep int) error {
	moving, end := context.WithCancel(ctx)
	defer end()
	loaded, computed, delivered := make(chan panelsLoaded), make(chan slab, mostSlabs), make(chan slabDelivered, mostSlabs)
	b.slot.loading.Go(func() { b.loadAll(moving, keep, loaded) })
	go b.deliverAll(moving, computed, delivered)
	err := b.multiplyLoaded(ctx, loaded, computed)
	close(computed)
	if err != nil {
		end()
	}
	// Until the end in any case, for out is the caller's after that.
	for d := range delivered {
		b.out.BytesOut += d.moved
		b.out.Advance()
		if d.err != nil && (err == nil || cl.IsOutOfMemory(d.err)) {
			err = d.err
		}
	}
	if err != nil && ctx.Err() != nil {
		return err // finish waits for the loading
	}
	b.slot.loading.Wait()
	return err
}

// multiplyLoaded multiplies the panels of all steps as they come, and tells computed
// of slabs that are done.
func (b *matMulBlock[T]) multiplyLoaded(ctx context.Context, loaded <-chan panelsLoaded, computed chan<- slab) error {
	for {
		var next panelsLoaded
		select {
		case next = <-loaded:
		case <-ctx.Done():
			return ctx.Err()
		}
		if next.err != nil {
			return next.err
		}
		b.out.BytesIn += next.moved
		b.out.Advance()
		err := b.multiply(ctx, next.panels, next.rows, next.steps, next.keep)
		if next.last {
			b.slot.free <- next.panels
		}
		if err != nil {
			return err
		}
		if next.done {
			computed <- next.rows
			if next.last {
				return nil
			}
		}
	}
}

// deliverAll delivers slabs as they are computed, until there is an error.
func (b *matMulBlock[T]) deliverAll(ctx context.Context, computed <-chan slab, delivered chan<- slabDelivered) {
	defer close(delivered)
	for rows := range computed {
		var d slabDelivered
		d.moved, d.err = b.deliver(ctx, rows)
		delivered <- d
		if d.err != nil {
			return
		}
	}
}

// loadAll loads the panels of all steps, one after the other, into those that are
// free, until ctx is done or an error has been told. It hands the last two over
// together: the longer it takes to multiply a slab, the more of the one before goes
// meanwhile.
func (b *matMulBlock[T]) loadAll(ctx context.Context, keep int, loaded chan<- panelsLoaded) {
	depth, steps := b.slot.size.depth, b.r.steps
	for first, end := 0, 0; ; first = end {
		end = first + depth
		if end+depth >= steps {
			end = steps
		}
		group := b.loadGroup(ctx, first, end, keep)
		if !b.hand(ctx, group, first == 0 && keep != keepNothing, end == steps, loaded) || end == steps {
			return
		}
		keep = keepAsItIs
	}
}

// loadGroup loads the panels of the steps first … end−1. If there is an error the last
// of them has it.
func (b *matMulBlock[T]) loadGroup(ctx context.Context, first, end, keep int) (group []panelsLoaded) {
	for {
		next := panelsLoaded{steps: min(b.slot.size.depth, end-first), keep: keep}
		select {
		case next.panels = <-b.slot.free:
			next.moved, next.err = b.load(ctx, next.panels, first, next.steps)
		case <-ctx.Done():
			next.err = ctx.Err()
		}
		group = append(group, next)
		first += next.steps
		if next.err != nil || first >= end {
			return group
		}
		keep = keepAsItIs
	}
}

// hand hands the panels of group over, for the whole block, or slab by slab if C is to
// come before them or to go after them. It returns false if ctx is done or an error
// has been told. Panels that it did not give away are free again.
func (b *matMulBlock[T]) hand(ctx context.Context, group []panelsLoaded, comes, goes bool, loaded chan<- panelsLoaded) bool {
	given := 0
	defer func() {
		for _, p := range group[given:] {
			if p.panels != nil {
				b.slot.free <- p.panels
			}
		}
	}()
	rows, err := []slab{b.all()}, group[len(group)-1].err
	if comes || goes {
		rows = b.slabs()
	}
	for i, s := range rows {
		var moved int64
		if comes && err == nil {
			moved, err = b.uploadC(ctx, s)
		}
		for j := range group {
			next := group[j]
			next.rows, next.last, next.err = s, i == len(rows)-1, err
			next.done = goes && j == len(group)-1
			next.moved += moved
			select {
			case loaded <- next:
			case <-ctx.Done():
				return false
			}
			if err != nil {
				return false
			}
			if next.last {
				given++
			}
			group[j].moved, moved = 0, 0
		}
	}
	return true
}

// load loads what panels do not have yet of the steps from first on, and returns how
// many bytes that were.
func (b *matMulBlock[T]) load(ctx context.Context, panels *operandPanels, first, steps int) (moved int64, err error) {
	staging, silent := b.slot.staging, func() {}
	opA, opB := b.operands()
	nowA := kernels.Tile{X: first, Y: b.part.Y, W: steps, H: b.part.H}
	nowB := kernels.Tile{X: b.part.X, Y: first, W: b.part.W, H: steps}
	hasA, hasB := panels.nowA == nowA, panels.nowB == nowB
	panels.nowA, panels.nowB = kernels.Tile{}, kernels.Tile{}
	if !hasA {
		if moved, err = b.pack(ctx, opA, staging.packA, panels.a, 0, b.endA, first, first+steps, silent); err != nil {
			return moved, err
		}
	}
	if !hasB {
		n, err := b.pack(ctx, opB, staging.packB, panels.b, 0, b.endB, first, first+steps, silent)
		if moved += n; err != nil {
			return moved, err
		}
	}
	if err := staging.drain(ctx); err != nil {
		return moved, err
	}
	panels.nowA, panels.nowB = nowA, nowB
	return moved, nil
}
