package main

import (
	"fmt"
	"go/types"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemm generates the functions of matrix products for one instruction set and
// element type. In the names of the literature VL is the elements of a vector,
// and the largest tile has MR rows of NR = 2·VL columns: its accumulators, a row
// of B and two elements of A fill the registers.
type gemm struct {
	*kernel
	mr int

	// edgeTable has VL lanes of ones and VL of zeros (AVX2 only).
	edgeTable Mem
}

// nv is how many vectors wide a tile is at most.
const nv = 2

func newGemm(c *build.Context, layout *types.Package, i isa, e element) *gemm {
	g := &gemm{kernel: &kernel{Context: c, isa: i, element: e, pkg: layout, lanes: i.bytes / e.bytes}, mr: 14}
	if i == avx2 {
		g.mr = 6
		g.edgeTable = g.StaticGlobal("edge" + e.name)
		g.DataAttributes(attr.RODATA | attr.NOPTR)
		for lane := range 2 * g.lanes {
			ones := ^uint64(0)
			if lane >= g.lanes {
				ones = 0
			}
			if e == f64 {
				g.AppendDatum(U64(ones))
			} else {
				g.AppendDatum(U32(ones))
			}
		}
	}
	return g
}

// all generates every function.
func (g *gemm) all() {
	g.strips()
	g.packRows()
	g.packColumns()
	g.dots()
	g.axpys()
}

// enterWith opens function name for a *structure[T] named v, and loads v.
func (g *gemm) enterWith(name, v, structure string, doc ...string) {
	g.open(name, fmt.Sprintf("func(%s *%s[%s])", v, structure, g.goName), doc...)
	g.Load(g.Param(v), reg.RDI)
}

// in returns the memory of a field of the struct that the function is given.
func (g *gemm) in(structure, field string) Mem {
	return Mem{Base: reg.RDI, Disp: g.offsetIn(structure, field)}
}

// edgeMask makes the first n lanes of a vector the ones that loadEdge and
// storeEdge touch. With AVX-512 it overwrites CX and AX, and the mask is K1;
// with AVX2 it overwrites AX, and the mask is in the register given.
func (g *gemm) edgeMask(n Mem, mask reg.VecPhysical) {
	if g.isa == avx512 {
		g.MOVQ(n, reg.RCX)
		g.MOVL(U32(1), reg.EAX)
		g.SHLL(reg.CL, reg.EAX)
		g.DECL(reg.EAX)
		g.KMOVW(reg.EAX, reg.K1)
		return
	}
	g.loadEdgeMask(n, mask)
}

// loadEdgeMask is edgeMask for AVX2, where registers are too few to keep it.
func (g *gemm) loadEdgeMask(n Mem, mask reg.VecPhysical) {
	g.LEAQ(g.edgeTable.Offset(g.isa.bytes), reg.RCX)
	g.MOVQ(n, reg.RAX)
	g.NEGQ(reg.RAX)
	g.move(Mem{Base: reg.RCX, Index: reg.RAX, Scale: uint8(g.element.bytes)}, mask)
}

// loadEdge loads the lanes of the mask; the others become 0.
func (g *gemm) loadEdge(from Mem, mask, to reg.VecPhysical) {
	switch {
	case g.isa == avx512 && g.element == f64:
		g.VMOVUPD_Z(from, reg.K1, to)
	case g.isa == avx512:
		g.VMOVUPS_Z(from, reg.K1, to)
	case g.element == f64:
		g.VMASKMOVPD(from, mask, to)
	default:
		g.VMASKMOVPS(from, mask, to)
	}
}

// mulEdge multiplies the lanes of the mask; the others become 0 (AVX-512).
func (g *gemm) mulEdge(from Mem, by, to reg.VecPhysical) {
	if g.element == f64 {
		g.VMULPD_Z(from, by, reg.K1, to)
	} else {
		g.VMULPS_Z(from, by, reg.K1, to)
	}
}

// storeEdge stores the lanes of the mask.
func (g *gemm) storeEdge(from, mask reg.VecPhysical, to Mem) {
	switch {
	case g.isa == avx512 && g.element == f64:
		g.VMOVUPD(from, reg.K1, to)
	case g.isa == avx512:
		g.VMOVUPS(from, reg.K1, to)
	case g.element == f64:
		g.VMASKMOVPD(from, mask, to)
	default:
		g.VMASKMOVPS(from, mask, to)
	}
}

// zero clears register i, of which the first 16 have an encoding that takes no unit.
func (g *gemm) zero(i int) {
	if v := g.v(i); i < 16 {
		g.VXORPS(v.AsX(), v.AsX(), v.AsX())
	} else {
		g.VPXORD(v, v, v)
	}
}

// pause generates the function that waits for a moment in a loop that spins.
func pause(c *build.Context) {
	c.Function("pause")
	c.SignatureExpr("func()")
	c.Doc("pause waits a moment, and leaves the core to its other thread.")
	c.PAUSE()
	c.RET()
}
