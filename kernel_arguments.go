package gpurun

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// ErrKernel is matched by every error about a Kernel that cannot be run with its arguments.
var ErrKernel = errors.New("gpurun: the kernel cannot be run")

// KernelError says what of a Kernel, or of its arguments, is wrong. It matches ErrKernel.
type KernelError struct {
	Line   int // of the source, from 1; 0 if it is about none
	Reason string
}

func (e *KernelError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%v: line %d: %s", ErrKernel, e.Line, e.Reason)
	}
	return fmt.Sprintf("%v: %s", ErrKernel, e.Reason)
}

// Unwrap returns ErrKernel.
func (e *KernelError) Unwrap() error { return ErrKernel }

func kernelError(format string, args ...any) *KernelError {
	return &KernelError{Reason: fmt.Sprintf(format, args...)}
}

// places are the names of parameters that say where a tile is.
var places = map[string]uint64{
	"tile_x": kernels.PlaceX, "tile_y": kernels.PlaceY, "tile_w": kernels.PlaceW, "tile_h": kernels.PlaceH,
	"size_w": kernels.PlaceJobW, "size_h": kernels.PlaceJobH,
	"tile_z": kernels.PlaceZ, "tile_d": kernels.PlaceD, "size_d": kernels.PlaceJobD,
}

// job returns the job of k with args, and where its results go.
func (k *Kernel) job(args []Argument) (*kernels.Custom, outputs, error) {
	args, size, err := splitSize(args)
	if err != nil {
		return nil, nil, err
	}
	if err := checkOverlaps(args); err != nil {
		return nil, nil, err
	}
	job := &kernels.Custom{Name: k.name, Tolerance: k.Tolerance, Source: k.Source, Entry: k.Entry, Group: k.Group, Rows: k.WholeRows}
	if k.expression != nil {
		if args, err = k.expression.typed(args); err != nil {
			return nil, nil, err
		}
		if job.Source, job.Entry, err = k.expression.source(args, size != nil && len(size.sides) > 2); err != nil {
			return nil, nil, err
		}
	}
	if k.reduction != nil {
		job.Group, job.Items = [2]int{reduceLanes, 1}, reduceLanes
		if job.Source, job.Entry, err = k.reduction.source(args); err != nil {
			return nil, nil, err
		}
	}
	sides, err := k.outputSize(args, size)
	if err != nil {
		return nil, nil, err
	}
	if job.W, job.H = sides[0], sides[1]; len(sides) > 2 {
		job.W, job.H, job.Columns, job.Rows = sides[0]*sides[1], sides[2], sides[0], true
	}
	job.Twin = twin(k.CPU, job)
	var to outputs
	switch {
	case k.expression != nil || k.reduction != nil || job.Source == "" && job.Twin != nil:
		for _, a := range args {
			arg := a.of(job, &to)
			if k.reduction != nil && a.role == kernels.In && a.count > 0 {
				arg.Each, arg.W = k.reduction.block, a.count
			}
			job.Args = append(job.Args, arg)
		}
	case job.Source == "":
		return nil, nil, kernelError("it has neither OpenCL C nor a function in Go")
	default:
		if to, err = bind(job, args); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range k.places() {
		job.Args = append(job.Args, kernels.Arg{Name: name, Role: kernels.Place, Type: kernels.Int64, Bits: places[name]})
	}
	if err := job.Validate(); err != nil {
		return nil, nil, kernelError("%v", err)
	}
	return job, to, nil
}

// splitSize returns args without Size, and that if it is there.
func splitSize(args []Argument) (rest []Argument, size *Argument, err error) {
	names := map[string]bool{}
	for _, a := range args {
		switch {
		case a.role == sizeRole && size != nil:
			return nil, nil, kernelError("there are two Sizes")
		case a.role == sizeRole:
			size = &a
		case len(a.sides) > len(a.halo):
			return nil, nil, kernelError("the halo of %s has %d sides: give it columns, rows and planes at most", a.name, len(a.sides))
		case names[a.name]:
			return nil, nil, kernelError("there are two arguments %s", a.name)
		default:
			names[a.name] = true
			rest = append(rest, a)
		}
	}
	return rest, size, nil
}

// places returns the parameters that come after the arguments of a kernel that is made of
// expressions.
func (k *Kernel) places() []string {
	switch {
	case k.expression != nil:
		return expressionPlaces
	case k.reduction != nil:
		return []string{"tile_x"}
	}
	return nil
}

// outputSize returns the columns and rows of the output, and its planes if it has three dimensions.
func (k *Kernel) outputSize(args []Argument, size *Argument) ([]int, error) {
	if k.reduction != nil {
		return []int{args[len(args)-1].count, 1}, nil // Reduce has seen to the others
	}
	var first *Argument
	for i, a := range args {
		if a.isCut() && (first == nil || first.isNew()) {
			first = &args[i]
		}
	}
	switch {
	case first == nil:
		return nil, kernelError("none of its arguments is written: give it an Out")
	case first.isNew() && size == nil:
		return nil, kernelError("nothing says how many elements %s is to have: give it a Size", first.name)
	}
	sides := []int{first.count, 1}
	if size != nil {
		if sides = size.sides; len(sides) == 1 {
			sides = []int{sides[0], 1}
		}
	}
	elements, err := countElements(sides)
	if err != nil {
		return nil, err
	}
	for _, a := range args {
		switch {
		case !a.isCut() || a.count == elements || a.isNew():
		case size == nil:
			return nil, kernelError("%s has %d elements, and %s has %d: they must have as many, or be Whole", a.name, a.count, first.name, first.count)
		default:
			return nil, kernelError("%s has %d elements, and the output %s: they must be as many", a.name, a.count, sidesText(sides))
		}
	}
	return sides, nil
}

// countElements returns how many elements an output has of such sides.
func countElements(sides []int) (elements int, err error) {
	if len(sides) < 1 || len(sides) > 3 {
		return 0, kernelError("the output has %d dimensions: give its Size one to three", len(sides))
	}
	elements = 1
	for _, n := range sides {
		if n < 0 || n > 0 && elements > math.MaxInt64/16/n {
			return 0, kernelError("the output has %s elements", sidesText(sides))
		}
		elements *= n
	}
	return elements, nil
}

// sidesText returns sides as they are written.
func sidesText(sides []int) string {
	var text []string
	for _, n := range sides {
		text = append(text, strconv.Itoa(n))
	}
	return strings.Join(text, "×")
}

// isCut reports whether a is an array of which each tile has its part.
func (a *Argument) isCut() bool {
	return a.role == kernels.In || a.role == kernels.Out || a.role == kernels.InOut
}

// isNew reports whether a is a file that is made, as large as the others say.
func (a *Argument) isNew() bool { return a.role == kernels.Out && a.path != "" }

// checkOverlaps returns an error that matches ErrOverlap if an array that is written shares
// elements with another.
func checkOverlaps(args []Argument) error {
	for i, a := range args {
		if a.role != kernels.Out && a.role != kernels.InOut || len(a.data) == 0 {
			continue
		}
		for j, b := range args {
			if i == j || len(b.data) == 0 {
				continue
			}
			from, other := uintptr(unsafe.Pointer(&a.data[0])), uintptr(unsafe.Pointer(&b.data[0]))
			if from < other+uintptr(len(b.data)) && other < from+uintptr(len(a.data)) {
				return fmt.Errorf("%w: %s, which is written, shares elements with %s: give it memory of its own, or make it InOut", ErrOverlap, a.name, b.name)
			}
		}
	}
	return nil
}

// of returns a as an argument of job. What is written to it goes to a function that is
// appended to to.
func (a Argument) of(job *kernels.Custom, to *outputs) kernels.Arg {
	out := kernels.Arg{Name: a.name, Role: a.role, Type: a.typ, Bits: a.bits, Halo: a.halo, Edge: a.edge}
	width := job.W
	if a.role == kernels.Whole {
		width, out.W, out.H = a.count, a.count, 1
	}
	if a.file != nil {
		out.Array = fileArray{a.file, width}
	} else {
		out.Array = kernels.Memory{Data: a.data, W: width, Size: a.typ.Size()}
	}
	if a.role == kernels.Out || a.role == kernels.InOut {
		put := func(t kernels.Tile, packed []byte) error {
			tiler.Paste(a.data, width, t, packed, a.typ.Size())
			return nil
		}
		if a.path != "" {
			put = nil // see kernelFiles.create
		}
		*to = append(*to, put)
	}
	return out
}

// bind gives the parameters of job's function the arguments of their names.
func bind(job *kernels.Custom, args []Argument) (to outputs, err error) {
	entry, params, err := kernels.Signature(job.Source, job.Entry)
	if err != nil {
		return nil, kernelError("%v", err)
	}
	job.Entry = entry
	var names []string
	for _, p := range params {
		names = append(names, p.Name)
		i := slices.IndexFunc(args, func(a Argument) bool { return a.name == p.Name })
		if place, ok := places[p.Name]; ok && i < 0 {
			if err := checkPlace(job, p, place); err != nil {
				return nil, err
			}
			job.Args = append(job.Args, kernels.Arg{Name: p.Name, Role: kernels.Place, Type: p.Type, Bits: place})
			continue
		}
		if i < 0 {
			return nil, &KernelError{p.Line, fmt.Sprintf("there is no argument for the parameter %s of %s: give it one", p.Name, entry)}
		}
		a := args[i]
		if a.typ == 0 && p.Pointer == (a.role == kernels.Out) {
			if err := a.become(p.Type); err != nil {
				return nil, err
			}
		}
		if err := a.suits(p); err != nil {
			return nil, err
		}
		job.Args = append(job.Args, a.of(job, &to))
	}
	for _, a := range args {
		if !slices.Contains(names, a.name) {
			return nil, kernelError("%s has no parameter for the argument %s: it has %s", entry, a.name, strings.Join(names, ", "))
		}
	}
	return to, nil
}

// checkPlace returns an error if p cannot have what place says of tiles of job.
func checkPlace(job *kernels.Custom, p kernels.Parameter, place uint64) error {
	if p.Pointer || p.Type.Float() {
		return &KernelError{p.Line, fmt.Sprintf("%s says where a tile is: declare it as an int", p.Name)}
	}
	of := func(place uint64) int { return job.At(kernels.Arg{Bits: place}, kernels.Tile{}) }
	most := 0
	switch place {
	case kernels.PlaceX:
		most = of(kernels.PlaceJobW) - 1
	case kernels.PlaceY:
		most = of(kernels.PlaceJobH) - 1
	case kernels.PlaceZ:
		most = of(kernels.PlaceJobD) - 1
	case kernels.PlaceW:
		most = min(of(kernels.PlaceJobW), math.MaxInt32) // which is more than tiles have
	case kernels.PlaceH:
		most = min(of(kernels.PlaceJobH), math.MaxInt32)
	case kernels.PlaceD:
		most = min(of(kernels.PlaceJobD), math.MaxInt32)
	default:
		most = of(place)
	}
	if most > p.Type.MaxInt() {
		return &KernelError{p.Line, fmt.Sprintf("%s can be as large as %d, and a %s cannot: declare it as a long", p.Name, most, p.Type.OpenCL())}
	}
	return nil
}

// become has a, a file that is written or a number as text, be of type typ.
func (a *Argument) become(typ kernels.DType) (err error) {
	a.typ = typ
	if a.role != kernels.Value {
		return nil
	}
	if a.bits, err = parseNumber(a.text, typ); err != nil {
		return kernelError("the argument %s is %q, which is no %s: write a number that is one", a.name, a.text, typ.OpenCL())
	}
	return nil
}

// parseNumber returns the bits of a number as it is written.
func parseNumber(text string, typ kernels.DType) (bits uint64, err error) {
	switch size := 8 * typ.Size(); typ {
	case kernels.Float32, kernels.Float64:
		x, err := strconv.ParseFloat(text, size)
		if typ == kernels.Float32 {
			return uint64(math.Float32bits(float32(x))), err
		}
		return math.Float64bits(x), err
	case kernels.Int8, kernels.Int16, kernels.Int32, kernels.Int64:
		n, err := strconv.ParseInt(text, 0, size)
		return uint64(n), err
	default:
		return strconv.ParseUint(text, 0, size)
	}
}

// suits returns an error if a is no argument for p.
func (a *Argument) suits(p kernels.Parameter) error {
	wrong := func(format string, args ...any) error { return &KernelError{p.Line, fmt.Sprintf(format, args...)} }
	switch {
	case p.Local != (a.role == kernels.Local):
		return wrong("the parameter %s", p.Wants())
	case p.Local:
		return nil
	case p.Pointer == (a.role == kernels.Value):
		return wrong("the parameter %s", p.Wants())
	case p.Type != a.typ:
		return wrong("the parameter %s is of %s, and the argument of %s: convert it, or declare the parameter as %s",
			p.Name, p.Type.OpenCL(), a.typ.OpenCL(), a.typ.OpenCL())
	case p.Const && (a.role == kernels.Out || a.role == kernels.InOut):
		return wrong("the parameter %s is const, and the argument is to be written: leave const out, or make it In", p.Name)
	}
	return nil
}
