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
// type long; Reduce has a and b. An argument cannot have these names.
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

// reduction is what a Reduction is as a Kernel.
type reduction struct {
	typ                  kernels.DType
	neutral, mapped, two string
}

// The names that a reduction's kernel has for itself.
const (
	reduce       = "reduce"
	reduceOutput = "partial" + generated
	reduceCount  = "count" + generated
)

// Reduce computes r of args, which are In, Whole and Value, on the devices of the engine. Of
// arrays without elements it is Neutral. The errors are those of Run. Engine.Report is of the
// arrays, without what little is left then.
func Reduce[T Number](ctx context.Context, e *Engine, r *Reduction[T], args ...Argument) (result T, err error) {
	of := &reduction{kernels.TypeOf[T](), r.Neutral, r.Map, r.Reduce}
	var report *Report
	for first := true; ; first = false {
		n, err := reducedElements(args)
		if err != nil {
			return result, err
		}
		partials := make([]T, max(1, (n+reduceBlock-1)/reduceBlock))
		if n == 0 {
			args = slices.Clone(args)
			for i := range args { // which nobody looks at
				if args[i].role == kernels.In {
					args[i].data, args[i].count = make([]byte, args[i].typ.Size()), 1
				}
			}
		}
		k := &Kernel{reduction: of, CPU: r.CPU.kernel(n)}
		err = e.Run(ctx, k, append(args, Value(reduceCount, int64(n)), Out(reduceOutput, partials))...)
		if first {
			report = e.Report()
		}
		if err != nil {
			return result, err
		}
		if len(partials) == 1 {
			e.setReport(report)
			return partials[0], nil
		}
		of = &reduction{of.typ, of.neutral, reducedName, of.two}
		args = []Argument{In(reducedName, partials)}
		if r.CPU != nil {
			again := *r.CPU
			again.Map = func(p *Part, to []T) error { copy(to, Elements[T](p, reducedName)); return nil }
			r = &Reduction[T]{CPU: &again}
		}
	}
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
		case a.role != kernels.In:
		case a.halo != [2]int{}:
			return 0, kernelError("a reduction takes arrays without a halo, and %s has one", a.name)
		case a.path != "":
			return 0, kernelError("a reduction takes arrays in memory, and %s is in a file", a.name)
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

// kernel returns r as what Kernel.CPU is, for arrays of n elements.
func (r *ReductionCPU[T]) kernel(n int) func(p *Part) error {
	if r == nil {
		return nil
	}
	return func(p *Part) error {
		partials := Elements[T](p, reduceOutput)
		block := p.part
		block.Tile.H = 1
		values := make([]T, min(reduceBlock, n))
		for i := range partials {
			x := block.Tile.X + i
			from, to := x*reduceBlock, min((x+1)*reduceBlock, n)
			one := Part{p.job, kernels.Part{Tile: kernels.Tile{X: from, W: to - from, H: 1}, Data: make([][]byte, len(block.Data))}}
			for k, a := range p.job.Args {
				if one.part.Data[k] = block.Data[k]; a.Each > 0 {
					size := a.Type.Size()
					one.part.Data[k] = block.Data[k][(from-block.Tile.X*reduceBlock)*size:][:(to-from)*size]
				}
			}
			if err := r.Map(&one, values[:to-from]); err != nil {
				return err
			}
			partials[i] = r.block(values[:to-from])
		}
		return nil
	}
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

// source returns the kernel that computes r with arguments of the types of args, and its name.
func (r *reduction) source(args []Argument) (source, entry string, err error) {
	for what, text := range map[string]string{"Neutral": r.neutral, "Map": r.mapped, "Reduce": r.two} {
		if strings.TrimSpace(text) == "" {
			return "", "", kernelError("the reduction has no %s", what)
		}
	}
	var params, before []string
	for _, a := range args {
		if strings.HasSuffix(a.name, generated) {
			if a.role == kernels.In {
				before = append(before, fmt.Sprintf("const %s %s = %s_[at];", a.typ.OpenCL(), a.name, a.name))
				params = append(params, fmt.Sprintf("global const %s *restrict %s_", a.typ.OpenCL(), a.name))
			} else if a.role == kernels.Out {
				params = append(params, fmt.Sprintf("global %s *restrict %s", a.typ.OpenCL(), a.name))
			} else {
				params = append(params, fmt.Sprintf("const %s %s", a.typ.OpenCL(), a.name))
			}
			continue
		}
		if err := checkName(a.name, "i", "a", "b"); err != nil {
			return "", "", err
		}
		switch a.role {
		case kernels.In:
			params = append(params, fmt.Sprintf("global const %s *restrict %s%s", a.typ.OpenCL(), a.name, generated))
			before = append(before, fmt.Sprintf("const %s %s = %s%s[at];", a.typ.OpenCL(), a.name, a.name, generated))
		case kernels.Whole:
			params = append(params, fmt.Sprintf("global const %s *restrict %s", a.typ.OpenCL(), a.name))
		default:
			params = append(params, fmt.Sprintf("const %s %s", a.typ.OpenCL(), a.name))
		}
	}
	params = append(params, "const long tile_x")
	typ := r.typ.OpenCL()
	var s strings.Builder
	fmt.Fprintf(&s, "%[1]s two%[2]s(const %[1]s a, const %[1]s b)\n{\n#line 1 \"Reduce\"\nreturn (%[3]s);\n}\n", typ, generated, r.two)
	fmt.Fprintf(&s, "kernel void %s(%s)\n{\n", reduce, strings.Join(params, ", "))
	fmt.Fprintf(&s, "local %s lanes%s[%d];\n", typ, generated, reduceLanes)
	fmt.Fprintf(&s, "const size_t lane%[1]s = get_local_id(0), block%[1]s = get_group_id(0);\n", generated)
	fmt.Fprintf(&s, "const long first%[1]s = block%[1]s * %[2]d, begin%[1]s = (tile_x + block%[1]s) * %[2]d;\n", generated, reduceBlock)
	fmt.Fprintf(&s, "const long end%[1]s = min((long)%[2]d, %[3]s - begin%[1]s);\n", generated, reduceBlock, reduceCount)
	fmt.Fprintf(&s, "%s sum%s =\n#line 1 \"Neutral\"\n(%s);\n", typ, generated, r.neutral)
	fmt.Fprintf(&s, "for (long k%[1]s = lane%[1]s; k%[1]s < end%[1]s; k%[1]s += %[2]d) {\n", generated, reduceLanes)
	fmt.Fprintf(&s, "const long at = first%[1]s + k%[1]s, i = begin%[1]s + k%[1]s;\n%[2]s\n", generated, strings.Join(before, "\n"))
	fmt.Fprintf(&s, "const %[1]s value%[2]s =\n#line 1 \"Map\"\n(%[3]s);\nsum%[2]s = two%[2]s(sum%[2]s, value%[2]s);\n}\n", typ, generated, r.mapped)
	fmt.Fprintf(&s, "lanes%[1]s[lane%[1]s] = sum%[1]s;\n", generated)
	fmt.Fprintf(&s, "for (int step%[1]s = %[2]d; step%[1]s > 0; step%[1]s /= 2) {\nbarrier(CLK_LOCAL_MEM_FENCE);\n", generated, reduceLanes/2)
	fmt.Fprintf(&s, "if (lane%[1]s < step%[1]s)\nlanes%[1]s[lane%[1]s] = two%[1]s(lanes%[1]s[lane%[1]s], lanes%[1]s[lane%[1]s + step%[1]s]);\n}\n", generated)
	fmt.Fprintf(&s, "if (lane%[1]s == 0)\n%[2]s[block%[1]s] = lanes%[1]s[0];\n}\n", generated, reduceOutput)
	return s.String(), reduce, nil
}
