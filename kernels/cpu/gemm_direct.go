package cpu

import "math/bits"

// mostDirect returns up to how many operations the overhead of blocks, panels and
// other workers is worth to be saved.
func (s *simd[T]) mostDirect(threads int) float64 {
	if threads > 1 {
		return s.perWorker
	}
	return 4 << 20
}

// rowsAheadDirect is how many rows of B before they are needed they are fetched: they
// come from the second-level cache.
const rowsAheadDirect = 4

// direct computes a small product without packing more than the last panel of B
// where that is narrow, on the calling goroutine. It returns false, and has done
// nothing, if the product is not of the kind: one that is, and is not small, is
// computed better in blocks.
func direct[T real](s *simd[T], o *operands[T]) bool {
	if o.alpha != 1 || o.transA || o.transB || o.k > s.kc || o.k*o.n > directBytesB/size[T]() {
		return false
	}
	x := strip[T]{
		k: o.k, vectors: nrVectors, edge: s.vl, ahead: rowsAheadDirect*o.ldb*size[T]() + lineEnd, beta: o.beta,
		aRow: o.lda * size[T](), bRow: o.ldb * size[T](), cRow: o.ldc * size[T](),
	}
	if o.beta == 0 {
		x.fresh = 1
	}
	panels := ceil(o.m, s.mr)
	h := ceil(o.m, panels)
	tall := o.m - panels*(h-1)
	full := o.n &^ (s.nr() - 1)
	if full > 0 {
		// A panel of A stays in the first-level cache while B goes by.
		x.b, x.bStep, x.cStep = at(o.b, 0), s.nr()*size[T](), s.nr()*size[T]()
		x.count = full >> bits.TrailingZeros(uint(s.nr()))
		for i := 0; i < o.m; i += x.rows {
			if x.rows = h; i >= tall*h {
				x.rows = h - 1
			}
			x.a, x.c = at(o.a, i*o.lda), at(o.c, i*o.ldc)
			gemmStrip(s, &x)
		}
	}
	if full < o.n {
		o.narrow(s, full, h, tall, &x)
	}
	return true
}

// narrow computes the columns of C from j on, which are fewer than NR. There are
// tall panels of A of h rows, and others of one row less.
func (o *operands[T]) narrow(s *simd[T], j, h, tall int, x *strip[T]) {
	pool := poolOf[T]()
	edge := pool.get()
	defer pool.leave(edge)
	o.packEdge(s, edge, j, x)
	x.a, x.c = at(o.a, 0), at(o.c, j)
	x.column(s, h, tall)
	if i := tall * h; i < o.m {
		x.a, x.c = at(o.a, i*o.lda), at(o.c, i*o.ldc+j)
		x.column(s, h-1, (o.m-i)/(h-1))
	}
}

// packEdge makes the columns of B from j on the strip's.
func (o *operands[T]) packEdge(s *simd[T], edge *job[T], j int, x *strip[T]) {
	width := o.n - j
	x.vectors = (width + s.vl - 1) / s.vl
	x.edge = width - (x.vectors-1)*s.vl
	panel := reserve(&edge.bufferB, o.k*x.vectors*s.vl)
	p := packing[T]{
		src: at(o.b, j), dst: &panel[0], alpha: 1, k: o.k, row: x.bRow,
		dstRow: x.vectors * s.vl * size[T](), vectors: x.vectors, edge: x.edge, count: 1,
	}
	packRows(s, &p)
	x.b, x.bRow, x.bStep, x.ahead = p.dst, p.dstRow, 0, 0
}

// column has count tiles of h rows computed, one below the other.
func (x *strip[T]) column(s *simd[T], h, count int) {
	x.rows, x.count, x.aStep, x.cStep = h, count, h*x.aRow, h*x.cRow
	gemmStrip(s, x)
}
