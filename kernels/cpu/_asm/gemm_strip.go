package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// General registers of the micro-kernels. The strip is in DI.
var (
	aReg  = reg.RSI
	bReg  = reg.RDX
	cReg  = reg.RCX
	cRow  = reg.R8
	a1    = reg.R9  // aRow
	a3    = reg.R10 // 3·aRow and so on
	a5    = reg.R11
	a7    = reg.R12
	a8    = reg.R13 // aReg + 8·aRow
	bRow  = reg.R14
	bRow3 = reg.RCX // 3·bRow, where cReg is not needed
	fetch = reg.RBX // bReg + ahead
	left  = reg.RAX // products still to add
	cScan = reg.R15 // walks the rows of C, or of the next tile's
	cRow3 = reg.RBX // 3·cRow, when all products are added
)

// frame is the local variables of strips: a, b and c of the tile, how many tiles
// are still to do, this one included, and what left is after the products in
// which C is fetched.
type frame struct{ Mem }

const frameSlots = 5

func (f frame) operand(i int) Mem { return f.Offset(8 * i) }
func (f frame) tiles() Mem        { return f.Offset(24) }
func (f frame) fetched() Mem      { return f.Offset(32) }

// strips generates the function that computes a strip.
func (g *gemm) strips() {
	g.enterWith("gemmStrip", "s", "strip",
		"computes a strip, tile by tile: for i < rows and j < vectors·VL",
		"",
		"\tacc := beta * c[i*cRow+j], or 0 if fresh",
		"\tfor p := 0; p < k; p++ {",
		"\t\tacc = fma(a[i*aRow+p], b[p*bRow+j], acc)",
		"\t}",
		"\tc[i*cRow+j] = acc",
		"",
		"where aRow and the like are in bytes.")
	local := frame{g.AllocLocal(8 * frameSlots)}
	s := func(field string) Mem { return g.in("strip", field) }
	if g.isa == avx512 {
		g.edgeMask(s("edge"), nil)
	}
	for i, field := range []string{"a", "b", "c"} {
		g.MOVQ(s(field), reg.RAX)
		g.MOVQ(reg.RAX, local.operand(i))
	}
	g.MOVQ(s("count"), reg.RAX)
	g.MOVQ(reg.RAX, local.tiles())
	g.MOVQ(s("cRow"), cRow)
	g.MOVQ(s("bRow"), bRow)
	g.MOVQ(s("aRow"), a1)
	g.LEAQ(Mem{Base: a1, Index: a1, Scale: 2}, a3)
	g.LEAQ(Mem{Base: a1, Index: a1, Scale: 4}, a5)
	g.LEAQ(Mem{Base: a3, Index: a1, Scale: 4}, a7)
	g.MOVQ(s("rows"), reg.RAX)
	g.CMPQ(s("vectors"), Imm(1))
	g.JEQ(LabelRef("narrow"))
	for w := nv; w >= 1; w-- {
		if w == 1 {
			g.Label("narrow")
		}
		for h := g.mr; h > 1; h-- {
			g.CMPQ(reg.RAX, Imm(uint64(h)))
			g.JEQ(LabelRef(tile{h: h, w: w}.label("")))
		}
		g.JMP(LabelRef(tile{h: 1, w: w}.label("")))
	}
	for w := nv; w >= 1; w-- {
		for h := g.mr; h >= 1; h-- {
			g.tile(tile{g, h, w, local})
		}
	}
	g.Label("end")
	g.VZEROUPPER()
	g.RET()
}

// tile is a micro-kernel: the code for tiles of h rows and w vectors.
type tile struct {
	*gemm
	h, w  int
	frame frame
}

func (t tile) label(of string) string { return fmt.Sprintf("t%dx%d%s", t.h, t.w, of) }

// acc returns the accumulator of vector j of row i.
func (t tile) acc(i, j int) reg.VecPhysical { return t.v(i*t.w + j) }

// row returns vector j of the row of B.
func (t tile) row(j int) reg.VecPhysical { return t.v(t.mr*nv + j) }

// element returns a register for the element of A in row i.
func (t tile) element(i int) reg.VecPhysical { return t.v(t.mr*nv + nv + i%2) }

// mask is what edgeMask and its like use with AVX2, between the products.
func (t tile) mask() reg.VecPhysical { return t.v(15) }

func (g *gemm) tile(t tile) {
	g.Label(t.label(""))
	g.MOVQ(t.frame.operand(0), aReg)
	g.MOVQ(t.frame.operand(1), bReg)
	g.MOVQ(t.frame.operand(2), cReg)
	t.load()
	t.products()
	t.store()

	g.DECQ(t.frame.tiles())
	g.JZ(LabelRef("end"))
	for i, field := range []string{"aStep", "bStep", "cStep"} {
		g.MOVQ(g.in("strip", field), reg.RAX)
		g.ADDQ(reg.RAX, t.frame.operand(i))
	}
	g.JMP(LabelRef(t.label("")))
}

// load fills the accumulators with what C holds before the first product.
func (t tile) load() {
	t.CMPQ(t.in("strip", "fresh"), Imm(0))
	t.JNE(LabelRef(t.label("zero")))
	if t.isa == avx2 {
		t.MOVQ(cReg, bReg) // loadEdgeMask overwrites CX
		t.loadEdgeMask(t.in("strip", "edge"), t.mask())
		t.MOVQ(bReg, cReg)
		t.MOVQ(t.frame.operand(1), bReg)
	}
	beta := t.row(0)
	t.broadcast(t.in("strip", "beta"), beta)
	t.MOVQ(cReg, cScan)
	for i := range t.h {
		for j := range t.w {
			from := Mem{Base: cScan, Disp: j * t.isa.bytes}
			switch {
			case j < t.w-1:
				t.mul(from, beta, t.acc(i, j))
			case t.isa == avx512:
				t.mulEdge(from, beta, t.acc(i, j))
			default:
				t.loadEdge(from, t.mask(), t.acc(i, j))
				t.mul(t.acc(i, j), beta, t.acc(i, j))
			}
		}
		if i < t.h-1 {
			t.ADDQ(cRow, cScan)
		}
	}
	t.JMP(LabelRef(t.label("ready")))
	t.Label(t.label("zero"))
	for i := range t.h * t.w {
		t.zero(i)
	}
	t.Label(t.label("ready"))
}

// products adds the k products to each accumulator, in their order. Meanwhile it
// fetches the memory of the next tile of C, which is needed at once when that
// tile's turn comes.
func (t tile) products() {
	label, unroll := t.label, t.unroll()
	if t.h > 8 {
		t.LEAQ(Mem{Base: aReg, Index: a1, Scale: 8}, a8)
	}
	t.MOVQ(bReg, fetch)
	t.ADDQ(t.in("strip", "ahead"), fetch)
	t.MOVQ(t.in("strip", "k"), left)
	t.CMPQ(t.in("strip", "far"), Imm(0))
	t.JEQ(LabelRef(label("near")))
	t.MOVQ(t.in("strip", "cStep"), cScan)
	t.ADDQ(cReg, cScan)
	if unroll > 1 {
		t.LEAQ(Mem{Base: bRow, Index: bRow, Scale: 2}, bRow3)
		t.fetchingLoop(unroll)
	}
	t.fetchAtOnce()
	t.Label(label("near"))
	if unroll > 1 {
		t.LEAQ(Mem{Base: bRow, Index: bRow, Scale: 2}, bRow3)
		t.Label(label("plain"))
		t.SUBQ(Imm(uint64(unroll)), left)
		t.JL(LabelRef(label("rest")))
		t.Label(label("loop"))
		for u := range unroll {
			t.product(u)
		}
		t.advance(unroll)
		t.SUBQ(Imm(uint64(unroll)), left)
		t.JGE(LabelRef(label("loop")))
		t.Label(label("rest"))
		t.ADDQ(Imm(uint64(unroll)), left)
		t.JZ(LabelRef(label("store")))
	}
	t.Label(label("one"))
	t.product(0)
	t.advance(1)
	t.DECQ(left)
	t.JNZ(LabelRef(label("one")))
	t.Label(label("store"))
}

// fetchingLoop adds the first products, unroll of them for each row of the next
// tile, which is fetched row by row: all at once would keep the fetches of A and B
// waiting. Where there are fewer products it does nothing.
func (t tile) fetchingLoop(unroll int) {
	last := t.w*t.isa.bytes - 1 // rows of C need not begin at a cache line
	t.MOVQ(left, t.frame.fetched())
	t.SUBQ(U32(uint32(t.h*unroll)), t.frame.fetched())
	t.JL(LabelRef(t.label("short")))
	t.Label(t.label("fetching"))
	for u := range unroll {
		t.product(u)
		if u == 0 {
			t.fetchRow(last)
		}
	}
	t.advance(unroll)
	t.SUBQ(Imm(uint64(unroll)), left)
	t.CMPQ(left, t.frame.fetched())
	t.JNE(LabelRef(t.label("fetching")))
	t.JMP(LabelRef(t.label("plain")))
	t.Label(t.label("short"))
}

// fetchAtOnce fetches the next tile of C.
func (t tile) fetchAtOnce() {
	t.MOVQ(U32(uint32(t.h)), cReg)
	t.Label(t.label("fetch"))
	t.fetchRow(t.w*t.isa.bytes - 1)
	t.DECQ(cReg)
	t.JNZ(LabelRef(t.label("fetch")))
}

// fetchRow fetches the row of C at cScan, whose last byte is the one given, and
// moves on to the next.
func (t tile) fetchRow(last int) {
	for line := 0; line < last; line += 64 {
		t.PREFETCHT0(Mem{Base: cScan, Disp: line})
	}
	t.PREFETCHT0(Mem{Base: cScan, Disp: last})
	t.ADDQ(cRow, cScan)
}

// unroll returns how many products share the instructions of a loop, which
// would take slots, and ports, away from the largest tiles' additions.
func (t tile) unroll() int {
	if t.w == nv && 2*t.h > t.mr {
		return 4
	}
	return 1
}

// advance moves the pointers on by so many products.
func (t tile) advance(products int) {
	t.LEAQ(Mem{Base: bReg, Index: bRow, Scale: uint8(products)}, bReg)
	t.LEAQ(Mem{Base: fetch, Index: bRow, Scale: uint8(products)}, fetch)
	t.ADDQ(Imm(uint64(products*t.kernel.element.bytes)), aReg)
	if t.h > 8 {
		t.ADDQ(Imm(uint64(products*t.kernel.element.bytes)), a8)
	}
}

// product adds the u-th product behind the pointers.
func (t tile) product(u int) {
	for j := range t.w {
		t.move(rowOfB(bReg, u, j*t.isa.bytes), t.row(j))
	}
	for line := 0; line < t.w*t.isa.bytes; line += 64 {
		t.PREFETCHT0(rowOfB(fetch, u, line))
	}
	for i := range t.h {
		t.broadcast(t.fromA(i, u), t.element(i))
		for j := range t.w {
			t.fma231(t.row(j), t.element(i), t.acc(i, j))
		}
	}
}

// rowOfB returns the memory disp bytes into row u ≤ 3 behind a pointer into B.
func rowOfB(base reg.GPPhysical, u, disp int) Mem {
	switch u {
	case 0:
		return Mem{Base: base, Disp: disp}
	case 3:
		return Mem{Base: base, Index: bRow3, Scale: 1, Disp: disp}
	}
	return Mem{Base: base, Index: bRow, Scale: uint8(u), Disp: disp}
}

// fromA returns the memory of element (i, u) of A behind the pointers.
func (t tile) fromA(i, u int) Mem {
	size := t.kernel.element.bytes
	base := aReg
	// 9, 11 and 13 rows are out of reach of one base; 8 and more use a8 alike.
	if i >= 8 {
		base, i = a8, i-8
	}
	m := Mem{Base: base, Disp: u * size}
	switch i {
	case 0:
	case 1, 2, 4:
		m.Index, m.Scale = a1, uint8(i)
	case 3, 6:
		m.Index, m.Scale = a3, uint8(i/3)
	case 5:
		m.Index, m.Scale = a5, 1
	case 7:
		m.Index, m.Scale = a7, 1
	}
	return m
}

// store writes the tile to C.
func (t tile) store() {
	if t.isa == avx2 {
		t.loadEdgeMask(t.in("strip", "edge"), t.mask())
	}
	t.MOVQ(t.frame.operand(2), cReg)
	if t.h > 3 {
		t.LEAQ(Mem{Base: cRow, Index: cRow, Scale: 2}, cRow3)
	}
	for i := range t.h {
		to := Mem{Base: cReg}
		switch i % 4 {
		case 1, 2:
			to.Index, to.Scale = cRow, uint8(i%4)
		case 3:
			to.Index, to.Scale = cRow3, 1
		}
		for j := range t.w {
			to.Disp = j * t.isa.bytes
			if j == t.w-1 {
				t.storeEdge(t.acc(i, j), t.mask(), to)
			} else {
				t.move(t.acc(i, j), to)
			}
		}
		if i%4 == 3 && i < t.h-1 {
			t.LEAQ(Mem{Base: cReg, Index: cRow, Scale: 4}, cReg)
		}
	}
}
