package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// packRows generates the function that packs an operand whose rows are made of the
// rows of panels. It reads memory straight on if srcStep is a row of the operand, and
// what it fetches meanwhile is the next row.
func (g *gemm) packRows() {
	g.enterWith("packRows", "p", "packing",
		"copies, for q < count, r < k and i < vectors·VL,",
		"",
		"\tdst[q*dstStep+r*dstRow+i] = alpha * src[q*srcStep+r*row+i]",
		"",
		"with srcStep and the like in bytes. What is behind edge becomes 0.")
	f := func(field string) Mem { return g.in("packing", field) }
	var (
		src, dst, row, k, count = reg.RSI, reg.RDX, reg.R8, reg.R9, reg.R10
		from, to, left, dstRow  = reg.R11, reg.R12, reg.RBX, reg.R13
		next                    = reg.R14
		alpha, mask             = g.v(4), g.v(5)
	)
	g.edgeMask(f("edge"), mask)
	g.broadcast(f("alpha"), alpha)
	g.MOVQ(f("src"), src)
	g.MOVQ(f("dst"), dst)
	g.MOVQ(f("row"), row)
	g.MOVQ(f("srcStep"), next)
	g.MOVQ(f("dstRow"), dstRow)
	g.MOVQ(f("k"), k)
	g.MOVQ(f("count"), count)
	for w := nv; w >= 1; w-- {
		panel, loop := "panel", "row"
		if w == 1 {
			panel, loop = "narrow", "narrowRow"
		} else {
			g.CMPQ(f("vectors"), Imm(1))
			g.JEQ(LabelRef("narrow"))
		}
		g.Label(panel)
		g.MOVQ(src, from)
		g.MOVQ(dst, to)
		g.MOVQ(k, left)
		g.Label(loop)
		for line := 0; line < w*g.isa.bytes; line += 64 {
			g.PREFETCHT0(Mem{Base: from, Index: next, Scale: 1, Disp: line})
		}
		for j := range w {
			at := Mem{Base: from, Disp: j * g.isa.bytes}
			if j == w-1 {
				g.loadEdge(at, mask, g.v(j))
			} else {
				g.move(at, g.v(j))
			}
			g.mul(g.v(j), alpha, g.v(j))
			g.move(g.v(j), Mem{Base: to, Disp: j * g.isa.bytes})
		}
		g.ADDQ(row, from)
		g.ADDQ(dstRow, to)
		g.DECQ(left)
		g.JNZ(LabelRef(loop))
		g.ADDQ(next, src)
		g.ADDQ(f("dstStep"), dst)
		g.DECQ(count)
		g.JNZ(LabelRef(panel))
		g.VZEROUPPER()
		g.RET()
	}
}

// packColumns generates the function that packs an operand whose columns become
// the rows of a panel.
func (g *gemm) packColumns() {
	g.enterWith("packColumns", "p", "packing",
		"copies, for row < k and i < VL,",
		"",
		"\tdst[row*dstRow+i] = alpha * from[i][row]",
		"",
		"with dstRow in bytes.")
	var (
		dst, dstRow, left, offset = reg.RSI, reg.RDX, reg.R8, reg.R9
		alpha                     = g.last(0)
	)
	g.broadcast(g.in("packing", "alpha"), alpha)
	g.MOVQ(g.in("packing", "dst"), dst)
	g.MOVQ(g.in("packing", "dstRow"), dstRow)
	g.MOVQ(g.in("packing", "k"), left)
	g.XORQ(offset, offset)
	g.Label("block")
	g.transpose(g.in("packing", "from"), offset, func(v reg.VecPhysical) {
		g.mul(v, alpha, v)
		g.move(v, Mem{Base: dst})
		g.ADDQ(dstRow, dst)
	})
	g.ADDQ(U32(g.isa.bytes), offset)
	g.SUBQ(U32(g.lanes), left)
	g.JNZ(LabelRef("block"))
	g.VZEROUPPER()
	g.RET()
}

// transpose loads a vector at offset from each of the VL pointers in table, and
// gives use the columns of this square one by one, in order. It overwrites AX,
// BX, CX and R15.
//
// The parts of 16 bytes are put in their places by the loads; what is left are
// transpositions within the parts, which takes fewer shuffles, of which
// processors do one in a cycle, than transposing whole vectors.
func (g *gemm) transpose(table Mem, offset reg.GPPhysical, use func(v reg.VecPhysical)) {
	const ahead = 512            // bytes that are fetched before they are needed
	side := 16 / g.element.bytes // of the square in a part
	parts := g.isa.bytes / 16
	pointers := []reg.GPPhysical{reg.RAX, reg.RBX, reg.RCX, reg.R15}
	// v(r*side+q) has in its parts the elements r·side and on of the rows q,
	// q+side, q+2·side and so on.
	for q := range side {
		for l := range parts {
			g.MOVQ(table.Offset(8*(l*side+q)), pointers[l])
			g.PREFETCHT0(Mem{Base: pointers[l], Index: offset, Scale: 1, Disp: ahead})
		}
		for r := range parts {
			v := g.v(r*side + q)
			for l := range parts {
				g.part(l, Mem{Base: pointers[l], Index: offset, Scale: 1, Disp: 16 * r}, v)
			}
		}
	}
	for r := range parts {
		square := make([]reg.VecPhysical, side)
		for q := range square {
			square[q] = g.v(r*side + q)
		}
		for _, v := range g.transposeParts(square) {
			use(v)
		}
	}
}

// part loads 16 bytes into part l of v; l = 0 clears the others.
func (g *gemm) part(l int, from Mem, v reg.VecPhysical) {
	switch {
	case l == 0:
		g.VMOVUPS(from, v.AsX())
	case g.isa == avx512:
		g.VINSERTF32X4(Imm(uint64(l)), from, v, v)
	default:
		g.VINSERTF128(Imm(uint64(l)), from, v, v)
	}
}

// transposeParts transposes each part of 16 bytes of the rows given. With four
// rows it uses four more registers.
func (g *gemm) transposeParts(rows []reg.VecPhysical) []reg.VecPhysical {
	if len(rows) == 2 {
		t := g.spare(0)
		g.VUNPCKHPD(rows[1], rows[0], t)
		g.VUNPCKLPD(rows[1], rows[0], rows[0])
		return []reg.VecPhysical{rows[0], t}
	}
	t0, t1, t2, t3 := g.spare(0), g.spare(1), g.spare(2), g.spare(3)
	g.VUNPCKLPS(rows[1], rows[0], t0)
	g.VUNPCKHPS(rows[1], rows[0], t1)
	g.VUNPCKLPS(rows[3], rows[2], t2)
	g.VUNPCKHPS(rows[3], rows[2], t3)
	g.VUNPCKLPD(t2, t0, rows[0])
	g.VUNPCKHPD(t2, t0, rows[1])
	g.VUNPCKLPD(t3, t1, rows[2])
	g.VUNPCKHPD(t3, t1, rows[3])
	return rows
}

// spare returns registers that hold no rows in transpose.
func (g *gemm) spare(i int) reg.VecPhysical {
	if g.isa == avx512 {
		return g.v(16 + i)
	}
	return g.v(8 + i)
}
