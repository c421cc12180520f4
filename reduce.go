package gpurun

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gpurun/gpurun/kernels"
)

// Reduction is a sum of a kind over arrays, of elements of type T: Map makes a T of the
// elements of the arrays at one place, and Reduce one of two. For example
//
//	dot := &gpurun.Reduction[float64]{Neutral: "0", Map: "x * y", Reduce: "a + b"}
//	sum, err := gpurun.Reduce(ctx, engine, dot, gpurun.In("x", x), gpurun.In("y", y))
//
// is a scalar product. Neutral, Map and Reduce are expressions in OpenCL C. Map has the
// elements of In arguments, Values and Whole arguments by their names, and i, the place, of the
// type long; Reduce has a and b. An argument cannot have these names, nor tile_x, tile_y or tile_w.
//
// The order is fixed, so that the bits are the same on all devices, however the arrays are cut,
// where the expressions' are. Of each 4096 elements in turn, lane l of 64 starts with Neutral and
// takes the elements l, l+64, l+128 …: lane = Reduce(lane, Map(element)). Then lane l takes lane
// l+32, for l below 32, and so on with 16, 8, 4, 2 and 1. Of what comes of each 4096 elements the
// same is made, until one is left.
type Reduction[T Number] struct {
	Neutral, Map, Reduce string

	// CPU is the same in Go, or nil.
	CPU *ReductionCPU[T]

	// Tolerance is that of what is made of each 4096 elements: see Kernel.
	Tolerance Tolerance

	name string // that CPU is registered as, if it is
}

// ReductionCPU is a Reduction in Go. Its functions may be called by several goroutines at
// once.
type ReductionCPU[T Number] struct {
	Neutral T

	// Map puts what is made of each element of p into to. p.Bounds has the places of the
	// elements as columns.
	Map func(p *Part, to []T) error

	Reduce func(a, b T) T
}

const (
	// reduceBlock elements become one, by reduceLanes lanes.
	reduceBlock = 4096
	reduceLanes = 64
)

// reduction is what a Reduction is as a Kernel that makes one element of each block.
type reduction struct {
	typ                  kernels.DType
	neutral, mapped, two string
	block                int // a multiple of reduceLanes
}

// The names that a reduction's kernel has for itself.
const (
	reduce       = "reduce"
	reduceOutput = "partial" + generated
	reduceCount  = "count" + generated
)

// reductionNames cannot be those of arguments, beside those of OpenCL C.
var reductionNames = []string{"i", "a", "b", "tile_x", "tile_y", "tile_w"}

// Reduce computes r of args, which are In, Whole and Value, on the devices of the engine. Of
// arrays without elements it is Neutral. The errors are those of Run. Engine.Report is of the
// arrays, without what little is left then.
func Reduce[T Number](ctx context.Context, e *Engine, r *Reduction[T], args ...Argument) (result T, err error) {
	var report *Report
	for {
		partials, err := reduceBlocks(ctx, e, r, reduceBlock, args)
		if report == nil {
			report = e.Report()
		}
		if err != nil {
			return result, err
		}
		if len(partials) == 1 {
			e.setReport(report)
			return partials[0], nil
		}
		args = []Argument{In(reducedName, partials)}
		r = r.later()
	}
}

// reduceBlocks makes one element of each block of args, and one of nothing.
func reduceBlocks[T Number](ctx context.Context, e *Engine, r *Reduction[T], block int, args []Argument) ([]T, error) {
	n, err := reducedElements(args)
	if err != nil {
		return nil, err
	}
	partials := make([]T, max(1, (n+block-1)/block))
	args = slices.Clone(args)
	for i := range args {
		if n == 0 && args[i].role == kernels.In { // nobody looks at it
			args[i].data, args[i].count = make([]byte, args[i].typ.Size()), 1
		}
	}
	k := &Kernel{
		reduction: &reduction{kernels.TypeOf[T](), r.Neutral, r.Map, r.Reduce, block},
		CPU:       r.CPU.blocks(block), Tolerance: r.Tolerance, name: r.name,
	}
	if block == scanBlock && r.name != "" {
		k.name += ofTotals
	}
	return partials, e.Run(ctx, k, append(args, Value(reduceCount, int64(n)), Out(reduceOutput, partials))...)
}

// later returns what is made of what r has made of each block.
func (r *Reduction[T]) later() *Reduction[T] {
	again := *r
	again.Map, again.CPU = reducedName, r.CPU.later()
	if r.name != "" && !strings.HasSuffix(r.name, laterRounds) {
		again.name += laterRounds
	}
	return &again
}

// reducedName is what is left after a round is called in the next.
const reducedName = "left" + generated

// setReport makes r the report of the last job.
func (e *Engine) setReport(r *Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report = r
}

// reducedElements returns how many elements the arrays have that are reduced.
func reducedElements(args []Argument) (n int, err error) {
	var first *Argument
	for i, a := range args {
		switch {
		case a.role == kernels.Out || a.role == kernels.InOut || a.role == sizeRole || a.role == kernels.Local:
			return 0, kernelError("a reduction has no use for %s: its arguments are In, Whole and Value", a.name)
		case a.path != "":
			return 0, kernelError("a reduction takes arrays in memory, and %s is in a file", a.name)
		case a.text != "":
			return 0, kernelError("a reduction takes numbers that have a type, and %s is a Text: make it a Value", a.name)
		case a.role != kernels.In:
		case a.halo != [3]int{}:
			return 0, kernelError("a reduction takes arrays without a halo, and %s has one", a.name)
		case first == nil:
			first = &args[i]
		case a.count != first.count:
			return 0, kernelError("%s has %d elements, and %s has %d: they must have as many, or be Whole", a.name, a.count, first.name, first.count)
		}
	}
	if first == nil {
		return 0, kernelError("none of its arguments is In: there is nothing to reduce")
	}
	return first.count, nil
}

// later returns r for what it has made of each block; nil if r is.
func (r *ReductionCPU[T]) later() *ReductionCPU[T] {
	if r == nil {
		return nil
	}
	again := *r
	again.Map = func(p *Part, to []T) error { copy(to, Elements[T](p, reducedName)); return nil }
	return &again
}

// blocks returns r as what Kernel.CPU is, with blocks of so many elements; nil if r is.
func (r *ReductionCPU[T]) blocks(size int) func(p *Part) error {
	if r == nil {
		return nil
	}
	return func(p *Part) error {
		n := int(ValueOf[int64](p, reduceCount))
		partials := Elements[T](p, reduceOutput)
		values := make([]T, min(size, n))
		for i := range partials {
			from := (p.part.Tile.X + i) * size
			values = values[:min(size, n-from)]
			if err := r.Map(p.line(from, i*size, len(values)), values); err != nil {
				return err
			}
			partials[i] = r.block(values)
		}
		return nil
	}
}

// line returns the part of n elements of p from the one on that is at in its arrays, and at the place
// from in the whole.
func (p *Part) line(from, at, n int) *Part {
	one := &Part{p.job, kernels.Part{Tile: kernels.Tile{X: from, W: n, H: 1}, Data: slices.Clone(p.part.Data)}}
	for k, a := range p.job.Args {
		if a.Role == kernels.In {
			size := a.Type.Size()
			one.part.Data[k] = p.part.Data[k][at*size:][:n*size]
		}
	}
	return one
}

// block reduces up to reduceBlock values.
func (r *ReductionCPU[T]) block(values []T) T {
	var lanes [reduceLanes]T
	for l := range lanes {
		lanes[l] = r.Neutral
	}
	for i, v := range values {
		lanes[i%reduceLanes] = r.Reduce(lanes[i%reduceLanes], v)
	}
	for step := reduceLanes / 2; step > 0; step /= 2 {
		for l := range step {
			lanes[l] = r.Reduce(lanes[l], lanes[l+step])
		}
	}
	return lanes[0]
}

// mapped returns the parameters of a kernel that has args, and what gives Map those that have an
// element at a place, which is the one that at_gpurun says.
func mapped(args []Argument) (params, before []string, err error) {
	for _, a := range args {
		typ, ours := a.typ.OpenCL(), strings.HasSuffix(a.name, generated)
		if !ours {
			if err := checkName(a.name, reductionNames...); err != nil {
				return nil, nil, err
			}
		}
		switch a.role {
		case kernels.In:
			params = append(params, fmt.Sprintf("global const %s *restrict %s%s", typ, a.name, generated))
			before = append(before, fmt.Sprintf("const %s %s = %s%s[at%s];", typ, a.name, a.name, generated, generated))
		case kernels.Whole:
			params = append(params, fmt.Sprintf("global const %s *restrict %s", typ, a.name))
		case kernels.Out:
			params = append(params, fmt.Sprintf("global %s *restrict %s", typ, a.name))
		default:
			params = append(params, fmt.Sprintf("const %s %s", typ, a.name))
		}
	}
	return params, before, nil
}

// combination returns the function that makes one element of two.
func (r *reduction) combination() string {
	return fmt.Sprintf("%[1]s two%[2]s(const %[1]s a, const %[1]s b)\n{\n#line 1 \"Reduce\"\nreturn (%[3]s);\n}\n", r.typ.OpenCL(), generated, r.two)
}

// check returns an error if an expression is missing.
func (r *reduction) check() error {
	for what, text := range map[string]string{"Neutral": r.neutral, "Map": r.mapped, "Reduce": r.two} {
		if strings.TrimSpace(text) == "" {
			return kernelError("the reduction has no %s", what)
		}
	}
	return nil
}

// source returns the kernel that computes r with arguments of the types of args, and its name.
func (r *reduction) source(args []Argument) (source, entry string, err error) {
	if err := r.check(); err != nil {
		return "", "", err
	}
	params, before, err := mapped(args)
	if err != nil {
		return "", "", err
	}
	params = append(params, "const long tile_x")
	typ := r.typ.OpenCL()
	var s strings.Builder
	s.WriteString(r.combination())
	fmt.Fprintf(&s, "kernel void %s(%s)\n{\n", reduce, strings.Join(params, ", "))
	fmt.Fprintf(&s, "local %s lanes%s[%d];\n", typ, generated, reduceLanes)
	fmt.Fprintf(&s, "const size_t lane%[1]s = get_local_id(0), block%[1]s = get_group_id(0);\n", generated)
	fmt.Fprintf(&s, "const long first%[1]s = block%[1]s * %[2]d, begin%[1]s = (tile_x + block%[1]s) * %[2]d;\n", generated, r.block)
	fmt.Fprintf(&s, "const long end%[1]s = min((long)%[2]d, %[3]s - begin%[1]s);\n", generated, r.block, reduceCount)
	fmt.Fprintf(&s, "%s sum%s =\n#line 1 \"Neutral\"\n(%s);\n", typ, generated, r.neutral)
	fmt.Fprintf(&s, "for (long k%[1]s = lane%[1]s; k%[1]s < end%[1]s; k%[1]s += %[2]d) {\n", generated, reduceLanes)
	fmt.Fprintf(&s, "const long at%[1]s = first%[1]s + k%[1]s, i = begin%[1]s + k%[1]s;\n%[2]s\n", generated, strings.Join(before, "\n"))
	fmt.Fprintf(&s, "const %[1]s value%[2]s =\n#line 1 \"Map\"\n(%[3]s);\nsum%[2]s = two%[2]s(sum%[2]s, value%[2]s);\n}\n", typ, generated, r.mapped)
	fmt.Fprintf(&s, "lanes%[1]s[lane%[1]s] = sum%[1]s;\n", generated)
	fmt.Fprintf(&s, "for (int step%[1]s = %[2]d; step%[1]s > 0; step%[1]s /= 2) {\nbarrier(CLK_LOCAL_MEM_FENCE);\n", generated, reduceLanes/2)
	fmt.Fprintf(&s, "if (lane%[1]s < step%[1]s)\nlanes%[1]s[lane%[1]s] = two%[1]s(lanes%[1]s[lane%[1]s], lanes%[1]s[lane%[1]s + step%[1]s]);\n}\n", generated)
	fmt.Fprintf(&s, "if (lane%[1]s == 0)\n%[2]s[block%[1]s] = lanes%[1]s[0];\n}\n", generated, reduceOutput)
	return s.String(), reduce, nil
}
