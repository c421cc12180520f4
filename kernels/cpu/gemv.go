package cpu

// vectorProduct is a product in which C is a vector: y = M·x + y, where the
// elements of y are sums along the rows of M, or along its columns.
type vectorProduct[T real] struct {
	matrix  []T
	ld      int
	columns bool
	alpha   T   // multiplies the elements of the matrix
	x, y    []T // without gaps
	part    int // elements of y in a task
}

const (
	// gemvBytes of the matrix are worth another goroutine.
	gemvBytes = 1 << 19

	// dotsLength is how many elements of a row are worked off in one call, so
	// that a call is short.
	dotsLength = 1 << 18

	// axpysRows is how many rows are added to y in one go, and axpysColumns how
	// many elements of y are in a task at most: they stay in the first-level
	// cache while the rows go by.
	axpysRows    = 8
	axpysColumns = 2048
)

// gemv computes a product of which C is a row or a column. It reads the matrix
// once, and takes as long as that takes.
func (j *job[T]) gemv(threads int) {
	g := vectorProduct[T]{matrix: j.a, ld: j.lda, columns: j.transA, alpha: j.alpha}
	x, xStep, yStep := j.b, j.ldb, j.ldc
	if j.transB {
		xStep = 1
	}
	n, scale := j.m, T(1)
	if j.n > 1 {
		// α belongs to A, which is the vector here.
		g = vectorProduct[T]{matrix: j.b, ld: j.ldb, columns: !j.transB, alpha: 1}
		x, xStep, yStep = j.a, 1, 1
		if j.transA {
			xStep = j.lda
		}
		n, scale = j.n, j.alpha
	}
	if g.x = x; xStep != 1 || scale != 1 {
		g.x = reserve(&j.bufferA, j.k)[:j.k]
		j.gather(g.x, x, xStep, scale)
	}
	if g.y = j.c; yStep != 1 {
		g.y = reserve(&j.bufferB, n)
		if j.beta != 0 {
			j.gather(g.y[:n], j.c, yStep, 1)
		}
	}
	g.y = g.y[:n]

	workers := int(min(float64(threads), 1+float64(n)*float64(j.k)*float64(size[T]())/gemvBytes))
	parts := 1
	if workers > 1 {
		parts = 4 * workers
	}
	g.part = ceil(ceil(n, parts), j.vl) * j.vl
	if g.columns {
		g.part = min(max(g.part, 16*j.vl), axpysColumns)
	}
	j.vector = g
	j.share(workers, asVector)
	if yStep != 1 {
		for i := 0; i < n && !j.stop.Load(); i += betweenStops {
			for q, y := range g.y[i:min(i+betweenStops, n)] {
				j.c[(i+q)*yStep] = y
			}
		}
	}
}

// gather fills to with scale times each step-th element of from.
func (j *job[T]) gather(to, from []T, step int, scale T) {
	for i := 0; i < len(to) && !j.stop.Load(); i += betweenStops {
		for q := range to[i:min(i+betweenStops, len(to))] {
			to[i+q] = scale * from[(i+q)*step]
		}
	}
}

// vectorPart computes the elements of y that belong to a task.
func (w *worker[T]) vectorPart(task int) {
	g := &w.vector
	from := task * g.part
	y := g.y[from:min(from+g.part, len(g.y))]
	scaled(y, w.beta)
	if g.columns {
		w.sumColumns(from, y)
		return
	}
	for i := 0; i < len(y); i += w.vl {
		w.sumRows(from+i, y[i:min(i+w.vl, len(y))])
	}
}

// sumColumns adds to y the products of the columns of the matrix from j on.
func (w *worker[T]) sumColumns(j int, y []T) {
	g, a := &w.vector, &w.axpys
	a.row, a.alpha = g.ld*size[T](), g.alpha
	for p := 0; p < w.k && !w.stop.Load(); p += axpysRows {
		a.rows = min(axpysRows, w.k-p)
		a.m, a.y, a.n = &g.matrix[p*g.ld+j], &y[0], len(y)
		copy(a.x[:], g.x[p:p+a.rows])
		gemvAxpys(w.simd, a)
	}
}

// sumRows adds to y, which has up to VL elements, the products of the rows of
// the matrix from i on.
func (w *worker[T]) sumRows(i int, y []T) {
	g, d := &w.vector, &w.dots
	d.alpha = g.alpha
	copy(d.sums[:], y)
	whole := w.k / w.vl * w.vl
	for p := 0; p < whole && !w.stop.Load(); p += dotsLength {
		for r := range w.vl {
			d.from[r] = &g.matrix[(i+min(r, len(y)-1))*g.ld+p]
		}
		d.x, d.k = &g.x[p], min(dotsLength, whole-p)
		gemvDots(w.simd, d)
	}
	if whole < w.k {
		// The last elements are read from a copy, as whole vectors.
		rest := reserve(&w.scratch, w.vl*w.vl)
		for r := range w.vl {
			row := rest[r*w.vl:]
			copy(row[:w.vl], g.matrix[(i+min(r, len(y)-1))*g.ld+whole:][:w.k-whole])
			d.from[r] = &row[0]
		}
		d.x, d.k = &g.x[whole], w.k-whole
		gemvDots(w.simd, d)
	}
	copy(y, d.sums[:])
}
