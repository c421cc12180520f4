package device

import (
	"context"
	"iter"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
)

// slab is rows of a block: the panels from … end−1 of A.
type slab struct{ from, end int }

// mostSlabs is into how many slabs a block is cut that streams. The first comes to the
// device, and the last back, while nothing is multiplied.
const mostSlabs = 8

// all returns the whole block.
func (b *matMulBlock[T]) all() slab { return slab{b.panelA, b.endA} }

// slabs cuts the block. A slab that did not fill half of the staging memory would
// cost a launch and save nothing.
func (b *matMulBlock[T]) slabs() (cut []slab) {
	least := max(b.slot.size.stage/(b.part.W*b.r.params.Rows), 1)
	each := max((b.endA-b.panelA+mostSlabs-1)/mostSlabs, least)
	for from := b.panelA; from < b.endA; from += each {
		cut = append(cut, slab{from, min(from+each, b.endA)})
	}
	return cut
}

// pieceOfC is rows of the block that half of the staging memory has room for.
type pieceOfC struct {
	y, h     int // in the block
	buffer   int // of C
	at, size int64
}

// pieces returns the pieces of rows.
func (b *matMulBlock[T]) pieces(rows slab) iter.Seq[pieceOfC] {
	height := max(b.slot.size.stage/b.part.W, 1)
	line := int64(b.part.W) * int64(unsafe.Sizeof(b.r.job.Alpha))
	row := func(panel int) int { return b.originY + panel*b.r.params.Rows - b.part.Y }
	return func(yield func(pieceOfC) bool) {
		end := min(row(rows.end), b.part.H)
		for y, h := max(row(rows.from), 0), 0; y < end; y += h {
			buffer, firstRow := b.bufferOf(y / b.r.params.Rows)
			h = min(height, end-y)
			if len(b.slot.c) > 1 {
				h = min(h, firstRow+b.slot.size.rowsEach-y)
			}
			if !yield(pieceOfC{y: y, h: h, buffer: buffer, at: int64(y-firstRow) * line, size: int64(h) * line}) {
				return
			}
		}
	}
}

// uploadC brings rows of the block of C to the device, and returns how many bytes
// those were.
func (b *matMulBlock[T]) uploadC(ctx context.Context, rows slab) (moved int64, err error) {
	job, staging, width := b.r.job, b.slot.staging, b.part.W
	for p := range b.pieces(rows) {
		i, err := staging.next(ctx)
		if err != nil {
			return moved, err
		}
		stage := half[T](staging.stagingHalves, i)
		for row := range p.h {
			copy(stage[row*width:][:width], job.C[(b.part.Y+p.y+row)*job.LDC+b.part.X:])
		}
		at := staging.offset(i, int64(b.r.params.T.Size()))
		if staging.busy[i], err = staging.queue.EnqueueWriteBuffer(b.slot.c[p.buffer], p.at, staging.host, at, p.size); err != nil {
			return moved, err
		}
		moved += p.size
	}
	return moved, staging.drain(ctx)
}

// deliver brings rows of the block to their place in out, and returns how many bytes
// those were.
func (b *matMulBlock[T]) deliver(ctx context.Context, rows slab) (moved int64, err error) {
	results := b.slot.results
	var coming [2]pieceOfC // into each half
	for p := range b.pieces(rows) {
		i, err := results.next(ctx)
		if err != nil {
			return moved, err
		}
		b.take(coming[i], i)
		at := results.offset(i, int64(b.r.params.T.Size()))
		if results.busy[i], err = results.queue.EnqueueReadBuffer(b.slot.c[p.buffer], p.at, results.host, at, p.size); err != nil {
			return moved, err
		}
		coming[i] = p
		moved += p.size
	}
	for range coming {
		i, err := results.next(ctx)
		if err != nil {
			return moved, err
		}
		b.take(coming[i], i)
	}
	return moved, nil
}

// take copies a piece that has come to half i to its place in out.
func (b *matMulBlock[T]) take(p pieceOfC, i int) {
	plane, stage := kernels.Elements[T](b.out.Planes[0]), half[T](b.slot.results, i)
	for row := range p.h {
		at := (b.part.Y-b.whole.Y+p.y+row)*b.whole.W + b.part.X - b.whole.X
		copy(plane[at:][:b.part.W], stage[row*b.part.W:])
	}
}
