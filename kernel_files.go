package gpurun

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/kernels"
)

// InFile is In for the array in one of NumPy's .npy files, of any of the types of Number,
// little-endian and in C order. It need not fit into memory: each tile's part of it is read
// when the tile is computed. The output has the shape of the first such file unless there is a
// Size: one row for each line of the last dimension, or, if an argument has a Halo of planes, a plane
// for each of the last two.
func InFile(name, path string) Argument {
	return Argument{name: name, role: kernels.In, path: path}
}

// WholeFile is Whole for the array in a .npy file.
func WholeFile(name, path string) Argument {
	return Argument{name: name, role: kernels.Whole, path: path}
}

// OutFile is Out for a .npy file that Run makes, or replaces. It appears whole or not at all,
// when all is computed. Its elements are of the type that the kernel's parameter has; in an
// expression, of the type that is written before the name where it is first assigned, as in
// "float z = x*y", or else of the widest type among the arrays that are read.
func OutFile(name, path string) Argument {
	return Argument{name: name, role: kernels.Out, path: path}
}

// Text is Value for a number as it is written, such as "2.5", which becomes one of the type
// that the kernel's parameter has; in an expression, of the widest type among the arrays.
func Text(name, number string) Argument {
	return Argument{name: name, role: kernels.Value, text: number}
}

// kernelFiles are the files of a run of a kernel.
type kernelFiles struct {
	in    []*npy.File
	out   []kernelOutput
	shape []int // of the first array that is cut
}

// kernelOutput is a file that results go to.
type kernelOutput struct {
	*output.File
	index int // of the results
	head  []byte
	plane output.Plane // behind head
}

// begin sets room aside for the results, and writes what is before them.
func (o *kernelOutput) begin(job *kernels.Custom) error {
	err := o.Reserve(o.plane.At + int64(o.plane.Element)*int64(job.Bounds().Area()))
	if err == nil {
		_, err = o.WriteAt(o.head, 0)
	}
	if err != nil {
		return fmt.Errorf("gpurun: %w", err)
	}
	return nil
}

// open opens the files that args read, and returns args with what was found there.
func (f *kernelFiles) open(args []Argument) ([]Argument, error) {
	args = slices.Clone(args)
	for i := range args {
		a := &args[i]
		if a.path == "" || a.role == kernels.Out {
			continue
		}
		file, err := npy.OpenArray(a.path)
		if err != nil {
			return nil, fmt.Errorf("gpurun: %w", err)
		}
		f.in = append(f.in, file)
		if file.Fortran && sidesBeyondOne(file) > 1 {
			return nil, fmt.Errorf("gpurun: open %s: %w: it is in Fortran order: save np.ascontiguousarray of it", a.path, ErrFormat)
		}
		a.typ, a.count = file.Type, file.Rows*file.Cols
		if a.isCut() && f.shape == nil {
			if f.shape = file.Shape; file.Shape == nil {
				f.shape = []int{file.Rows, file.Cols}
			}
		}
		a.file = file
	}
	return args, nil
}

// sidesBeyondOne returns along how many dimensions f has more than one element: along one, the order
// of the dimensions makes no difference.
func sidesBeyondOne(f *npy.File) (count int) {
	shape := f.Shape
	if shape == nil {
		shape = []int{f.Rows, f.Cols}
	}
	for _, n := range shape {
		if n > 1 {
			count++
		}
	}
	return count
}

// size returns args with a Size, if there is none and a file has a shape.
func (f *kernelFiles) size(args []Argument) []Argument {
	if len(f.shape) < 2 || slices.ContainsFunc(args, func(a Argument) bool { return a.role == sizeRole }) {
		return args
	}
	w, h := f.shape[len(f.shape)-1], 1
	for _, n := range f.shape[:len(f.shape)-1] {
		h *= n
	}
	if volume := func(a Argument) bool { return a.halo[2] > 0 }; slices.ContainsFunc(args, volume) {
		planes := 1
		for _, n := range f.shape[:len(f.shape)-2] {
			planes *= n
		}
		return append(args, Size(w, f.shape[len(f.shape)-2], planes))
	}
	return append(args, Size(w, h))
}

// fileArray is an array in a file, of lines of so many elements.
type fileArray struct {
	file  *npy.File
	width int
}

func (a fileArray) Read(to []byte, t kernels.Tile) error { return a.file.ReadLines(to, t, a.width) }

// create makes the files that job's results go to, which are those of outputs that are nil. There is
// nothing in them yet.
func (f *kernelFiles) create(job *kernels.Custom, args []Argument, to outputs) error {
	plane := 0
	for _, arg := range job.Args {
		if !arg.Writes() {
			continue
		}
		at := plane
		plane++
		if to[at] != nil {
			continue
		}
		path := args[slices.IndexFunc(args, func(a Argument) bool { return a.name == arg.Name })].path
		out, err := output.Create(path)
		if err != nil {
			return fmt.Errorf("gpurun: %w", err)
		}
		header := npy.Header{Type: arg.Type, Rows: job.H, Cols: job.W, Shape: f.shapeOf(job)}
		head := header.Append(nil)
		f.out = append(f.out, kernelOutput{out, at, head, output.Plane{At: int64(len(head)), Width: job.W, Element: arg.Type.Size()}})
		for _, in := range f.in {
			info, err := in.Info()
			if err == nil && out.Replaces(info) {
				err = fmt.Errorf("%w: %s is read as well: give the result a file of its own", ErrOverlap, path)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// fill has the results of job written to the files as they come.
func (f *kernelFiles) fill(ctx context.Context, job *kernels.Custom, to outputs) error {
	for _, out := range f.out {
		if err := out.begin(job); err != nil {
			return err
		}
		to[out.index] = func(t kernels.Tile, packed []byte) error {
			return out.plane.Write(ctx, out, t.X, t.Y, t.W, t.H, packed)
		}
	}
	return nil
}

// shapeOf returns the shape of job's output: that of the array that is read, if it has as many
// elements.
func (f *kernelFiles) shapeOf(job *kernels.Custom) []int {
	n := 1
	for _, side := range f.shape {
		n *= side
	}
	switch {
	case f.shape != nil && n == job.Bounds().Area():
		return f.shape
	case job.Columns > 0:
		return []int{job.H, job.W / job.Columns, job.Columns}
	case job.H == 1:
		return []int{job.W}
	}
	return []int{job.H, job.W}
}

// check returns an error if a file that was read has been written to meanwhile.
func (f *kernelFiles) check() error {
	for _, in := range f.in {
		if err := in.Check(); err != nil {
			return fmt.Errorf("gpurun: %w", err)
		}
	}
	return nil
}

// commit has the files that were written appear, once all is computed.
func (f *kernelFiles) commit() error {
	if err := f.check(); err != nil {
		return err
	}
	var errs []error
	for _, out := range f.out {
		errs = append(errs, out.Commit())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("gpurun: %w", err)
	}
	return nil
}

// close closes all files, and removes those that have not appeared.
func (f *kernelFiles) close() {
	for _, in := range f.in {
		in.Close()
	}
	for _, out := range f.out {
		out.Discard()
	}
}
