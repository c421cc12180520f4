package dist

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

// customDevice runs one kernel, which it knows by heart: z = x + the element of table in the same
// column + that of y above on the left, and blocks, where it is there, is the sum of four.
type customDevice struct {
	id        string
	functions []string // that it has; nil if it takes OpenCL C
	tiles     atomic.Int32
	open      atomic.Int32
	meet      func() // called before each tile, if there is one
}

func (d *customDevice) ID() string { return d.id }
func (d *customDevice) Slots() int { return 2 }

func (d *customDevice) Begin(_ context.Context, job kernels.Job) (kernels.Runner, error) {
	d.open.Add(1)
	return customRunner{d, job.(*kernels.Custom)}, nil
}

type customRunner struct {
	*customDevice
	job *kernels.Custom
}

func (r customRunner) Close() error {
	r.open.Add(-1)
	return nil
}

func (r customRunner) Run(_ context.Context, t kernels.Tile, out *kernels.Result) error {
	r.tiles.Add(1)
	if r.meet != nil {
		r.meet()
	}
	data := map[string][]int32{}
	for _, a := range r.job.Args {
		if !a.Reads() {
			continue
		}
		if a.Role == kernels.Whole {
			data[a.Name] = make([]int32, a.W*a.H)
			if err := a.Array.Read(kernels.Bytes(data[a.Name]), kernels.Tile{W: a.W, H: a.H}); err != nil {
				return err
			}
			continue
		}
		data[a.Name] = make([]int32, r.job.Has(a, t))
		if err := r.job.Read(kernels.Bytes(data[a.Name]), a, t); err != nil {
			return err
		}
	}
	z := kernels.Elements[int32](out.Planes[0])
	if blocks := data["blocks"]; blocks != nil {
		for i := range z {
			z[i] = 0
			for _, v := range blocks[4*i : min(4*i+4, len(blocks))] {
				z[i] += v
			}
		}
		return nil
	}
	for j := range t.H {
		for i := range t.W {
			z[j*t.W+i] = data["x"][j*t.W+i] + data["table"][t.X+i] + data["y"][j*(t.W+2)+i]
		}
	}
	return nil
}

// startCustomHosts returns the devices of hosts that run kernels.
func startCustomHosts(t *testing.T, devices ...*customDevice) (remote []Device) {
	t.Helper()
	for _, d := range devices {
		image := &mandelDevice{id: "image"}
		h := startHostWith(t, nil, func(h *Host) {
			h.AllowKernels([]Device{d})
			h.devices[0].info.Source = d.functions == nil
			for _, name := range d.functions {
				h.devices[0].info.Functions += name + "\n"
			}
		}, image)
		t.Cleanup(func() {
			h.stop()
			if n := d.open.Load(); n != 0 {
				t.Errorf("%d runners of %s were left open", n, d.id)
			}
		})
		remote = append(remote, h.dial(t, nil).Devices()...)
	}
	return remote
}

func randomInts(rng *rand.Rand, n int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = rng.Int32()
	}
	return x
}

// arrayOf returns x as an array of lines of so many elements.
func arrayOf(x []int32, w int) kernels.Memory {
	return kernels.Memory{Data: kernels.Bytes(x), W: w, Size: 4}
}

// TestKernelsOnHosts has hosts fetch arrays that are cut, with a halo, and whole.
func TestKernelsOnHosts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	one, two := &customDevice{id: "one"}, &customDevice{id: "two"}
	devices := startCustomHosts(t, one, two)
	for range 20 {
		w, h := 1+rng.IntN(600), 1+rng.IntN(400)
		x, y, table := randomInts(rng, w*h), randomInts(rng, w*h), randomInts(rng, w)
		job := &kernels.Custom{Source: "…", Entry: "f", W: w, H: h, Args: []kernels.Arg{
			{Name: "x", Role: kernels.In, Type: kernels.Int32, Array: arrayOf(x, w)},
			{Name: "y", Role: kernels.In, Type: kernels.Int32, Array: arrayOf(y, w), Halo: [3]int{1, 1}, Edge: kernels.EdgeRepeat},
			{Name: "table", Role: kernels.Whole, Type: kernels.Int32, Array: arrayOf(table, w), W: w, H: 1},
			{Name: "z", Role: kernels.Out, Type: kernels.Int32},
		}}
		sink := newImageSink(job)
		if _, err := Run(t.Context(), job, devices, sink, Options{Tiles: 1 + rng.IntN(30)}); err != nil {
			t.Fatal(err)
		}
		for i, z := range kernels.Elements[int32](sink.planes[0]) {
			if want := x[i] + table[i%w] + y[max(i/w-1, 0)*w+max(i%w-1, 0)]; z != want {
				t.Fatalf("%d×%d: element %d is %d, want %d", w, h, i, z, want)
			}
		}
	}
	for range 10 {
		blocks := randomInts(rng, 1+rng.IntN(100_000))
		n := (len(blocks) + 3) / 4
		job := &kernels.Custom{Source: "…", Entry: "f", W: n, H: 1, Args: []kernels.Arg{
			{Name: "blocks", Role: kernels.In, Type: kernels.Int32, Array: arrayOf(blocks, len(blocks)), Each: 4, W: len(blocks)},
			{Name: "z", Role: kernels.Out, Type: kernels.Int32},
		}}
		sink := newImageSink(job)
		if _, err := Run(t.Context(), job, devices, sink, Options{Tiles: 1 + rng.IntN(30)}); err != nil {
			t.Fatal(err)
		}
		for i, z := range kernels.Elements[int32](sink.planes[0]) {
			want := int32(0)
			for _, v := range blocks[4*i : min(4*i+4, len(blocks))] {
				want += v
			}
			if z != want {
				t.Fatalf("of %d elements: sum %d is %d, want %d", len(blocks), i, z, want)
			}
		}
	}
	if one.tiles.Load() == 0 || two.tiles.Load() == 0 {
		t.Errorf("the hosts computed %d and %d tiles", one.tiles.Load(), two.tiles.Load())
	}
}

// A host that was not told to runs no kernels, and says so; the others go on.
func TestHostWithoutKernels(t *testing.T) {
	devices := startCustomHosts(t, &customDevice{id: "willing"})
	plain := startHost(t, nil, &mandelDevice{id: "plain"})
	devices = append(devices, plain.dial(t, nil).Devices()...)
	x := []int32{1, 2, 3}
	job := &kernels.Custom{Source: "…", Entry: "f", W: 1, H: 1, Args: []kernels.Arg{
		{Name: "blocks", Role: kernels.In, Type: kernels.Int32, Array: arrayOf(x, 3), Each: 4, W: 3},
		{Name: "z", Role: kernels.Out, Type: kernels.Int32},
	}}
	sink := newImageSink(job)
	report, err := Run(t.Context(), job, devices, sink, Options{})
	if err != nil || kernels.Elements[int32](sink.planes[0])[0] != 6 {
		t.Fatalf("%v, %v", err, sink.planes)
	}
	if _, err = Run(t.Context(), job, devices[1:], newImageSink(job), Options{}); err == nil || !strings.Contains(err.Error(), "--allow-kernels") {
		t.Errorf("got %v", err)
	}
	if n := len(report.Devices); n != 2 {
		t.Errorf("%d devices", n)
	}
}

// Kernels go to the devices alone that can compute them, and the error says why none can.
func TestKernelsByName(t *testing.T) {
	x := randomInts(rand.New(rand.NewPCG(1, 2)), 1000)
	for _, test := range []struct {
		name, source string
		by           []string
		says         string
	}{
		{"sum", "…", []string{"source", "named"}, ""},
		{"sum", "", []string{"named"}, ""},
		{"", "…", []string{"source"}, ""},
		{"unknown", "…", []string{"source"}, ""},
		{"unknown", "", nil, "has not registered"},
	} {
		var begun sync.WaitGroup
		begun.Add(len(test.by))
		both := []*customDevice{{id: "source"}, {id: "named", functions: []string{"sum", "other"}}}
		for _, d := range both {
			if slices.Contains(test.by, d.id) {
				d.meet = sync.OnceFunc(func() { // so that no device can take all tiles
					begun.Done()
					begun.Wait()
				})
			}
		}
		job := &kernels.Custom{Name: test.name, Source: test.source, Entry: "f", W: 250, H: 1, Args: []kernels.Arg{
			{Name: "blocks", Role: kernels.In, Type: kernels.Int32, Array: arrayOf(x, 1000), Each: 4, W: 1000},
			{Name: "z", Role: kernels.Out, Type: kernels.Int32},
		}}
		_, err := Run(t.Context(), job, startCustomHosts(t, both...), newImageSink(job), Options{Tiles: 50})
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%q, %q: got %v", test.name, test.source, err)
		}
		for _, d := range both {
			if did := d.tiles.Load() > 0; did != slices.Contains(test.by, d.id) {
				t.Errorf("%q, %q: %s has computed: %v", test.name, test.source, d.id, did)
			}
		}
	}
}

func TestKernelsThatAreRefused(t *testing.T) {
	for i, spec := range someKernels(t) {
		job, err := decodeCustom(spec)
		if good := slices.Contains([]int{0, 4, 7}, i); good != (err == nil) {
			t.Errorf("kernel %d: %v, %v", i, job, err)
		}
	}
	long := customSpec{Source: strings.Repeat("x", maxSource+1), W: 1, H: 1, Args: []argSpec{{Role: uint8(kernels.Out), Type: 1}}}
	spec, err := encoding.Marshal(long)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeCustom(spec); err == nil {
		t.Error("a source of more than a mebibyte was taken")
	}
}
