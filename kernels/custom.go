package kernels

import (
	"fmt"
	"math"
	"slices"
)

// Custom is a kernel that a user brings: a function in OpenCL C over arrays, with its
// arguments. As a job, its output is a rectangle of W×H elements for each array that the
// function writes, and it is computed in tiles like any other.
//
// The function sees a tile as if it were all there is. It is run with one work-item for each
// element of the tile: get_global_id(0) is the column in the tile and get_global_id(1) the
// row. An array that is cut is a pointer to the tile's elements, packed row by row: work-item
// (i, j) finds its own at [j*columns + i], and others of the tile, but nothing beyond it. How
// many columns, rows and planes the tile has, and where it is in the whole output, arguments of the role
// Place say. With Group there are as many more work-items as whole work-groups take.
type Custom struct {
	Source string // OpenCL C
	Entry  string // the function, which is a kernel in Source
	W, H   int    // of the output

	// Columns, if positive, says that the output is a volume: each of its H lines is a plane of W
	// elements, in rows of so many. The third dimension of work-items counts planes; tiles are of whole
	// planes.
	Columns int

	Args  []Arg  // one for each parameter, in their order
	Group [2]int // the work-items of a work-group in columns and rows; 0 leaves them to the driver

	// Items is how many work-items there are for each column of the output, where they are
	// not one; 0 counts as 1. Element i has those with get_global_id(0) from Items*i on.
	Items int

	// Rows has every tile, and every part that is computed at a time, be of whole rows.
	Rows bool

	// Tolerance is how far results may be from the twin's.
	Tolerance Tolerance

	// Name is what hosts know the twin by whose programs have it too; empty if none does.
	Name string

	// Twin is the same in Go, or nil. It writes the elements of its part, and may be called
	// by several goroutines at once, for different parts.
	Twin func(Part) error
}

// Tolerance is how far two results may be from each other: by Absolute + Relative times the larger of
// their absolute values. The zero value wants the same bits.
type Tolerance struct{ Absolute, Relative float64 }

// Role is what an argument of a Custom is to its function.
type Role uint8

const (
	// In is an array of W×H elements that is read; a tile has its part of it.
	In Role = iota + 1

	// Out is an array of W×H elements, of which each work-item writes its own.
	Out

	// InOut is both: the function finds there what is read, and leaves what it writes. What
	// is read is never what another tile has written.
	InOut

	// Whole is an array of any size, which every tile has whole.
	Whole

	// Value is a number.
	Value

	// Local is local memory: so many bytes for each work-group.
	Local

	// Place is a number that says where the tile is: see the constants of Arg.Bits.
	Place
)

// What an argument of the role Place says.
const (
	PlaceX    = iota // the column of the tile's first element in the whole output
	PlaceY           // its row
	PlaceW           // the tile's columns
	PlaceH           // its rows
	PlaceJobW        // the columns of the whole output
	PlaceJobH        // its rows
	PlaceZ           // the plane of the tile's first element in a volume
	PlaceD           // the tile's planes
	PlaceJobD        // the planes of the whole volume
	placeEnd
)

// Arg is an argument of a Custom.
type Arg struct {
	Name string
	Role Role
	Type DType // of the elements, or of the number; none for local memory

	// Bits are those of a Value as a number of its type, little-endian; the bytes of Local
	// memory; or what a Place says.
	Bits uint64

	// Array has the elements of In, InOut and Whole.
	Array Array

	// W and H are the size of a Whole array, and W the length of one with Each.
	W, H int

	// Each, if positive, is how many elements of an In array there are for each element of an
	// output with one row: element i has those from Each*i on, and the last what there is.
	Each int

	// Halo is how many columns on either side of a tile, how many rows above and below it, and of a
	// volume how many planes before and behind it, belong to its part of an In array. Of those that
	// are not in the array, Edge says what they are.
	Halo [3]int
	Edge Edge
}

// Edge says what lies around an array.
type Edge uint8

const (
	EdgeZero   Edge = iota // zeros
	EdgeRepeat             // the nearest element of the array
	EdgeWrap               // the array again: it has no edge
	edgeEnd
)

// Weight returns the elements of the array a that an element of the output has at most, without a
// halo.
func (a Arg) Weight() int { return max(a.Each, 1) }

// span returns the elements of the array a that t, a tile of an output that is no volume, has: also those
// of a halo that are not in the array.
func (a Arg) span(t Tile) Tile {
	if a.Each > 0 {
		from := t.X * a.Each
		return Tile{X: from, W: min(t.W*a.Each, a.W-from), H: 1}
	}
	return Tile{X: t.X - a.Halo[0], Y: t.Y - a.Halo[1], W: t.W + 2*a.Halo[0], H: t.H + 2*a.Halo[1]}
}

// Has returns how many elements of the array a tile t has: also those of a halo that are not in the
// array.
func (c *Custom) Has(a Arg, t Tile) int {
	if c.Columns == 0 || a.Halo == [3]int{} {
		return a.span(t).Area()
	}
	h := a.Halo
	return (c.Columns + 2*h[0]) * (c.W/c.Columns + 2*h[1]) * (t.H + 2*h[2])
}

// Most returns the elements of the array a that a tile of so many elements has at most.
func (c *Custom) Most(a Arg, elements int) int {
	h := a.Halo
	switch {
	case a.Each > 0:
		return elements * a.Each
	case c.Columns > 0:
		return c.Has(a, Tile{W: c.W, H: (elements + c.W - 1) / c.W})
	}
	return elements + 2*h[1]*min(elements, c.W) + 2*h[0]*min(elements, c.H) + 4*h[0]*h[1]
}

// Within returns the elements of the array a that t has, if all of them are in the array, and side by
// side or in rows of a tile.
func (c *Custom) Within(a Arg, t Tile) (span Tile, ok bool) {
	span = a.span(t)
	return span, a.Each > 0 || a.Halo == [3]int{} || c.Columns == 0 && c.Bounds().Contains(span)
}

// Read puts the elements of the array a that tile t has into to, packed row by row.
func (c *Custom) Read(to []byte, a Arg, t Tile) error {
	span, ok := c.Within(a, t)
	switch {
	case ok:
		return a.Array.Read(to, span)
	case c.Columns > 0:
		return c.readPlanes(to, a, t)
	}
	line := span.W * a.Type.Size()
	for y := range span.H {
		row, ok := a.Edge.place(span.Y+y, c.H)
		if !ok {
			clear(to[y*line:][:line])
		} else if err := a.readRow(to[y*line:][:line], span.X, row, c.W); err != nil {
			return err
		}
	}
	return nil
}

// readPlanes is Read for a volume whose array a has a halo.
func (c *Custom) readPlanes(to []byte, a Arg, t Tile) error {
	size, rows := a.Type.Size(), c.W/c.Columns
	plane := Memory{Data: make([]byte, c.W*size), W: c.Columns, Size: size}
	of := Arg{Role: In, Type: a.Type, Array: plane, Halo: [3]int{a.Halo[0], a.Halo[1]}, Edge: a.Edge}
	flat := &Custom{W: c.Columns, H: rows}
	bytes := flat.Has(of, flat.Bounds()) * size
	for z := t.Y - a.Halo[2]; z < t.Y+t.H+a.Halo[2]; z++ {
		at, ok := a.Edge.place(z, c.H)
		part := to[:bytes]
		if to = to[bytes:]; !ok {
			clear(part)
			continue
		}
		if err := a.Array.Read(plane.Data, Tile{Y: at, W: c.W, H: 1}); err != nil {
			return err
		}
		if err := flat.Read(part, of, flat.Bounds()); err != nil {
			return err
		}
	}
	return nil
}

// readRow puts the elements from column x of a row on into to, of an array of so many columns.
func (a Arg) readRow(to []byte, x, row, columns int) error {
	size := a.Type.Size()
	for n := len(to) / size; n > 0; n = len(to) / size {
		from, ok := a.Edge.place(x, columns)
		count := 1
		switch {
		case x >= 0 && x < columns:
			count = min(n, columns-x)
		case a.Edge == EdgeWrap:
			count = min(n, columns-from)
		case x < 0:
			count = min(n, -x) // all the same
		default:
			count = n
		}
		part := to[:count*size]
		to, x = to[count*size:], x+count
		if !ok {
			clear(part)
			continue
		}
		one := part
		if same := x-count < 0 || x-count >= columns; same && a.Edge == EdgeRepeat {
			one = part[:size]
		}
		if err := a.Array.Read(one, Tile{X: from, Y: row, W: len(one) / size, H: 1}); err != nil {
			return err
		}
		for i := len(one); i < len(part); i += size {
			copy(part[i:], one)
		}
	}
	return nil
}

// place returns which of n elements is at i, which may be beyond them, and whether one is.
func (e Edge) place(i, n int) (at int, ok bool) {
	switch {
	case i >= 0 && i < n:
		return i, true
	case e == EdgeRepeat:
		return min(max(i, 0), n-1), true
	case e == EdgeWrap:
		return (i%n + n) % n, true
	}
	return 0, false
}

// Array is the elements of an array.
type Array interface {
	// Read puts the columns and rows of t into to, packed row by row, in the byte order of the
	// machine. It may be called by several goroutines at once. An error ends the job.
	Read(to []byte, t Tile) error
}

// Memory is an Array in memory, of lines of W elements of Size bytes.
type Memory struct {
	Data    []byte
	W, Size int
}

// Read implements Array.
func (m Memory) Read(to []byte, t Tile) error {
	if part := m.Part(t); part != nil {
		copy(to, part)
		return nil
	}
	line := t.W * m.Size
	for y := range t.H {
		copy(to[y*line:][:line], m.Data[((t.Y+y)*m.W+t.X)*m.Size:])
	}
	return nil
}

// Part returns the elements of t if they lie side by side, or else nil.
func (m Memory) Part(t Tile) []byte {
	if t.W != m.W && t.H > 1 {
		return nil
	}
	return m.Data[(t.Y*m.W+t.X)*m.Size:][:t.Area()*m.Size]
}

// Part is what a twin computes at a time: a tile, or a part of one.
type Part struct {
	Tile Tile // of the whole output

	// Data has the elements of each argument that is an array, packed row by row: those of
	// the part that Tile has, or all of a Whole one. Those of the roles In and Whole are not to be
	// written.
	Data [][]byte
}

// Reads reports whether the elements of a come from a.Array.
func (a Arg) Reads() bool { return a.Role == In || a.Role == InOut || a.Role == Whole }

// Writes reports whether the function writes to the array a.
func (a Arg) Writes() bool { return a.Role == Out || a.Role == InOut }

// mostHalo bounds each side of a halo.
const mostHalo = 1 << 12

// Cut reports whether a tile has its part of the array a.
func (a Arg) Cut() bool { return a.Role == In || a.Role == Out || a.Role == InOut }

// At returns what a, of the role Place, says of tile t.
func (c *Custom) At(a Arg, t Tile) int {
	all, first, planes := c.Bounds(), 0, Tile{H: 1}
	if c.Columns > 0 {
		first, planes = t.Y, Tile{H: t.H}
		all = Tile{W: c.Columns, H: c.W / c.Columns}
		t = all
	}
	switch a.Bits {
	case PlaceX:
		return t.X
	case PlaceY:
		return t.Y
	case PlaceZ:
		return first
	case PlaceW:
		return t.W
	case PlaceH:
		return t.H
	case PlaceD:
		return planes.H
	case PlaceJobW:
		return all.W
	case PlaceJobH:
		return all.H
	case PlaceJobD:
		if c.Columns > 0 {
			return c.H
		}
	}
	return 1
}

// WholeRows implements RowJob.
func (c *Custom) WholeRows() bool { return c.Rows }

// Kernel, Bounds, DType and Planes make a Custom a job.
func (c *Custom) Kernel() string { return "custom" }

// Bounds returns the whole output.
func (c *Custom) Bounds() Tile { return Tile{W: c.W, H: c.H} }

// DType returns float64 if an argument is of that type, and else float32.
func (c *Custom) DType() DType {
	for _, a := range c.Args {
		if a.Type == Float64 {
			return Float64
		}
	}
	return Float32
}

// Planes returns the types of the arrays that the function writes, in their order.
func (c *Custom) Planes() (types []DType) {
	for _, a := range c.Args {
		if a.Writes() {
			types = append(types, a.Type)
		}
	}
	return types
}

// Validate returns an error that says what of c no device could compute.
func (c *Custom) Validate() error {
	if c.W < 0 || c.H < 0 || c.H > 0 && c.W > math.MaxInt64/16/c.H {
		return fmt.Errorf("an output of %d×%d elements", c.W, c.H)
	}
	if c.Columns < 0 || c.Columns > 0 && (c.W%c.Columns != 0 || !c.Rows) {
		return fmt.Errorf("planes of %d elements in rows of %d", c.W, c.Columns)
	}
	for i := range c.Group {
		if c.Group[i] < 0 || (c.Group[0] == 0) != (c.Group[i] == 0) {
			return fmt.Errorf("work-groups of %d×%d", c.Group[0], c.Group[1])
		}
	}
	if c.Items < 0 || c.Items > 0 && c.W > math.MaxInt64/c.Items {
		return fmt.Errorf("%d work-items for each of %d elements", c.Items, c.W)
	}
	for _, a := range c.Args {
		if err := a.validate(); err != nil {
			return fmt.Errorf("argument %s: %w", a.Name, err)
		}
		if c.Columns > 0 && float64(c.Columns+2*a.Halo[0])*float64(c.W/c.Columns+2*a.Halo[1])*float64(c.H+2*a.Halo[2]) > math.MaxInt64/16 {
			return fmt.Errorf("argument %s: a halo of %d×%d×%d around %d×%d elements", a.Name, a.Halo[0], a.Halo[1], a.Halo[2], c.W, c.H)
		}
		if a.Halo[2] > 0 && c.Columns == 0 && !c.Bounds().Empty() {
			return fmt.Errorf("argument %s: a halo of %d planes, in an output that has none", a.Name, a.Halo[2])
		}
		if a.Each != 0 && (a.Each < 0 || a.Role != In || c.H != 1 || a.W < 1 || (a.W-1)/a.Each != c.W-1) {
			return fmt.Errorf("argument %s: %d elements of %d for each of %d×%d", a.Name, a.Each, a.W, c.W, c.H)
		}
	}
	for _, x := range []float64{c.Tolerance.Absolute, c.Tolerance.Relative} {
		if !(x >= 0) {
			return fmt.Errorf("a tolerance of %g", x)
		}
	}
	if len(c.Planes()) == 0 {
		return fmt.Errorf("no array is written")
	}
	return nil
}

func (a Arg) validate() error {
	switch {
	case a.Role < In || a.Role > Place:
		return fmt.Errorf("unknown role %d", a.Role)
	case a.Role != Local && !a.Type.Valid():
		return fmt.Errorf("unknown type %d", a.Type)
	case a.Reads() && a.Array == nil:
		return fmt.Errorf("it has no elements")
	case a.Role == Whole && (a.W < 1 || a.H < 1 || a.W > math.MaxInt64/16/a.H):
		return fmt.Errorf("an array of %d×%d elements", a.W, a.H)
	case a.Role == Place && (a.Bits >= placeEnd || a.Type.Float()):
		return fmt.Errorf("no place")
	case a.Halo != [3]int{} && (a.Role != In || a.Each > 0):
		return fmt.Errorf("a halo, which only arrays have that are read and cut as the output is")
	case slices.Min(a.Halo[:]) < 0 || slices.Max(a.Halo[:]) > mostHalo:
		return fmt.Errorf("a halo of %d×%d×%d, where each of them is from 0 to %d", a.Halo[0], a.Halo[1], a.Halo[2], mostHalo)
	case a.Edge >= edgeEnd:
		return fmt.Errorf("unknown edge %d", a.Edge)
	case a.Role == Local && (a.Bits < 1 || a.Bits > math.MaxInt32):
		return fmt.Errorf("%d bytes of local memory", a.Bits)
	}
	return nil
}
