package cpu

// blocked computes the product block by block.
//
// For each block of A, which stays in the outer caches, blocks of B are packed,
// which stay in the second-level cache. Then each panel of A goes through the
// first-level cache with all panels of B.
//
// Where B is not packed, because C has few rows, it is B's panels that go through
// the first-level cache one by one, with all panels of A.
func (j *job[T]) blocked(threads int) {
	j.plan = j.newPlan(threads)
	if j.plan.columns > 0 {
		j.share(j.plan.workers, inColumns)
		return
	}
	j.byPlan()
}

// byPlan computes the product as its plan has it.
func (j *job[T]) byPlan() {
	p := &j.plan
	if p.packA {
		j.rowA = oddLines[T](p.kc)
		j.panelsA = reserve(&j.bufferA, p.mc*j.rowA)
	}
	width := ceil(p.nc, j.nr()) * j.nr()
	if !p.packB {
		width = j.nr()
	}
	j.panelsB = reserve(&j.bufferB, width*p.kc)
	j.share(p.workers, inBlocks)
}

// columnsPart computes the columns of C that belong to a task, as a product of its
// own.
func (w *worker[T]) columnsPart(task int) {
	pool := poolOf[T]()
	j := pool.get()
	defer pool.leave(j)
	from := task * w.plan.columns
	j.operands, j.simd, j.stop = w.operands, w.simd, w.stop
	j.n = min(w.plan.columns, w.n-from)
	if j.c = w.c[from:]; w.transB {
		j.b = w.b[from*w.ldb:]
	} else {
		j.b = w.b[from:]
	}
	if j.flops() <= j.mostDirect(1) && direct(j.simd, &j.operands) {
		return
	}
	j.plan = w.plan
	j.plan.workers = 1
	j.byPlan()
}

// blocks walks through the blocks of the product.
func (w *worker[T]) blocks() {
	p, b := &w.plan, &w.block
	for i0 := 0; i0 < w.m; i0 += p.mc {
		b.setRows(i0, min(p.mc, w.m-i0), w.mr)
		for p0 := 0; p0 < w.k; p0 += p.kc {
			b.p0, b.kc = p0, min(p.kc, w.k-p0)
			for j0 := 0; j0 < w.n; j0 += p.nc {
				if w.stop.Load() {
					return
				}
				b.setColumns(j0, min(p.nc, w.n-j0), w.nr())
				w.phase(w.packATasks()+w.packBTasks(), packingPanels)
				b.setParts(p.packB, p.workers)
				w.phase(b.rowParts*b.colParts, tiling)
			}
		}
	}
}

// tiles computes the tiles of one task.
func (w *worker[T]) tiles(task int) {
	b := &w.block
	r0, r1 := part(b.rowPanels, b.rowParts, task/b.colParts)
	q0, q1 := part(b.colPanels, b.colParts, task%b.colParts)
	s := &w.strip
	s.k, s.cRow, s.far = b.kc, w.ldc*size[T](), 1
	s.beta, s.fresh = 1, 0
	if b.p0 == 0 {
		s.beta = w.beta
		if w.beta == 0 {
			s.fresh = 1
		}
	}
	if w.plan.packB {
		for r := r0; r < r1; r++ {
			w.setRow(r, b.heightOf(r))
			w.row(r, q0, q1)
		}
		return
	}
	for q := q0; q < q1; q++ {
		w.setColumn(q)
		w.column(q, r0, min(r1, b.tall))
		w.column(q, max(r0, b.tall), r1)
	}
}

// row computes the tiles of panel r of A and the panels [q0, q1) of B.
func (w *worker[T]) row(r, q0, q1 int) {
	b, s := &w.block, &w.strip
	last := b.colPanels - 1
	if narrow := q1 > last && b.lastWidth != w.nr(); narrow {
		if q0 < last {
			w.row(r, q0, last)
		}
		q0 = last
	}
	w.setColumn(q0)
	s.c = at(w.c, (b.i0+b.rowOf(r))*w.ldc+b.j0+q0*w.nr())
	s.count = q1 - q0
	s.aStep, s.bStep, s.cStep = 0, w.nr()*b.kc*size[T](), w.nr()*size[T]()
	gemmStrip(w.simd, s)
}

// column computes the tiles of panel q of B and the panels [r0, r1) of A, which
// are of one height.
func (w *worker[T]) column(q, r0, r1 int) {
	if r0 >= r1 {
		return
	}
	b, s := &w.block, &w.strip
	h := b.heightOf(r0)
	w.setRow(r0, h)
	s.c = at(w.c, (b.i0+b.rowOf(r0))*w.ldc+b.j0+q*w.nr())
	s.count = r1 - r0
	s.aStep, s.bStep, s.cStep = h*s.aRow, 0, h*s.cRow
	gemmStrip(w.simd, s)
}

// setRow makes panel r of A the strip's, or the first of it.
func (w *worker[T]) setRow(r, height int) {
	b, s := &w.block, &w.strip
	s.rows = height
	if w.plan.packA {
		s.a, s.aRow = at(w.panelsA, b.rowOf(r)*w.rowA), w.rowA*size[T]()
	} else {
		s.a, s.aRow = at(w.a, (b.i0+b.rowOf(r))*w.lda+b.p0), w.lda*size[T]()
	}
}

// setColumn makes panel q of B the strip's, or the first of it.
func (w *worker[T]) setColumn(q int) {
	b, s := &w.block, &w.strip
	width := w.nr()
	if q == b.colPanels-1 {
		width = b.lastWidth
	}
	s.vectors = ceil(width, w.vl)
	s.edge = width - (s.vectors-1)*w.vl
	switch {
	case w.plan.packB || width < w.nr():
		packed := q
		if !w.plan.packB {
			packed = 0
		}
		s.b, s.bRow = at(w.panelsB, packed*b.kc*w.nr()), s.vectors*w.vl*size[T]()
		s.ahead = rowsAhead * s.bRow
	default:
		// The next panel of B is beside this one, and not in a cache yet.
		s.b, s.bRow = at(w.b, b.p0*w.ldb+b.j0+q*w.nr()), w.ldb*size[T]()
		s.ahead = w.nr()*size[T]() + lineEnd
	}
}

// oddLines returns the least number of elements ≥ n that take an odd number of
// cache lines, so that rows of that length do not get into each other's way.
func oddLines[T real](n int) int {
	perLine := 64 / size[T]()
	return (ceil(n, perLine) | 1) * perLine
}
