package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectors is how many vector registers of lanes are advanced together. A step
// is a chain of 2 × 2 dependent operations on x and y, of 4 cycles each, and
// four independent chains keep two FMA units busy.
const vectors = 4

// isa is an instruction set.
type isa struct {
	name  string
	bytes int // of a vector register
}

var (
	avx512 = isa{"AVX512", 64}
	avx2   = isa{"AVX2", 32}
)

// element is the type of the arithmetic.
type element struct {
	name, goName string
	bytes        int
}

var (
	f32 = element{"F32", "float32", 4}
	f64 = element{"F64", "float64", 8}
)

// readLayout type-checks the files that declare what the assembly is given.
func readLayout(names ...string) (*types.Package, error) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return new(types.Config).Check("cpu", fset, files, nil)
}

// kernel generates the functions for one instruction set and element type.
//
// The lanes are worked on in chunks of four vectors. While a chunk is worked
// on, the general registers hold
//
//	l                 the lanes
//	wide              l plus the chunk's offset in the arrays of T
//	narrow            l plus the chunk's offset in the arrays of 4-byte elements
//	mask              l plus the chunk's offset in alive
//	chunks            how many chunks are left, this one included
type kernel struct {
	*build.Context
	isa
	element
	pkg   *types.Package
	lanes int // in a vector register

	l, wide, narrow, mask, chunks reg.GPPhysical

	laneBits Mem // AVX2 only
	frame    Mem // AVX2 only: the masks, see mask.go
}

// newKernel returns the generator whose code goes into c.
func newKernel(c *build.Context, layout *types.Package, i isa, e element) *kernel {
	k := &kernel{
		Context: c, isa: i, element: e, pkg: layout,
		lanes: i.bytes / e.bytes,
		l:     reg.RDI, wide: reg.RSI, narrow: reg.RBX, mask: reg.RDX, chunks: reg.RCX,
	}
	if i == avx2 {
		k.laneBits = k.laneBitTable()
	}
	return k
}

// function opens the function name of lanes with the given further parameters.
func (k *kernel) function(name, params string, doc ...string) {
	k.open(name, fmt.Sprintf("func(l *lanes[%s]%s)", k.goName, params), doc...)
}

// open opens the function name, for the kernel's instruction set and type.
func (k *kernel) open(name, signature string, doc ...string) {
	k.Function(name + k.isa.name + k.element.name)
	sig, err := gotypes.ParseSignatureInPackage(k.pkg, signature)
	if err != nil {
		panic(err)
	}
	k.Signature(sig)
	doc[0] = name + k.isa.name + k.element.name + " " + doc[0]
	k.Doc(doc...)
	k.Pragma("noescape")
}

// enter loads the parameter l and points at its first chunk.
func (k *kernel) enter() {
	k.Load(k.Param("l"), k.l)
	k.MOVQ(k.l, k.wide)
	k.MOVQ(k.l, k.narrow)
	k.MOVQ(k.l, k.mask)
	k.MOVQ(U32(k.groupSize()/(vectors*k.lanes)), k.chunks)
}

// leave moves on to the next chunk, at label, or returns after the last.
func (k *kernel) leave(label string, last func()) {
	k.ADDQ(U32(vectors*k.isa.bytes), k.wide)
	k.ADDQ(U32(vectors*k.lanes*4), k.narrow)
	k.ADDQ(U32(vectors*k.lanes/8), k.mask)
	k.DECQ(k.chunks)
	k.JNZ(LabelRef(label))
	last()
	k.VZEROUPPER()
	k.RET()
}

// offset returns where a field of lanes is.
func (k *kernel) offset(field string) int { return k.offsetIn("lanes", field) }

// offsetIn returns where a field of a struct is.
func (k *kernel) offsetIn(name, field string) int {
	s := k.layout(name)
	for i := range s.NumFields() {
		if s.Field(i).Name() == field {
			return int(gotypes.Sizes.Offsetsof(fields(s))[i])
		}
	}
	panic(name + " has no field " + field)
}

// groupSize returns how many lanes there are.
func (k *kernel) groupSize() int {
	return int(k.layout("lanes").Field(0).Type().(*types.Array).Len())
}

// layout returns a struct for the kernel's element type.
func (k *kernel) layout(name string) *types.Struct {
	tv, err := types.Eval(token.NewFileSet(), k.pkg, token.NoPos, fmt.Sprintf("%s[%s]", name, k.goName))
	if err != nil {
		panic(err)
	}
	return tv.Type.Underlying().(*types.Struct)
}

func fields(s *types.Struct) []*types.Var {
	out := make([]*types.Var, s.NumFields())
	for i := range out {
		out[i] = s.Field(i)
	}
	return out
}

// scalar returns the memory of a field that is not an array.
func (k *kernel) scalar(field string) Mem {
	return Mem{Base: k.l, Disp: k.offset(field)}
}

// vector returns the memory of vector i of the chunk in an array of T.
func (k *kernel) vector(field string, i int) Mem {
	return Mem{Base: k.wide, Disp: k.offset(field) + i*k.isa.bytes}
}

// half returns the memory of the lanes of vector i in an array of 4-byte
// elements.
func (k *kernel) half(field string, i int) Mem {
	return Mem{Base: k.narrow, Disp: k.offset(field) + i*k.lanes*4}
}

// v returns vector register i of the full width.
func (k *kernel) v(i int) reg.VecPhysical {
	if k.isa == avx512 {
		return zmm[i]
	}
	return ymm[i]
}

var (
	zmm = []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}
	ymm = []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
	opmask = []reg.OpmaskPhysical{reg.K0, reg.K1, reg.K2, reg.K3, reg.K4, reg.K5, reg.K6, reg.K7}
)
