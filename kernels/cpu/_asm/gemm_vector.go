package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dots generates the function for results that are sums along rows. The rows
// are transposed in registers, so that each sum has a lane of its own and is
// added up in order.
func (g *gemm) dots() {
	g.enterWith("gemvDots", "d", "dots",
		"computes, for i < VL,",
		"",
		"\tfor p := 0; p < k; p++ {",
		"\t\tsums[i] = fma(alpha*from[i][p], x[p], sums[i])",
		"\t}",
		"",
		"where whole vectors may be read at from[i] even if k is no multiple of VL.")
	f := func(field string) Mem { return g.in("dots", field) }
	var (
		x, left, offset = reg.RSI, reg.R8, reg.R9
		alpha, sum, xs  = g.last(0), g.last(1), g.last(2)
	)
	g.broadcast(f("alpha"), alpha)
	g.move(f("sums"), sum)
	g.MOVQ(f("x"), x)
	g.MOVQ(f("k"), left)
	g.XORQ(offset, offset)
	add := func(v reg.VecPhysical, column int) {
		g.mul(v, alpha, v)
		g.broadcast(Mem{Base: x, Disp: column * g.element.bytes}, xs)
		g.fma231(v, xs, sum)
	}

	g.SUBQ(U32(g.lanes), left)
	g.JL(LabelRef("rest"))
	g.Label("block")
	column := 0
	g.transpose(f("from"), offset, func(v reg.VecPhysical) {
		add(v, column)
		column++
	})
	g.ADDQ(U32(g.isa.bytes), offset)
	g.ADDQ(U32(g.isa.bytes), x)
	g.SUBQ(U32(g.lanes), left)
	g.JGE(LabelRef("block"))

	g.Label("rest")
	g.ADDQ(U32(g.lanes), left)
	g.JZ(LabelRef("end"))
	column = 0
	g.transpose(f("from"), offset, func(v reg.VecPhysical) {
		add(v, column)
		g.DECQ(left)
		g.JZ(LabelRef("end"))
		column++
	})
	g.Label("end")
	g.move(sum, f("sums"))
	g.VZEROUPPER()
	g.RET()
}

// axpyRows is how many rows are added in one pass over the sums.
const axpyRows = 8

// axpyWidth is how many vectors of sums are worked on together: their chains of
// dependent additions are independent of each other.
const axpyWidth = 4

// axpys generates the function for results that are sums along columns.
func (g *gemm) axpys() {
	g.enterWith("gemvAxpys", "y", "axpys",
		"computes, for j < n,",
		"",
		"\tfor p := 0; p < rows; p++ {",
		"\t\ty[j] = fma(x[p], alpha*m[p*row+j], y[j])",
		"\t}",
		"",
		"with row in bytes.")
	f := func(field string) Mem { return g.in("axpys", field) }
	g.MOVQ(f("row"), a1)
	g.LEAQ(Mem{Base: a1, Index: a1, Scale: 2}, a3)
	g.LEAQ(Mem{Base: a1, Index: a1, Scale: 4}, a5)
	g.LEAQ(Mem{Base: a3, Index: a1, Scale: 4}, a7)
	g.MOVQ(f("m"), aReg)
	g.MOVQ(f("y"), bReg)
	g.MOVQ(f("n"), reg.RBX)
	g.MOVQ(f("rows"), reg.RAX)
	for h := axpyRows; h > 1; h-- {
		g.CMPQ(reg.RAX, Imm(uint64(h)))
		g.JEQ(LabelRef(fmt.Sprint("rows", h)))
	}
	for h := 1; h <= axpyRows; h++ {
		g.axpysOf(h)
	}
	g.Label("end")
	g.VZEROUPPER()
	g.RET()
}

// axpysOf is axpys for h rows.
func (g *gemm) axpysOf(h int) {
	left := reg.RBX
	label := func(of string) string { return fmt.Sprint("rows", h, of) }
	x := func(p int) Op { return g.v(axpyWidth + 1 + p) }
	alpha, element := g.last(0), g.v(axpyWidth)
	g.Label(label(""))
	g.broadcast(g.in("axpys", "alpha"), alpha)
	for p := range h {
		g.broadcast(g.in("axpys", "x").Offset(p*g.element.bytes), x(p))
	}
	vectors := func(w int) {
		for j := range w {
			g.move(Mem{Base: bReg, Disp: j * g.isa.bytes}, g.v(j))
		}
		for p := range h {
			for j := range w {
				g.mul(g.rowAt(p, j*g.isa.bytes), alpha, element)
				g.fma231(element, x(p), g.v(j))
			}
		}
		for j := range w {
			g.move(g.v(j), Mem{Base: bReg, Disp: j * g.isa.bytes})
		}
		g.ADDQ(U32(w*g.isa.bytes), aReg)
		g.ADDQ(U32(w*g.isa.bytes), bReg)
		g.SUBQ(U32(w*g.lanes), left)
	}
	for _, w := range []int{axpyWidth, 1} {
		loop, done := label(fmt.Sprint("by", w)), label(fmt.Sprint("not", w))
		g.CMPQ(left, U32(w*g.lanes))
		g.JL(LabelRef(done))
		g.Label(loop)
		vectors(w)
		g.CMPQ(left, U32(w*g.lanes))
		g.JGE(LabelRef(loop))
		g.Label(done)
	}
	g.TESTQ(left, left)
	g.JZ(LabelRef("end"))
	g.MOVQ(left, g.in("axpys", "n"))
	mask, sum := g.v(axpyWidth-1), g.v(0)
	g.edgeMask(g.in("axpys", "n"), mask)
	g.loadEdge(Mem{Base: bReg}, mask, sum)
	for p := range h {
		g.loadEdge(g.rowAt(p, 0), mask, element)
		g.mul(element, alpha, element)
		g.fma231(element, x(p), sum)
	}
	g.storeEdge(sum, mask, Mem{Base: bReg})
	g.JMP(LabelRef("end"))
}

// rowAt returns the memory disp bytes into row p < 8 behind aReg.
func (g *gemm) rowAt(p, disp int) Mem {
	m := tile{gemm: g}.fromA(p, 0)
	m.Disp = disp
	return m
}
