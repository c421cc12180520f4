package cpu

// packedRows is how many rows of B, or of A, a task packs.
const packedRows = 32

// rowsAhead is how many rows of B before they are needed they are fetched.
const rowsAhead = 8

// lineEnd is by how much what is fetched of a row of B where it lies is behind its
// beginning: if that is no beginning of a cache line, the row has a line more than is
// fetched, of which the first came with the panel before.
const lineEnd = 63

// packATasks and packBTasks return how many tasks it takes to pack what of A and B
// the block needs and has not got yet.
func (w *worker[T]) packATasks() int {
	if !w.plan.packA || w.block.j0 > 0 {
		return 0
	}
	return ceil(w.block.mc, packedRows)
}

func (w *worker[T]) packBTasks() int {
	b := &w.block
	switch {
	case !w.plan.packB && b.lastWidth == w.nr():
		return 0
	case w.transB && w.plan.packB:
		return b.colPanels
	}
	return ceil(b.kc, packedRows)
}

// pack does one task of packing.
func (w *worker[T]) pack(task int) {
	if a := w.packATasks(); task >= a {
		w.packB(task - a)
		return
	}
	w.packA(task * packedRows)
}

// packA packs rows of the block of A, from row i of the block on.
func (w *worker[T]) packA(i int) {
	b, p := &w.block, &w.packing
	rows := min(packedRows, b.mc-i)
	dst := w.panelsA[i*w.rowA:]
	p.alpha = w.alpha
	if w.transA {
		for x := 0; x < b.kc; x += w.vl {
			w.transpose(dst[x:], w.rowA, w.a[(b.p0+x)*w.lda+b.i0+i:], w.lda, min(w.vl, b.kc-x), rows)
		}
		return
	}
	p.k, p.row, p.dstRow = b.kc/w.nr(), w.nr()*size[T](), w.nr()*size[T]()
	p.count, p.srcStep, p.dstStep = rows, w.lda*size[T](), w.rowA*size[T]()
	p.src, p.dst = at(w.a, (b.i0+i)*w.lda+b.p0), &dst[0]
	if p.k > 0 {
		w.setEdge(w.nr())
		packRows(w.simd, p)
	}
	if whole := p.k * w.nr(); whole < b.kc {
		w.setEdge(b.kc - whole)
		p.src, p.dst, p.k = at(w.a, (b.i0+i)*w.lda+b.p0+whole), &dst[whole], 1
		packRows(w.simd, p)
	}
}

// setEdge sets the width of the panels that are packed.
func (w *worker[T]) setEdge(width int) {
	w.packing.vectors = ceil(width, w.vl)
	w.packing.edge = width - (w.packing.vectors-1)*w.vl
}

// packB packs a part of the block of B: some rows of all panels, or all rows of
// a panel if B is transposed.
func (w *worker[T]) packB(task int) {
	b, p := &w.block, &w.packing
	p.alpha = 1
	nr, last := w.nr(), b.colPanels-1
	if w.transB {
		width := nr
		if task == last {
			width = b.lastWidth
		}
		row := ceil(width, w.vl) * w.vl
		dst := w.panelsB[task*b.kc*nr:]
		for x := 0; x < width; x += w.vl {
			w.transpose(dst[x:], row, w.b[(b.j0+task*nr+x)*w.ldb+b.p0:], w.ldb, min(w.vl, width-x), b.kc)
		}
		return
	}
	from := task * packedRows
	rows := min(packedRows, b.kc-from)
	full := b.colPanels
	if b.lastWidth < nr {
		full--
	}
	src := (b.p0+from)*w.ldb + b.j0
	if full > 0 && w.plan.packB {
		p.k, p.row, p.dstRow = full, nr*size[T](), nr*b.kc*size[T]()
		p.count, p.srcStep, p.dstStep = rows, w.ldb*size[T](), nr*size[T]()
		p.src, p.dst = at(w.b, src), at(w.panelsB, from*nr)
		w.setEdge(nr)
		packRows(w.simd, p)
	}
	if full < b.colPanels {
		w.setEdge(b.lastWidth)
		packed := last
		if !w.plan.packB {
			packed = 0
		}
		p.src, p.count, p.k, p.row = at(w.b, src+last*nr), 1, rows, w.ldb*size[T]()
		p.srcStep = rowsAhead * p.row
		p.dst = at(w.panelsB, packed*b.kc*nr+from*p.vectors*w.vl)
		p.dstRow = p.vectors * w.vl * size[T]()
		packRows(w.simd, p)
	}
}

// transpose packs h ≤ VL rows of n elements, ld apart in src, into columns of dst,
// whose rows are dstRow apart. The other columns of VL are given any value.
func (w *worker[T]) transpose(dst []T, dstRow int, src []T, ld, h, n int) {
	p := &w.packing
	if n < w.vl {
		for x := range h {
			for i, v := range src[x*ld:][:n] {
				dst[i*dstRow+x] = p.alpha * v
			}
		}
		return
	}
	for x := range w.vl {
		p.from[x] = &src[min(x, h-1)*ld]
	}
	p.dst, p.dstRow, p.k = &dst[0], dstRow*size[T](), n/w.vl*w.vl
	packColumns(w.simd, p)
	if n > p.k {
		// The last elements, some of them for the second time.
		for x := range w.vl {
			p.from[x] = &src[min(x, h-1)*ld+n-w.vl]
		}
		p.dst, p.k = &dst[(n-w.vl)*dstRow], w.vl
		packColumns(w.simd, p)
	}
}
