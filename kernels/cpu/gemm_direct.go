package cpu

// directFlops is up to how much work the overhead of blocks and panels is worth
// to be saved.
const directFlops = 4 << 20

// direct computes a small product without packing more than the last panel of B
// where that is narrow, on the calling goroutine. It returns false, and has done
// nothing, if the product is not of the kind.
func direct[T real](s *simd[T], o *operands[T]) bool {
	if o.alpha != 1 || o.transA || o.transB || o.k > s.kc || o.k*o.n > directBytesB/size[T]() {
		return false
	}
	if 2*float64(o.m)*float64(o.n)*float64(o.k) > directFlops {
		return false
	}
	nr := s.nr()
	var edge *job[T]
	if o.n&(nr-1) != 0 {
		pool := poolOf[T]()
		edge = pool.get()
		defer pool.leave(edge)
	}
	x := strip[T]{
		k: o.k, vectors: nrVectors, edge: s.vl, ahead: nr * size[T](), beta: o.beta,
		aRow: o.lda * size[T](), bRow: o.ldb * size[T](), cRow: o.ldc * size[T](),
	}
	if o.beta == 0 {
		x.fresh = 1
	}
	panels := ceil(o.m, s.mr)
	h := ceil(o.m, panels)
	tall := o.m - panels*(h-1)
	for j := 0; j < o.n; j += nr {
		x.b = at(o.b, j)
		if width := o.n - j; width < nr {
			o.packEdge(s, edge, j, &x)
		}
		x.a, x.c = at(o.a, 0), at(o.c, j)
		x.compute(s, h, tall)
		if rest := panels - tall; rest > 0 {
			x.c = at(o.c, tall*h*o.ldc+j)
			x.a = at(o.a, tall*h*o.lda)
			x.compute(s, h-1, rest)
		}
	}
	return true
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
	x.b, x.bRow, x.ahead = p.dst, p.dstRow, 0
}

// compute has count tiles of h rows computed, one below the other.
func (x *strip[T]) compute(s *simd[T], h, count int) {
	x.rows, x.count, x.aStep, x.cStep = h, count, h*x.aRow, h*x.cRow
	gemmStrip(s, x)
}
