package opencl

import (
	_ "embed"
	"fmt"

	"github.com/gpurun/gpurun/kernels"
)

//go:embed matmul_pack.cl
var matMulPackSource string

//go:embed matmul.cl
var matMulSource string

//go:embed matmul_cpu.cl
var matMulCPUSource string

// MatMul says how to launch the kernels of matrix products in one element type:
// what the sources leave open.
type MatMul struct {
	T kernels.DType `json:"-"`

	// Rows and Cols are of the block of C that a work-group computes; they are
	// also the heights of the panels of A and B.
	Rows int `json:"rows"`
	Cols int `json:"cols"`

	// Vector is the elements of a vector: 2, 4, 8 or 16.
	Vector int `json:"vector"`

	// ItemRows and ItemCols are of the block that a work-item computes, Depth the
	// steps between two barriers, and Strip the panels of A that neighbouring
	// groups share. With Depth 0 an item is a group, and there is no local memory:
	// the form for OpenCL devices that are CPUs.
	ItemRows int `json:"item_rows,omitempty"`
	ItemCols int `json:"item_cols,omitempty"`
	Depth    int `json:"depth,omitempty"`
	Strip    int `json:"strip,omitempty"`
}

// PackSide is the side of the square of elements that a work-group of the packing
// kernel moves, and has one work-item for each of.
const PackSide = 16

// What a work-group may take, as the OpenCL of current GPUs offers it: bytes of
// local memory, and work-items.
const (
	maxLocalBytes = 48 << 10
	maxGroupItems = 256
)

// Group returns the work-items of a work-group.
func (m MatMul) Group() int {
	if m.Depth == 0 {
		return 1
	}
	return m.Rows / m.ItemRows * (m.Cols / m.ItemCols)
}

// LocalBytes returns the local memory that a work-group takes.
func (m MatMul) LocalBytes() int { return 2 * m.Depth * (m.Rows + m.Cols) * m.T.Size() }

// Fits reports whether a device has room for the work-groups, with so many bytes of
// local memory and work-items at most.
func (m MatMul) Fits(local int64, items int) bool {
	return int64(m.LocalBytes()) <= local && m.Group() <= items
}

// Check returns what is wrong with m, if anything is.
func (m MatMul) Check() error {
	if m.T != kernels.Float32 && m.T != kernels.Float64 {
		return fmt.Errorf("opencl: no matrix product in %v", m.T)
	}
	switch m.Vector {
	case 2, 4, 8, 16:
	default:
		return fmt.Errorf("opencl: a vector of %d elements: there are kernels for 2, 4, 8 and 16", m.Vector)
	}
	whole := func(n, of int) bool { return n > 0 && of > 0 && of%n == 0 }
	if m.Rows > 1024 || m.Cols > 1024 || !whole(m.Vector, m.Cols) || m.Rows <= 0 {
		return fmt.Errorf("opencl: blocks of %d×%d in vectors of %d", m.Rows, m.Cols, m.Vector)
	}
	if m.Depth == 0 {
		return nil
	}
	if !whole(m.ItemRows, m.Rows) || !whole(m.ItemCols, m.Cols) || !whole(m.Vector, m.ItemRows) || !whole(m.Vector, m.ItemCols) {
		return fmt.Errorf("opencl: items of %d×%d in blocks of %d×%d, in vectors of %d", m.ItemRows, m.ItemCols, m.Rows, m.Cols, m.Vector)
	}
	loads := m.Group() * m.Vector
	if m.Depth < 0 || m.Strip <= 0 || !whole(loads, m.Rows*m.Depth) || !whole(loads, m.Cols*m.Depth) {
		return fmt.Errorf("opencl: slabs of %d steps are not whole loads of %d items", m.Depth, m.Group())
	}
	if m.Group() > maxGroupItems || m.LocalBytes() > maxLocalBytes {
		return fmt.Errorf("opencl: %d work-items with %d bytes of local memory: at most %d and %d", m.Group(), m.LocalBytes(), maxGroupItems, maxLocalBytes)
	}
	return nil
}

func (m MatMul) real() string {
	if m.T == kernels.Float64 {
		return "double"
	}
	return "float"
}

// Multiply returns the kernel that multiplies panels. The source documents the
// arguments; both forms have the same.
func (m MatMul) Multiply() Program {
	real := m.real()
	options := fmt.Sprintf(standard+" -DREAL=%s -DROWS=%d -DCOLS=%d -DVECTOR=%d -DREALV=%s%d -DLOAD=vload%d -DSTORE=vstore%d",
		real, m.Rows, m.Cols, m.Vector, real, m.Vector, m.Vector, m.Vector)
	if m.Depth == 0 {
		return Program{Source: matMulCPUSource, Options: options, Entry: "matmul_cpu", Group: 1}
	}
	options += fmt.Sprintf(" -DDEPTH=%d -DITEM_ROWS=%d -DITEM_COLS=%d -DSTRIP=%d", m.Depth, m.ItemRows, m.ItemCols, m.Strip)
	return Program{Source: matMulSource, Options: options, Entry: "matmul", Group: m.Group()}
}

// PackA returns the kernel that packs A, and PackB that which packs B.
func (m MatMul) PackA() Program { return m.pack(m.Rows) }
func (m MatMul) PackB() Program { return m.pack(m.Cols) }

func (m MatMul) pack(panel int) Program {
	return Program{
		Source:  matMulPackSource,
		Options: fmt.Sprintf(standard+" -DREAL=%s -DPANEL=%d -DSIDE=%d", m.real(), panel, PackSide),
		Entry:   "matmul_pack",
		Group:   PackSide * PackSide,
	}
}

// String returns the launch as the tables of "gpurun tune" have it.
func (m MatMul) String() string {
	if m.Depth == 0 {
		return fmt.Sprintf("%d×%d, vectors of %d", m.Rows, m.Cols, m.Vector)
	}
	return fmt.Sprintf("%d×%d in items of %d×%d, slabs of %d, vectors of %d, strips of %d",
		m.Rows, m.Cols, m.ItemRows, m.ItemCols, m.Depth, m.Vector, m.Strip)
}
