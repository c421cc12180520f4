package gpurun

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gpurun/gpurun/kernels"
)

// Elementwise returns the Kernel that computes each element of its Out arguments by an
// expression in OpenCL C of the elements of its In arguments at the same place, and of its
// Values, by their names:
//
//	saxpy := gpurun.Elementwise("z = fma(a, x, y)", nil)
//	err := engine.Run(ctx, saxpy, gpurun.Value("a", a), gpurun.In("x", x), gpurun.In("y", y), gpurun.Out("z", z))
//
// The expression may be several statements, on several lines, with variables of its own:
// "float d = x - y; z = d*d". It can use size_w, size_h and size_d, the columns, rows and planes of the
// output, and col, row and layer, the place of the element in it, which are of the type long. InOut arguments can
// be read and assigned. A Whole argument is a pointer to its elements. Of an argument x with a Halo,
// x_at(dx, dy) is a neighbour, and of three dimensions x_at(dx, dy, dz).
//
// cpu is the same in Go, for the CPU, or nil.
func Elementwise(text string, cpu func(p *Part) error) *Kernel {
	return &Kernel{CPU: cpu, expression: &expression{text}}
}

// expression is what an Elementwise computes.
type expression struct{ text string }

// elementwise is the kernel function that is made of an expression.
const elementwise = "elementwise"

// identifier is what arguments of an expression can be called. Names that end so are for what
// source makes of them.
var identifier = regexp.MustCompile(`^[A-Za-z]\w*$`)

const generated = "_gpurun"

// typed returns args with types for those that have none: files that are written, and
// numbers as text.
func (e *expression) typed(args []Argument) ([]Argument, error) {
	args = slices.Clone(args)
	widest := kernels.DType(0)
	for _, a := range args {
		if a.typ.Valid() && a.role != kernels.Whole {
			widest = wider(widest, a.typ)
		}
	}
	if widest == 0 {
		widest = kernels.Float64
	}
	for i := range args {
		a := &args[i]
		if a.typ.Valid() || a.role == kernels.Local {
			continue
		}
		typ := widest
		if a.role == kernels.Out {
			if declared, ok := e.declared(a.name); ok {
				typ = declared
			}
		} else if _, err := parseNumber(a.text, typ); err != nil && !typ.Float() {
			typ = kernels.Float64
		}
		if err := a.become(typ); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// wider returns the type that holds numbers of both a and b, which may be 0, as well as one can.
func wider(a, b kernels.DType) kernels.DType {
	switch {
	case a == 0 || a == b:
		return b
	case b == 0:
		return a
	case a.Float() != b.Float():
		if a.Float() && a.Size() >= b.Size() {
			return a
		}
		if b.Float() && b.Size() >= a.Size() {
			return b
		}
		return kernels.Float64
	case a.Size() >= b.Size():
		return a
	}
	return b
}

// declared returns the type that is written before name where it is assigned first.
func (e *expression) declared(name string) (kernels.DType, bool) {
	m := regexp.MustCompile(`(?:^|[;{}\s])((?:unsigned\s+)?\w+)\s+` + regexp.QuoteMeta(name) + `\s*=`).FindStringSubmatch(e.text)
	if m == nil {
		return 0, false
	}
	return kernels.TypeNamed(strings.Join(strings.Fields(m[1]), " "))
}

// source returns the kernel that computes e with arguments of the types of args, for a volume or for
// less, and its name.
func (e *expression) source(args []Argument, volume bool) (source, entry string, err error) {
	if strings.TrimSpace(e.text) == "" {
		return "", "", kernelError("the expression is empty")
	}
	var params, before, after []string
	var macros, s strings.Builder
	for _, a := range args {
		if err := checkName(a.name, reserved...); err != nil {
			return "", "", err
		}
		typ, pointer := a.typ.OpenCL(), a.name+generated
		switch a.role {
		case kernels.In:
			params = append(params, fmt.Sprintf("global const %s *restrict %s", typ, pointer))
			if a.halo == [3]int{} {
				before = append(before, fmt.Sprintf("const %s %s = %s[i%s];", typ, a.name, pointer, generated))
				break
			}
			macros.WriteString(neighbour(a, volume))
			center := "0, 0"
			if volume {
				center = "0, 0, 0"
			}
			before = append(before, fmt.Sprintf("const %s %s = %s_at(%s);", typ, a.name, a.name, center))
		case kernels.InOut:
			params = append(params, fmt.Sprintf("global %s *restrict %s", typ, pointer))
			before = append(before, fmt.Sprintf("%s %s = %s[i%s];", typ, a.name, pointer, generated))
			after = append(after, fmt.Sprintf("%s[i%s] = %s;", pointer, generated, a.name))
		case kernels.Out:
			params = append(params, fmt.Sprintf("global %s *restrict %s", typ, pointer))
			if _, declared := e.declared(a.name); !declared {
				before = append(before, fmt.Sprintf("%s %s;", typ, a.name))
			}
			after = append(after, fmt.Sprintf("%s[i%s] = %s;", pointer, generated, a.name))
		case kernels.Whole:
			params = append(params, fmt.Sprintf("global const %s *restrict %s", typ, a.name))
		case kernels.Value:
			params = append(params, fmt.Sprintf("const %s %s", typ, a.name))
		default:
			return "", "", kernelError("an expression has no use for %s, which is local memory", a.name)
		}
	}
	for _, name := range expressionPlaces {
		params = append(params, "const long "+name)
	}
	s.WriteString(macros.String())
	fmt.Fprintf(&s, "kernel void %s(%s)\n{\n", elementwise, strings.Join(params, ", "))
	line, layer := "get_global_id(1)", "0"
	if volume {
		line, layer = "(get_global_id(2)*tile_h + get_global_id(1))", "tile_z + get_global_id(2)"
	}
	fmt.Fprintf(&s, "const size_t i%s = %s*tile_w + get_global_id(0);\n", generated, line)
	fmt.Fprintf(&s, "const long col = tile_x + get_global_id(0), row = tile_y + get_global_id(1), layer = %s;\n", layer)
	s.WriteString(strings.Join(before, "\n") + "\n")
	fmt.Fprintf(&s, "#line 1\n%s;\n%s\n}\n", e.text, strings.Join(after, "\n"))
	return s.String(), elementwise, nil
}

// neighbour returns the macro by which an expression has the neighbours of a, which has a halo.
func neighbour(a Argument, volume bool) string {
	row, column := fmt.Sprintf("get_global_id(1) + %d + (dy)", a.halo[1]), fmt.Sprintf("get_global_id(0) + %d + (dx)", a.halo[0])
	width := fmt.Sprintf("(tile_w + %d)", 2*a.halo[0])
	if !volume {
		return fmt.Sprintf("#define %s_at(dx, dy) %s%s[(%s)*%s + %s]\n", a.name, a.name, generated, row, width, column)
	}
	plane := fmt.Sprintf("(get_global_id(2) + %d + (dz))*(tile_h + %d)", a.halo[2], 2*a.halo[1])
	return fmt.Sprintf("#define %s_at(dx, dy, dz) %s%s[(%s + %s)*%s + %s]\n", a.name, a.name, generated, plane, row, width, column)
}

// checkName returns an error if an argument of an expression that has the reserved names cannot
// be called name.
func checkName(name string, reserved ...string) error {
	if !identifier.MatchString(name) || strings.HasSuffix(name, generated) || slices.Contains(reserved, name) {
		return kernelError("an argument of an expression cannot be called %q: give it a name of letters and digits that means nothing else there", name)
	}
	return nil
}

// expressionPlaces are the parameters of an expression that come after its arguments.
var expressionPlaces = []string{"tile_x", "tile_y", "tile_z", "tile_w", "tile_h", "size_w", "size_h", "size_d"}

// reserved are names that cannot be those of arguments, beside those of OpenCL C.
var reserved = append([]string{"col", "row", "layer"}, expressionPlaces...)
