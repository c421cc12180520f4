package cpu

// This file imports nothing, as lanes.go: the assembly generator type-checks
// the two to learn where fields are. Lengths of steps in memory are in bytes.

// strip is a row or a column of tiles of C that a micro-kernel computes one
// after the other. Each tile has rows × (vectors·VL) elements, of which only
// edge belong to C in the last vector. From one tile to the next a, b and c
// move by aStep, bStep and cStep.
type strip[T real] struct {
	// a, b and c are the first elements of the first tile's operands.
	a, b, c *T

	// k is how many products are added to each element, at least 1.
	k int

	// rows is in [1, MR], vectors in {1, 2} and edge in [1, VL].
	rows, vectors, edge int

	// Row i of the tile's part of A is at a + i·aRow. Row p of the tile's part of
	// B is at b + p·bRow, and holds vectors·VL elements that may all be read. Row
	// i of the tile is at c + i·cRow.
	aRow, bRow, cRow int

	count               int
	aStep, bStep, cStep int

	// ahead is how far in front of the row of B that is worked on memory is
	// fetched.
	ahead int

	// far, if not 0, says that C may be in no cache near, and is to be fetched.
	far int

	// beta multiplies what C holds before the first product is added. If fresh
	// is not 0 then C is not read, and the sums start at 0.
	beta  T
	fresh int
}

// packing is a copy of a part of an operand into panels, piece by piece. A piece is
// a row of a panel, or a part of it.
type packing[T real] struct {
	// dst is where the first piece goes, and the next one goes dstRow behind it. k
	// pieces do.
	dst       *T
	dstRow, k int

	// alpha multiplies every element.
	alpha T

	// For packRows: piece p comes from src + p·row. It is vectors·VL wide, of which
	// edge in the last vector are copied; the others become 0. That is done count
	// times, and from one time to the next src moves by srcStep and dst by dstStep.
	// What is to be srcStep further on is fetched meanwhile.
	src                     *T
	row, vectors, edge      int
	count, srcStep, dstStep int

	// For packColumns: the VL elements of row p are from[i][p]. There is one
	// panel, and k is a multiple of VL.
	from [16]*T
}

// dots is a block of a matrix–vector product whose VL results are sums along
// the rows of the matrix.
type dots[T real] struct {
	// The sum of lane i goes over from[i][p]·x[p] for p in [0, k).
	from [16]*T
	x    *T
	k    int

	// alpha multiplies the elements of the matrix before all else.
	alpha T

	// sums holds the sums so far.
	sums [16]T
}

// axpys is a block of a matrix–vector product whose results are sums along the
// columns of the matrix.
type axpys[T real] struct {
	// m is the first row, and row the distance to the next, of rows in [1, 8]
	// rows of n elements each.
	m       *T
	row     int
	rows, n int

	// alpha multiplies the elements of the matrix before all else, and
	// x[p] then those of row p.
	alpha T
	x     [8]T

	// y holds the n sums so far.
	y *T
}
