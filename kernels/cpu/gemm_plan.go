package cpu

// plan says how a product is cut into blocks and tasks.
type plan struct {
	// mc, kc and nc are the sizes of all blocks but the last.
	mc, kc, nc int

	// packA and packB say which operands are copied into panels. One that is
	// not is read where it lies; then only the last panel of B is copied, if
	// it is narrower than the others.
	packA, packB bool

	// workers is how many can share the work.
	workers int

	// columns, if not 0, is how many columns of C are a product of their own, which
	// one worker computes, in the same way.
	columns int
}

const (
	// directPanelsB is from how many panels of A on B is packed.
	directPanelsB = 5

	// directBytesB is up to how large B may be if it is not packed: a larger one
	// comes from memory, which wants to be read in long rows.
	directBytesB = 768 << 10

	// mostLinesInSet is how many rows of a panel of A may begin in one set of the
	// first-level cache, which has 8 ways, and mostPagesInSet likewise of the table of
	// pages, which has 4; and crowdedPanels how many panels of B it takes for copying A
	// to pay where there are more.
	mostLinesInSet = 7
	mostPagesInSet = 3
	crowdedPanels  = 2

	// fewPanels is up to how many panels of A it is better that whoever packs a panel of
	// B computes with it, and partsOfColumns how many parts a worker gets of such a
	// product: each packs A again if A is packed at all.
	fewPanels      = 5
	partsOfColumns = 4
)

// newPlan decides how the product is computed. A is read where it lies unless
// that is slow or its elements are to be multiplied: a row of a panel is read
// from front to back either way.
func (j *job[T]) newPlan(threads int) plan {
	stride := j.lda * size[T]()
	crowded := !j.transA && j.n > crowdedPanels*j.nr() &&
		(inOneSet(stride, j.mr, 6, 64) > mostLinesInSet || inOneSet(stride, j.mr, 12, 16) > mostPagesInSet)
	p := plan{
		packA: j.transA || j.alpha != 1 || crowded,
		packB: j.transB || ceil(j.m, j.mr) > directPanelsB || j.k*j.n > directBytesB/size[T](),
	}
	p.workers = int(min(float64(threads), 1+j.flops()/j.simd.perWorker))
	columns := j.n
	if p.workers > 1 && ceil(j.m, j.mr) <= fewPanels && j.n >= p.workers*j.nr() {
		p.columns = even(j.n, ceil(j.n, partsOfColumns*p.workers), j.nr())
		columns = p.columns
	}
	p.mc, p.kc, p.nc = even(j.m, j.simd.mc, j.mr), even(j.k, j.simd.kc, 1), even(columns, j.simd.nc, j.nr())
	if !p.packB {
		p.nc = even(columns, 1<<20, j.nr())
	}
	return p
}

// inOneSet returns how many of the lines on which so many rows begin, stride bytes apart,
// share a set. There are so many sets, a power of two and at most 64, and a line has
// 1 << lineBits bytes. First-level caches have 64 sets of lines of 64 bytes, as a rule,
// and first-level tables of pages 16 of 4096. Small products notice how long a division
// takes.
func inOneSet(stride, rows int, lineBits uint, sets int) (most int) {
	var count [64]int
	last := -1
	for i := range rows {
		if line := i * stride >> lineBits; line != last {
			last = line
			count[line&(sets-1)]++
			most = max(most, count[line&(sets-1)])
		}
	}
	return most
}

// ceil returns how many parts of size b a has, the last one maybe smaller. Small
// products notice how long a division of 64 bits takes.
func ceil(a, b int) int {
	if uint64(a)|uint64(b) < 1<<31 {
		return int(uint32(a+b-1) / uint32(b))
	}
	return (a + b - 1) / b
}

// even returns into which size to cut n so that the parts are as many as with
// size most, and of about equal size, a multiple of unit.
func even(n, most, unit int) int {
	parts := ceil(n, most)
	return ceil(ceil(n, parts), unit) * unit
}

// block is the part of a product that is being worked on: rows and columns of C,
// and the products that are added to them.
type block struct {
	i0, mc, p0, kc, j0, nc int

	// There are rowPanels of A, of which the first tall have height rows and
	// the others one less; and colPanels of B, of which the last is lastWidth
	// wide.
	rowPanels, tall, height int
	colPanels, lastWidth    int

	// The tasks are rowParts × colParts.
	rowParts, colParts int
}

func (b *block) setRows(i0, mc, mr int) {
	b.i0, b.mc = i0, mc
	b.rowPanels = ceil(mc, mr)
	b.height = ceil(mc, b.rowPanels)
	b.tall = mc - b.rowPanels*(b.height-1)
}

func (b *block) setColumns(j0, nc, nr int) {
	b.j0, b.nc = j0, nc
	b.colPanels = ceil(nc, nr)
	b.lastWidth = nc - (b.colPanels-1)*nr
}

// rowOf returns the first row of panel r in the block.
func (b *block) rowOf(r int) int { return r*b.height - max(0, r-b.tall) }

// heightOf returns the rows of panel r.
func (b *block) heightOf(r int) int {
	if r < b.tall {
		return b.height
	}
	return b.height - 1
}

// setParts cuts the block into tasks: into rows of panels if alongRows, else into
// columns. If those are too few for all workers to be busy they are cut again.
func (b *block) setParts(alongRows bool, workers int) {
	const longest = 128 // panels in a part
	long, short := b.rowPanels, b.colPanels
	if !alongRows {
		long, short = short, long
	}
	parts := ceil(short, longest)
	if workers > 1 {
		parts = max(parts, min(short, ceil(8*workers, long)))
	}
	b.rowParts, b.colParts = long, parts
	if !alongRows {
		b.rowParts, b.colParts = parts, long
	}
}

// part returns the panels [from, to) of part i of parts.
func part(panels, parts, i int) (from, to int) {
	return panels * i / parts, panels * (i + 1) / parts
}
