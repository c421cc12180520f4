package gpurun_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
)

// kernelConfigs are the devices that kernels are tested on: with so little memory, too, that
// a tile takes many launches.
func kernelConfigs(t *testing.T) map[string]*gpurun.Config {
	configs := map[string]*gpurun.Config{
		"cpu":       {Devices: []string{"cpu"}},
		"cpu tiles": {Devices: []string{"cpu"}, Tiles: 7},
	}
	if hasOpenCL(t) {
		configs["opencl"] = &gpurun.Config{Devices: []string{"opencl"}}
		configs["opencl, little memory"] = &gpurun.Config{Devices: []string{"opencl"}, Memory: 32 << 10, Tiles: 3}
		configs["both"] = &gpurun.Config{Devices: []string{"cpu", "opencl"}, Tiles: 20}
	}
	return configs
}

// randomSlice returns numbers of which each sum, product and fused sum is rounded.
func randomSlice[T gpurun.Number](rng *rand.Rand, n int) []T {
	x := make([]T, n)
	for i := range x {
		x[i] = T(rng.NormFloat64() * 100)
	}
	return x
}

// TestElementwise holds an expression against the same in Go, in all types whose
// arithmetic is exact.
func TestElementwise(t *testing.T) {
	rng := randomSource(t)
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			eng := open(t, config)
			for _, n := range []int{1, 2, 1000, 65537, 300_000} {
				testElementwise[float64](t, eng, rng, n)
				testElementwise[float32](t, eng, rng, n)
				testElementwise[int32](t, eng, rng, n)
				testElementwise[uint8](t, eng, rng, n)
				testElementwise[int64](t, eng, rng, n)
				testElementwise[uint16](t, eng, rng, n)
			}
		})
	}
}

func testElementwise[T gpurun.Number](t *testing.T, eng *gpurun.Engine, rng *rand.Rand, n int) {
	t.Helper()
	sum := func(a, x, y T) T { return T(a*x) + y }
	kernel := gpurun.Elementwise("sum = a*x + y; twice = x + x", func(p *gpurun.Part) error {
		a, x, y := gpurun.ValueOf[T](p, "a"), gpurun.Elements[T](p, "x"), gpurun.Elements[T](p, "y")
		s, twice := gpurun.Elements[T](p, "sum"), gpurun.Elements[T](p, "twice")
		for i := range x {
			s[i], twice[i] = sum(a, x[i], y[i]), x[i]+x[i]
		}
		return nil
	})
	a, x, y := T(3), randomSlice[T](rng, n), randomSlice[T](rng, n)
	s, twice := make([]T, n), make([]T, n)
	err := eng.Run(t.Context(), kernel, gpurun.Out("sum", s), gpurun.Value("a", a), gpurun.In("x", x), gpurun.In("y", y), gpurun.Out("twice", twice))
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		if s[i] != sum(a, x[i], y[i]) || twice[i] != x[i]+x[i] {
			t.Fatalf("%T: element %d of %d is %v and %v, want %v and %v", a, i, n, s[i], twice[i], sum(a, x[i], y[i]), x[i]+x[i])
		}
	}
	if r := eng.Report(); r.Elements != int64(n) || r.Done != 1 || r.Job != "custom" {
		t.Errorf("the report has %d elements of %d, and %g done", r.Elements, n, r.Done)
	}
}

// Whether an expression is fused is for its author to say, on all devices alike.
func TestNothingIsContracted(t *testing.T) {
	rng := randomSource(t)
	if !hasOpenCL(t) {
		return
	}
	eng := open(t, &gpurun.Config{Devices: []string{"opencl"}})
	const n = 10_000
	x, y, z := randomSlice[float64](rng, n), randomSlice[float64](rng, n), randomSlice[float64](rng, n)
	fused, apart := make([]float64, n), make([]float64, n)
	kernel := gpurun.Elementwise("fused = fma(x, y, z); apart = x*y + z", nil)
	err := eng.Run(t.Context(), kernel, gpurun.In("x", x), gpurun.In("y", y), gpurun.In("z", z), gpurun.Out("fused", fused), gpurun.Out("apart", apart))
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for i := range x {
		if fused[i] != math.FMA(x[i], y[i], z[i]) || apart[i] != float64(x[i]*y[i])+z[i] {
			t.Fatalf("element %d: %v and %v", i, fused[i], apart[i])
		}
		if fused[i] != apart[i] {
			differ++
		}
	}
	if differ == 0 {
		t.Error("it makes no difference here")
	}
}

// gather has what is there for kernels: two dimensions, a whole array, places, local memory
// and an array that is read and written.
const gather = `
kernel void gather(global const int *index, global const float *table, const float scale,
                   global float *result, global uint *count, local float *scratch,
                   int tile_x, long tile_y, uint tile_w, uint tile_h, int size_w, int size_h)
{
	const size_t i = get_global_id(0), j = get_global_id(1);
	const size_t l = get_local_id(1)*get_local_size(0) + get_local_id(0);
	const bool here = i < tile_w && j < tile_h;
	const size_t at = j*tile_w + i;
	scratch[l] = here ? table[index[at]] : 0;
	barrier(CLK_LOCAL_MEM_FENCE);
	if (!here)
		return;
	result[at] = scratch[l] * scale;
	count[at] += (uint)((tile_y + j)*size_w + tile_x + i) + size_h;
}
`

func TestKernelInTwoDimensions(t *testing.T) {
	rng := randomSource(t)
	const w, h, tableSize, scale = 301, 203, 77, float32(1.5)
	table := randomSlice[float32](rng, tableSize)
	index, before := make([]int32, w*h), make([]uint32, w*h)
	for i := range index {
		index[i], before[i] = rng.Int32N(tableSize), rng.Uint32()
	}
	kernel := &gpurun.Kernel{Source: gather, Group: [2]int{8, 4}, CPU: func(p *gpurun.Part) error {
		x, y, w, h := p.Bounds()
		all, rows, _ := p.Size()
		index, table := gpurun.Elements[int32](p, "index"), gpurun.Elements[float32](p, "table")
		result, count := gpurun.Elements[float32](p, "result"), gpurun.Elements[uint32](p, "count")
		for j := range h {
			for i := range w {
				at := j*w + i
				result[at] = table[index[at]] * gpurun.ValueOf[float32](p, "scale")
				count[at] += uint32((y+j)*all + x + i + rows)
			}
		}
		return nil
	}}
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			result, count := make([]float32, w*h), append([]uint32{}, before...)
			err := open(t, config).Run(t.Context(), kernel, gpurun.Size(w, h), gpurun.In("index", index), gpurun.Whole("table", table), gpurun.Value("scale", scale),
				gpurun.Out("result", result), gpurun.InOut("count", count), gpurun.Local("scratch", 8*4*4))
			if err != nil {
				t.Fatal(err)
			}
			for i := range index {
				if want := table[index[i]] * scale; result[i] != want || count[i] != before[i]+uint32(i+h) {
					t.Fatalf("element %d is %v and %d, want %v and %d", i, result[i], count[i], want, before[i]+uint32(i+h))
				}
			}
		})
	}
}

// TestKernelErrors has each mistake that a caller can make answered with one message that says
// where it is.
func TestKernelErrors(t *testing.T) {
	const n = 10
	x, y, short := make([]float32, n), make([]float32, n), make([]float32, n-1)
	const copies = "\nkernel void copy(global const float *x,\n  global float *y, int k)\n{\n\ty[get_global_id(0)] = x[get_global_id(0)];\n}\n"
	k := gpurun.Value("k", int32(1))
	plain := gpurun.Elementwise("y = x", nil)
	for name, test := range map[string]struct {
		source string
		kernel *gpurun.Kernel
		args   []gpurun.Argument
		is     error
		want   string
	}{
		"unknown":        {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), k, gpurun.In("z", x)}, gpurun.ErrKernel, "no parameter for the argument z: it has x, y, k"},
		"missing":        {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y)}, gpurun.ErrKernel, "line 3: there is no argument for the parameter k of copy"},
		"twice":          {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.In("x", x), gpurun.Out("y", y), k}, gpurun.ErrKernel, "two arguments x"},
		"type":           {copies, nil, []gpurun.Argument{gpurun.In("x", make([]float64, n)), gpurun.Out("y", y), k}, gpurun.ErrKernel, "line 2: the parameter x is of float, and the argument of double"},
		"type of number": {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), gpurun.Value("k", 1.5)}, gpurun.ErrKernel, "line 3: the parameter k is of int"},
		"no number":      {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), gpurun.Text("k", "1.5")}, gpurun.ErrKernel, `k is "1.5", which is no int`},
		"array, number":  {copies, nil, []gpurun.Argument{gpurun.Value("x", float32(1)), gpurun.Out("y", y), k}, gpurun.ErrKernel, "line 2: the parameter x points to elements"},
		"length":         {copies, nil, []gpurun.Argument{gpurun.In("x", short), gpurun.Out("y", y), k}, gpurun.ErrKernel, "y has 10 elements, and x has 9"},
		"size":           {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), k, gpurun.Size(3, 3)}, gpurun.ErrKernel, "x has 10 elements, and the output 3×3"},
		"const":          {copies, nil, []gpurun.Argument{gpurun.Out("x", x), gpurun.Out("y", y), k}, gpurun.ErrKernel, "line 2: the parameter x is const"},
		"small place":    {"kernel void f(global float *y, uchar size_w)\n{\n}", nil, []gpurun.Argument{gpurun.Out("y", make([]float32, 256))}, gpurun.ErrKernel, "line 1: size_w can be as large as 256, and a uchar cannot: declare it as a long"},
		"small tile":     {"kernel void f(global float *y, short tile_h)\n{\n}", nil, []gpurun.Argument{gpurun.Out("y", make([]float32, 40000)), gpurun.Size(1, 40000)}, gpurun.ErrKernel, "line 1: tile_h can be as large as 40000, and a short cannot: declare it as a long"},
		"bad name":       {"", gpurun.Elementwise("y = x", nil), []gpurun.Argument{gpurun.In("x", x), gpurun.OutFile("y(", "y.npy")}, gpurun.ErrKernel, `cannot be called "y("`},
		"many sides":     {"", plain, []gpurun.Argument{gpurun.Halo(gpurun.In("x", x), gpurun.EdgeZero, 1, 1, 1, 1), gpurun.Out("y", y)}, gpurun.ErrKernel, "the halo of x has 4 sides"},
		"wide halo":      {"", plain, []gpurun.Argument{gpurun.Halo(gpurun.In("x", x), gpurun.EdgeZero, 5000), gpurun.Out("y", y)}, gpurun.ErrKernel, "each of them is from 0 to 4096"},
		"halo of output": {"", plain, []gpurun.Argument{gpurun.In("x", x), gpurun.Halo(gpurun.InOut("y", y), gpurun.EdgeZero, 1)}, gpurun.ErrKernel, "argument y: a halo, which only arrays have that are read"},
		"tolerance":      {"", &gpurun.Kernel{Source: copies, Tolerance: gpurun.Tolerance{Relative: -1}}, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), k}, gpurun.ErrKernel, "a tolerance of -1"},
		"nothing out":    {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.In("y", y), k}, gpurun.ErrKernel, "no array is written"},
		"overlap":        {copies, nil, []gpurun.Argument{gpurun.In("x", x[:n-1]), gpurun.Out("y", x[1:]), k}, gpurun.ErrOverlap, "y, which is written, shares elements with x"},
		"entry":          {copies, &gpurun.Kernel{Source: copies, Entry: "main"}, nil, gpurun.ErrKernel, ""},
		"local":          {copies, nil, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), gpurun.Local("k", 4)}, gpurun.ErrKernel, "line 3: the parameter k is a number"},
		"nothing":        {"", &gpurun.Kernel{}, []gpurun.Argument{gpurun.Out("y", y)}, gpurun.ErrKernel, "neither OpenCL C nor a function in Go"},
		"empty":          {"", gpurun.Elementwise(" \n", nil), []gpurun.Argument{gpurun.Out("y", y)}, gpurun.ErrKernel, "the expression is empty"},
		"reserved":       {"", gpurun.Elementwise("col = 1", nil), []gpurun.Argument{gpurun.Out("col", y)}, gpurun.ErrKernel, `cannot be called "col"`},
		"no device":      {"", plain, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y)}, gpurun.ErrDevice, "no OpenCL device was chosen"},
	} {
		t.Run(name, func(t *testing.T) {
			kernel := test.kernel
			if kernel == nil {
				kernel = &gpurun.Kernel{Source: test.source}
			}
			args := test.args
			if args == nil {
				args = []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", y), k}
			}
			err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Run(t.Context(), kernel, args...)
			if !errors.Is(err, test.is) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestKernelThatDoesNotCompile looks for the line, as the author counts them.
func TestKernelThatDoesNotCompile(t *testing.T) {
	if !hasOpenCL(t) {
		return
	}
	eng := open(t, &gpurun.Config{Devices: []string{"opencl"}})
	x, y := make([]float32, 10), make([]float32, 10)
	for name, test := range map[string]struct {
		kernel *gpurun.Kernel
		line   int
		text   string
	}{
		"kernel":     {&gpurun.Kernel{Source: "// one\nkernel void f(global const float *x, global float *y)\n{\n\ty[0] = nonsense;\n}\n"}, 4, "y[0] = nonsense;"},
		"expression": {gpurun.Elementwise("float d = x;\ny = d +* nothing", nil), 2, "y = d +* nothing;"},
	} {
		t.Run(name, func(t *testing.T) {
			err := eng.Run(t.Context(), test.kernel, gpurun.In("x", x), gpurun.Out("y", y))
			var build *gpurun.BuildError
			if !errors.Is(err, gpurun.ErrBuild) || !errors.As(err, &build) {
				t.Fatalf("got %v", err)
			}
			if build.Line != test.line || build.Source != test.text {
				t.Errorf("line %d, %q, of %v", build.Line, build.Source, err)
			}
			if n := strings.Count(err.Error(), test.text); n > 3 {
				t.Errorf("the message says %d times the same: %v", n, err)
			}
		})
	}
	if err := eng.Run(t.Context(), gpurun.Elementwise("y = x", nil), gpurun.In("x", x), gpurun.Out("y", y)); err != nil {
		t.Errorf("the next kernel: %v", err)
	}
}

func TestTwinThatPanics(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	y := make([]float32, 10)
	for name, test := range map[string]struct {
		cpu  func(p *gpurun.Part) error
		want string
	}{
		"panic": {func(*gpurun.Part) error { panic("no way") }, "panicked: no way"},
		"type":  {func(p *gpurun.Part) error { gpurun.Elements[float64](p, "y"); return nil }, "asks for y in f64, and it is of f32"},
		"name":  {func(p *gpurun.Part) error { gpurun.ValueOf[float64](p, "z"); return nil }, "no such argument"},
		"error": {func(p *gpurun.Part) error { return errors.New("not today") }, "not today"},
	} {
		t.Run(name, func(t *testing.T) {
			err := eng.Run(t.Context(), &gpurun.Kernel{CPU: test.cpu}, gpurun.Out("y", y))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestKernelIsInterrupted(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	ctx, cancel := context.WithCancel(t.Context())
	y := make([]float32, 1<<20)
	err := eng.Run(ctx, &gpurun.Kernel{CPU: func(*gpurun.Part) error { cancel(); return nil }}, gpurun.Out("y", y))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// neighbour is what lies at a place that may be beyond an array, in plain words.
func neighbour(x []float32, w, h, i, j int, edge gpurun.Edge) float32 {
	switch edge {
	case gpurun.EdgeRepeat:
		i, j = min(max(i, 0), w-1), min(max(j, 0), h-1)
	case gpurun.EdgeWrap:
		i, j = ((i%w)+w)%w, ((j%h)+h)%h
	default:
		if i < 0 || i >= w || j < 0 || j >= h {
			return 0
		}
	}
	return x[j*w+i]
}

// TestHalo has neighbours of every element, far and near, on all edges.
func TestHalo(t *testing.T) {
	rng := randomSource(t)
	const columns, rows = 3, 2
	stencil := func(p *gpurun.Part) error {
		_, _, w, h := p.Bounds()
		x, z := gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "z")
		at := func(i, j int) float32 { return x[(j+rows)*(w+2*columns)+i+columns] }
		for j := range h {
			for i := range w {
				z[j*w+i] = at(i-3, j+1) + 2*at(i+2, j-2) - at(i, j)
			}
		}
		return nil
	}
	kernel := gpurun.Elementwise("z = x_at(-3, 1) + 2*x_at(2, -2) - x", stencil)
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			eng := open(t, config)
			for _, size := range [][2]int{{1, 1}, {2, 1}, {1, 3}, {5, 4}, {97, 41}, {300, 200}, {20_000, 1}, {1, 20_000}} {
				for _, edge := range []gpurun.Edge{gpurun.EdgeZero, gpurun.EdgeRepeat, gpurun.EdgeWrap} {
					w, h := size[0], size[1]
					x, z := randomSlice[float32](rng, w*h), make([]float32, w*h)
					err := eng.Run(t.Context(), kernel, gpurun.Size(w, h), gpurun.Halo(gpurun.In("x", x), edge, columns, rows), gpurun.Out("z", z))
					if err != nil {
						t.Fatal(err)
					}
					for j := range h {
						for i := range w {
							want := neighbour(x, w, h, i-3, j+1, edge) + 2*neighbour(x, w, h, i+2, j-2, edge) - x[j*w+i]
							if z[j*w+i] != want {
								t.Fatalf("%d×%d, edge %d: element (%d, %d) is %v, want %v", w, h, edge, i, j, z[j*w+i], want)
							}
						}
					}
				}
			}
		})
	}
}

// TestWholeRows has a kernel that is wrong where a part is not of whole rows.
func TestWholeRows(t *testing.T) {
	const w, h = 700, 90
	kernel := &gpurun.Kernel{WholeRows: true, Source: `
kernel void widths(global int *z, int tile_w, int tile_x)
{
	z[get_global_id(1)*tile_w + get_global_id(0)] = tile_w - tile_x;
}`, CPU: func(p *gpurun.Part) error {
		x, _, w, _ := p.Bounds()
		for i, z := 0, gpurun.Elements[int32](p, "z"); i < len(z); i++ {
			z[i] = int32(w - x)
		}
		return nil
	}}
	for name, config := range kernelConfigs(t) {
		for _, tiles := range []int{0, 7, 1000} {
			t.Run(fmt.Sprintf("%s, %d tiles", name, tiles), func(t *testing.T) {
				config.Tiles = tiles
				z := make([]int32, w*h)
				if err := open(t, config).Run(t.Context(), kernel, gpurun.Size(w, h), gpurun.Out("z", z)); err != nil {
					t.Fatal(err)
				}
				for i, v := range z {
					if v != w {
						t.Fatalf("element %d is in a part of %d columns", i, v)
					}
				}
			})
		}
	}
	if hasOpenCL(t) {
		wide := make([]int32, 100_000)
		err := open(t, &gpurun.Config{Devices: []string{"opencl"}, Memory: 100_000}).Run(t.Context(), kernel, gpurun.Size(100_000, 1), gpurun.Out("z", wide))
		if !errors.Is(err, gpurun.ErrBudget) {
			t.Errorf("rows that do not fit: %v", err)
		}
	}
}
