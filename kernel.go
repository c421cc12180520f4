package gpurun

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Kernel is a computation of the user's own over arrays: a function in OpenCL C for OpenCL
// devices, or one in Go for the CPU, or both. Engine.Run cuts the arrays into tiles, and has
// each computed by any of the devices that can.
//
// The function in OpenCL C sees a tile as if it were all there is. It is run with one
// work-item for each element of the tile: get_global_id(0) is the element's column in the
// tile, and get_global_id(1) its row, which is 0 where arrays have one dimension. In, Out and InOut
// arguments are pointers to the tile's elements, packed row by row: in a tile of tile_w columns,
// work-item (i, j) finds its element at [j*tile_w + i]. Of three dimensions a tile has whole planes:
// get_global_id(2) is the element's plane in the tile, and its place is [(k*tile_h + j)*tile_w + i].
// Whole arguments are pointers to whole
// arrays, the same for every tile. Parameters of an integer type that are called tile_w and tile_h
// have the columns and rows of the tile, tile_x and tile_y the column and the row of its first
// element in the whole output, and size_w and size_h the whole output's columns and rows, and with d and
// z in place of h and y the same of planes; no argument is given for them.
//
// An element of an Out argument that the function does not write has any value. Elements of
// In and Whole arguments must not be written. Everything is compiled without contraction: fma
// is fused where it is called, and nowhere else. Where the function calls what OpenCL leaves
// to devices, such as exp, results differ between devices in their last bits.
type Kernel struct {
	// Source is OpenCL C 1.2, and Entry the kernel function in it, which need not be said
	// where there is one only. Its parameters are numbers, and pointers to numbers of the
	// types of Number. Empty if there is only CPU.
	Source, Entry string

	// Group is the work-items of a work-group, in columns and in rows, for functions with
	// local memory or barriers. Then there may be more work-items than elements, up to whole
	// groups: tile_w and tile_h say which are some. The zero value leaves it to the driver.
	Group [2]int

	// WholeRows has every tile, and every part that CPU is called for, have whole rows of the
	// output: for functions whose work-groups work on a row together.
	WholeRows bool

	// CPU computes a part of the output in Go. It may be called by several goroutines at once,
	// for different parts. Nil if there is only Source.
	CPU func(p *Part) error

	// Tolerance is how far results may be from those of CPU, where Config.Verify has both computed.
	Tolerance Tolerance

	name       string      // that CPU is registered as, if it is
	expression *expression // of Elementwise, which makes Source when the types are known
	reduction  *reduction  // of Reduce, likewise
}

// Tolerance is how far two results may be from each other: by Absolute + Relative times the larger of
// their absolute values. The zero value wants the same bits, but for those of NaNs.
type Tolerance = kernels.Tolerance

// Number is any type that elements of arrays can have.
type Number interface{ kernels.Number }

// Argument is an argument for a parameter of a Kernel, by its name.
type Argument struct {
	name  string
	role  kernels.Role
	typ   kernels.DType
	bits  uint64
	data  []byte
	count int   // of elements
	sides []int // of a Size, or of a halo

	halo [3]int
	edge Edge

	path string    // of a file
	file *npy.File // that is read
	text string    // of a number that has no type yet
}

// In is an array that is read: each work-item has its element. It has as many elements as
// the output.
func In[T Number](name string, data []T) Argument { return arrayArgument(name, kernels.In, data) }

// Out is an array that is written: each work-item writes its element. It must not share
// elements with another argument.
func Out[T Number](name string, data []T) Argument { return arrayArgument(name, kernels.Out, data) }

// InOut is both: what is read is what there was before Run. It takes as much memory
// again.
func InOut[T Number](name string, data []T) Argument { return arrayArgument(name, kernels.InOut, data) }

// Whole is an array of any length that is read, and of which each tile has all elements. It
// has to fit into the memory of each device.
func Whole[T Number](name string, data []T) Argument { return arrayArgument(name, kernels.Whole, data) }

func arrayArgument[T Number](name string, role kernels.Role, data []T) Argument {
	return Argument{name: name, role: role, typ: kernels.TypeOf[T](), data: kernels.Bytes(data), count: len(data)}
}

// Edge says what lies around an array.
type Edge = kernels.Edge

const (
	EdgeZero   = kernels.EdgeZero   // zeros
	EdgeRepeat = kernels.EdgeRepeat // the nearest element of the array
	EdgeWrap   = kernels.EdgeWrap   // the array again: it has no edge
)

// Halo is an In argument of which each tile also has so many columns on either side of it, so many rows
// above and below, and so many planes before and behind it, for stencils: 4096 at most, and none that
// are not said. Beyond the edges of the array is what edge says. So a function in OpenCL C finds
// the element of work-item (i, j) at [(j+rows)*(tile_w+2*columns) + i+columns], and its neighbours
// around it; a plane has (tile_w+2*columns)*(tile_h+2*rows) elements. In an expression, NAME_at(dx, dy),
// or NAME_at(dx, dy, dz) of three dimensions, is the element dx columns to the right, dy rows below,
// and dz planes behind.
func Halo(in Argument, edge Edge, sides ...int) Argument {
	in.edge, in.halo, in.sides = edge, [3]int{}, sides
	copy(in.halo[:], sides)
	return in
}

// Value is a number.
func Value[T Number](name string, value T) Argument {
	var bits [1]uint64
	kernels.Elements[T](kernels.Bytes(bits[:]))[0] = value
	return Argument{name: name, role: kernels.Value, typ: kernels.TypeOf[T](), bits: bits[0]}
}

// Local is local memory, so many bytes for each work-group, for a parameter that is a pointer
// to local memory. The function in Go does not get it.
func Local(name string, bytes int) Argument {
	return Argument{name: name, role: kernels.Local, bits: uint64(max(bytes, 0))}
}

// Size says that the output has so many columns, rows, and planes of these, of which there is one
// each if it is not said. Without a Size it has one row of as many columns as the arrays have elements.
func Size(sides ...int) Argument {
	return Argument{role: sizeRole, sides: sides}
}

// sizeRole is the role of Size, which is no argument of a function.
const sizeRole kernels.Role = math.MaxUint8

// Run computes k with args on the devices of the engine, and, if it has Source, on those of its hosts
// whose workers allow kernels: see Config.AllowKernels. If it is registered, CPUs of hosts take part
// that have it too: see Register. Hosts fetch the parts of arrays that their tiles
// have, and Whole arrays. The results are in the Out and
// InOut arguments when it returns nil; after an error those have any values.
//
// Where all arrays are in files, Config.State keeps the results. The order of args does not matter. The error matches ErrKernel if an argument is unknown,
// missing, or of another type or length than the kernel wants, ErrOverlap if an array that
// is written shares elements with another, ErrBuild if the source does not compile, ErrFormat
// if a file holds no array that can be read, ErrChanged if one was written to meanwhile,
// ErrDevice if none of the devices that were chosen can run the kernel, ErrTileFailed,
// ErrNoDevice or ErrBudget if devices cannot, ErrOtherState, ErrStateBusy or ErrStateDamaged, ErrClosed; it is ctx's error if ctx was done first,
// or what the system said of a file.
func (e *Engine) Run(ctx context.Context, k *Kernel, args ...Argument) error {
	start := time.Now()
	var files kernelFiles
	defer files.close()
	args, err := files.open(args)
	if err != nil {
		return err
	}
	job, outputs, err := k.job(files.size(args))
	if err != nil {
		return err
	}
	if e.config.Verify > 0 && job.Twin == nil {
		return kernelError("results are to be verified, and there is no function in Go to do it by: give the kernel one, or have Config.Verify be 0")
	}
	devices, err := e.devicesOf(job)
	if err != nil {
		return err
	}
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := files.create(job, args, outputs); err != nil {
		return err
	}
	kept, err := e.openKernelState(ctx, k, job, &files, outputs)
	if err != nil {
		return err
	}
	defer kept.close(ctx)
	if kept == nil {
		if err := files.fill(ctx, job, outputs); err != nil {
			return err
		}
	}
	if job.Bounds().Empty() {
		return files.commit()
	}
	for i, a := range job.Args {
		if m, ok := a.Array.(kernels.Memory); ok && a.Role == kernels.InOut {
			m.Data = slices.Clone(m.Data)
			job.Args[i].Array = m
		}
	}
	id := kernelID(job)
	opts := dist.Options{Cost: tiler.Uniform(1), Rates: e.rates.known(id), Todo: kept.missing(job)}
	report, err := e.run(ctx, job, devices, job.Source != "" || job.Name != "", kept.sink(ctx, outputs), opts)
	report.Seconds = time.Since(start).Seconds()
	report.setElements(float64(job.Bounds().Area()))
	e.rates.learn(id, report)
	if err == nil {
		err = kept.deliver(ctx, job, &files)
	}
	e.keep(report, err)
	return err
}

// devicesOf returns the devices that can run job.
func (e *Engine) devicesOf(job *kernels.Custom) ([]device.Device, error) {
	devices, err := e.devicesFor(job.DType())
	if err != nil {
		return nil, err
	}
	source, twin := job.Source != "", job.Twin != nil
	devices = slices.DeleteFunc(slices.Clone(devices), func(d device.Device) bool {
		onCPU := d.Info().Backend == device.BackendCPU
		return onCPU && !twin || !onCPU && !source
	})
	switch {
	case len(devices) > 0, (source || job.Name != "") && e.cluster != nil:
		return devices, nil
	case source:
		return nil, fmt.Errorf("gpurun: the kernel is OpenCL C, without a function in Go, and no OpenCL device was chosen: "+
			"choose one of those that 'gpurun devices' lists, or opencl for any: %w", ErrDevice)
	}
	return nil, fmt.Errorf("gpurun: the kernel is a function in Go, without OpenCL C, and the CPU was not chosen: choose the device cpu, or have hosts know it, by Register: %w", ErrDevice)
}

// outputs is the sink of a kernel: where each plane goes.
type outputs []func(t kernels.Tile, packed []byte) error

func (o outputs) Put(t kernels.Tile, r *kernels.Result) error {
	for i, put := range o {
		if err := put(t, r.Planes[i]); err != nil {
			return err
		}
	}
	return nil
}

// Part is what Kernel.CPU computes at a time. See Elements and ValueOf.
type Part struct {
	job  *kernels.Custom
	part kernels.Part
}

// Bounds returns the columns x … x+w−1 and the rows y … y+h−1 of the whole output that p is,
// and that all arrays which are not Whole have, row by row. Of three dimensions it has all columns and
// rows of the planes that Planes returns.
func (p *Part) Bounds() (x, y, w, h int) {
	if columns := p.job.Columns; columns > 0 {
		return 0, 0, columns, p.job.W / columns
	}
	t := p.part.Tile
	return t.X, t.Y, t.W, t.H
}

// Planes returns the planes z … z+d−1 of the whole output that p is: the only one, if it has two
// dimensions.
func (p *Part) Planes() (z, d int) {
	if p.job.Columns > 0 {
		return p.part.Tile.Y, p.part.Tile.H
	}
	return 0, 1
}

// Size returns the columns, rows and planes of the whole output.
func (p *Part) Size() (w, h, d int) {
	if columns := p.job.Columns; columns > 0 {
		return columns, p.job.W / columns, p.job.H
	}
	return p.job.W, p.job.H, 1
}

// argument returns the argument called name, of which the function in Go says that it is of
// type typ.
func (p *Part) argument(name string, typ kernels.DType, value bool) int {
	i := slices.IndexFunc(p.job.Args, func(a kernels.Arg) bool {
		return a.Name == name || a.Name == name+generated // as the parameter of a scan is called
	})
	switch {
	case i < 0:
		panic(kernelError("the function in Go asks for %s, and there is no such argument", name))
	case (p.job.Args[i].Role == kernels.Value) != value:
		panic(kernelError("the function in Go asks for %s as what it is not: arrays are Elements, and numbers ValueOf", name))
	case p.job.Args[i].Type != typ:
		panic(kernelError("the function in Go asks for %s in %v, and it is of %v", name, typ, p.job.Args[i].Type))
	}
	return i
}

// Elements returns the elements of the array called name, of which p has its part, with its Halo, or
// all if it is Whole. Those of In and Whole are not to be written. It panics if there is no array of T so called,
// which Run returns as an error.
func Elements[T Number](p *Part, name string) []T {
	return kernels.Elements[T](p.part.Data[p.argument(name, kernels.TypeOf[T](), false)])
}

// ValueOf returns the number called name. It panics as Elements does.
func ValueOf[T Number](p *Part, name string) T {
	bits := [1]uint64{p.job.Args[p.argument(name, kernels.TypeOf[T](), true)].Bits}
	return kernels.Elements[T](kernels.Bytes(bits[:]))[0]
}

// twin returns cpu, which may be nil, as what devices call.
func twin(cpu func(*Part) error, job *kernels.Custom) func(kernels.Part) error {
	if cpu == nil {
		return nil
	}
	return func(part kernels.Part) (err error) {
		defer func() {
			if r := recover(); r != nil {
				if e, ok := r.(*KernelError); ok {
					err = e
					return
				}
				err = kernelError("the function in Go panicked: %v", r)
			}
		}()
		return cpu(&Part{job, part})
	}
}
