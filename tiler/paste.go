package tiler

import (
	"fmt"

	"github.com/gpurun/gpurun/kernels"
)

// Paste copies packed, the elements of t row by row, to their places in
// plane, which is planeW elements wide and row-major. An element takes elem
// bytes. Nothing outside t is written, so tiles that do not overlap may be
// pasted at the same time.
//
// It panics if packed has not the size of t or if t is not inside plane:
// tiles come from the tiler and sizes from the job, so this is a bug in the
// program and no condition that a caller could handle.
func Paste(plane []byte, planeW int, t kernels.Tile, packed []byte, elem int) {
	check("Paste", plane, planeW, t, packed, elem)
	row := t.W * elem
	for y := range t.H {
		at := ((t.Y+y)*planeW + t.X) * elem
		copy(plane[at:at+row], packed[y*row:])
	}
}

// Cut copies the elements of t out of plane into packed: the inverse of
// Paste, with the same layout of the arguments and the same panics.
func Cut(packed []byte, t kernels.Tile, plane []byte, planeW, elem int) {
	check("Cut", plane, planeW, t, packed, elem)
	row := t.W * elem
	for y := range t.H {
		at := ((t.Y+y)*planeW + t.X) * elem
		copy(packed[y*row:(y+1)*row], plane[at:])
	}
}

func check(op string, plane []byte, planeW int, t kernels.Tile, packed []byte, elem int) {
	if elem < 1 || planeW < 0 || t.W < 0 || t.H < 0 {
		panic(fmt.Sprintf("tiler: %s of tile %v, %d bytes an element, in a plane %d wide", op, t, elem, planeW))
	}
	if len(packed) != t.Area()*elem {
		panic(fmt.Sprintf("tiler: %s of tile %v needs %d packed bytes, not %d", op, t, t.Area()*elem, len(packed)))
	}
	if t.Empty() {
		return
	}
	if t.X < 0 || t.Y < 0 || t.X+t.W > planeW || (t.Y+t.H)*planeW*elem > len(plane) {
		panic(fmt.Sprintf("tiler: %s of tile %v is outside a plane %d wide of %d bytes", op, t, planeW, len(plane)))
	}
}
