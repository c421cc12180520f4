package device

import (
	"context"

	"github.com/gpurun/gpurun/kernels"
)

// panelsLoaded are panels of both operands that are on the device, or the error that
// there was.
type panelsLoaded struct {
	panels *operandPanels
	steps  int
	moved  int64
	err    error
}

// stream multiplies the block by panels that are loaded while those before them are
// being multiplied.
func (b *matMulBlock[T]) stream(ctx context.Context, keep int) error {
	loading, end := context.WithCancel(ctx)
	loaded := make(chan panelsLoaded)
	b.slot.loading.Go(func() { b.loadAll(loading, loaded) })
	err := b.multiplyLoaded(ctx, loaded, keep)
	end()
	if err != nil && ctx.Err() != nil {
		return err // finish waits for the loading
	}
	b.slot.loading.Wait()
	return err
}

// multiplyLoaded multiplies the panels of all steps as they come.
func (b *matMulBlock[T]) multiplyLoaded(ctx context.Context, loaded <-chan panelsLoaded, keep int) error {
	for done := 0; done < b.r.steps; {
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
		err := b.multiply(ctx, next.panels, next.steps, keep)
		b.slot.free <- next.panels
		if err != nil {
			return err
		}
		keep = keepAsItIs
		done += next.steps
	}
	return nil
}

// loadAll loads the panels of all steps, one after the other, into those that are
// free, until ctx is done or an error has been told.
func (b *matMulBlock[T]) loadAll(ctx context.Context, loaded chan<- panelsLoaded) {
	for first := 0; first < b.r.steps; first += b.slot.size.depth {
		var panels *operandPanels
		select {
		case panels = <-b.slot.free:
		case <-ctx.Done():
			return
		}
		next := panelsLoaded{panels: panels, steps: min(b.slot.size.depth, b.r.steps-first)}
		next.moved, next.err = b.load(ctx, panels, first, next.steps)
		select {
		case loaded <- next:
			if next.err == nil {
				continue
			}
		case <-ctx.Done():
		}
		b.slot.free <- panels
		return
	}
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
