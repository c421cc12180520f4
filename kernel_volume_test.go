package gpurun_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// around returns the element of x, of so many columns, rows and planes, at a place that may be beyond
// them.
func around(x []float32, sides, at [3]int, edge gpurun.Edge) float32 {
	for i, n := range sides {
		switch {
		case at[i] >= 0 && at[i] < n:
		case edge == gpurun.EdgeRepeat:
			at[i] = min(max(at[i], 0), n-1)
		case edge == gpurun.EdgeWrap:
			at[i] = (at[i]%n + n) % n
		default:
			return 0
		}
	}
	return x[(at[2]*sides[1]+at[1])*sides[0]+at[0]]
}

// stencil has a halo of 1×2×1.
var stencil = gpurun.Elementwise("z = x_at(-1, 2, -1) + 2*x_at(1, -1, 0) - x_at(0, 0, 1) + (col + 3*row + 7*layer + size_w*size_h*size_d)", stencilInGo).
	Register("test/stencil")

func stencilInGo(p *gpurun.Part) error {
	w, h, d := p.Size()
	first, planes := p.Planes()
	x, z := gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "z")
	at := func(i, j, k int) float32 { return x[((k+1)*(h+4)+j+2)*(w+2)+i+1] }
	for k := range planes {
		for j := range h {
			for i := range w {
				z[(k*h+j)*w+i] = at(i-1, j+2, k-1) + 2*at(i+1, j-1, k) - at(i, j, k+1) + float32(i+3*j+7*(first+k)+w*h*d)
			}
		}
	}
	return nil
}

// volumeSource is stencil as a whole kernel.
const volumeSource = `
kernel void stencil(global const float *x, global float *z, int tile_w, int tile_h, int tile_d, int tile_z, int size_w, int size_h, int size_d)
{
	size_t i = get_global_id(0), j = get_global_id(1), k = get_global_id(2);
	if (k >= tile_d)
		return;
	size_t w = tile_w + 2, h = tile_h + 4, center = ((k + 1)*h + j + 2)*w + i + 1;
	z[(k*tile_h + j)*tile_w + i] = x[center + 2*w - 1 - w*h] + 2*x[center - w + 1] - x[center + w*h] + (i + 3*j + 7*(tile_z + k) + size_w*size_h*size_d);
}`

// TestVolume has neighbours of every element in three dimensions, on all edges.
func TestVolume(t *testing.T) {
	rng := randomSource(t)
	whole := &gpurun.Kernel{Source: volumeSource, CPU: stencilInGo}
	configs := kernelConfigs(t)
	hosts, _ := startHosts(t, cpuHost(), cpuHost())
	configs["hosts"] = &gpurun.Config{Devices: []string{"none"}, Hosts: hosts, Tiles: 5}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			eng := open(t, config)
			for n, sides := range [][3]int{{1, 1, 1}, {5, 4, 3}, {1, 7, 9}, {33, 1, 20}, {20, 30, 1}, {23, 19, 40}, {83, 7, 5}, {3, 5, 283}} {
				for _, edge := range []gpurun.Edge{gpurun.EdgeZero, gpurun.EdgeRepeat, gpurun.EdgeWrap} {
					w, h, d := sides[0], sides[1], sides[2]
					x, z := randomSlice[float32](rng, w*h*d), make([]float32, w*h*d)
					kernel := stencil // which hosts know
					if n%2 == 1 && len(config.Hosts) == 0 {
						kernel = whole
					}
					err := eng.Run(t.Context(), kernel, gpurun.Size(w, h, d), gpurun.Halo(gpurun.In("x", x), edge, 1, 2, 1), gpurun.Out("z", z))
					if err != nil {
						t.Fatal(err)
					}
					for at := range z {
						i, j, k := at%w, at/w%h, at/w/h
						want := around(x, sides, [3]int{i - 1, j + 2, k - 1}, edge) + 2*around(x, sides, [3]int{i + 1, j - 1, k}, edge) -
							around(x, sides, [3]int{i, j, k + 1}, edge) + float32(i+3*j+7*k+w*h*d)
						if z[at] != want {
							t.Fatalf("%v, edge %d: element (%d, %d, %d) is %v, want %v", sides, edge, i, j, k, z[at], want)
						}
					}
				}
			}
		})
	}
}

// TestVolumeWithoutHalo computes in place, of arrays that are cut and whole.
func TestVolumeWithoutHalo(t *testing.T) {
	rng := randomSource(t)
	kernel := gpurun.Elementwise("x = x*t[layer] + col - row", func(p *gpurun.Part) error {
		w, h, _ := p.Size()
		first, _ := p.Planes()
		x, table := gpurun.Elements[int32](p, "x"), gpurun.Elements[int32](p, "t")
		for at := range x {
			x[at] = x[at]*table[first+at/w/h] + int32(at%w-at/w%h)
		}
		return nil
	})
	const w, h, d = 30, 20, 50
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			x, table := randomSlice[int32](rng, w*h*d), randomSlice[int32](rng, d)
			before := slices.Clone(x)
			err := open(t, config).Run(t.Context(), kernel, gpurun.Size(w, h, d), gpurun.InOut("x", x), gpurun.Whole("t", table))
			if err != nil {
				t.Fatal(err)
			}
			for at := range x {
				if want := before[at]*table[at/w/h] + int32(at%w-at/w%h); x[at] != want {
					t.Fatalf("element %d is %d, want %d", at, x[at], want)
				}
			}
		})
	}
}

// TestVolumeFilesWithoutElements has files of volumes that are empty along one side.
func TestVolumeFilesWithoutElements(t *testing.T) {
	eng, dir := open(t, &gpurun.Config{Devices: []string{"cpu"}}), t.TempDir()
	in, out := filepath.Join(dir, "x.npy"), filepath.Join(dir, "z.npy")
	kernel := gpurun.Elementwise("z = x_at(0, 0, 1)", func(*gpurun.Part) error { return errors.New("it was called") })
	for _, shape := range [][]int{{3, 0, 5}, {3, 4, 0}, {0, 4, 5}, {2, 0, 4, 5}, {0, 5}, {5, 0}} {
		h := npy.Header{Type: kernels.Float32, Rows: 0, Cols: shape[len(shape)-1], Shape: shape}
		if h.Cols == 0 {
			h.Rows = 5
		}
		writeArray(t, in, h, []float32{})
		halo := gpurun.Halo(gpurun.InFile("x", in), gpurun.EdgeWrap, 1, 1, 1)
		if err := eng.Run(t.Context(), kernel, halo, gpurun.OutFile("z", out)); err != nil {
			t.Errorf("%v: %v", shape, err)
			continue
		}
		readArray[float32](t, out, shape)
	}
}

func TestVolumeMistakes(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	x, z := make([]float32, 24), make([]float32, 24)
	kernel := gpurun.Elementwise("z = x", func(*gpurun.Part) error { return nil })
	for _, args := range [][]gpurun.Argument{
		{gpurun.In("x", x), gpurun.Out("z", z), gpurun.Size(2, 3, 5)},
		{gpurun.In("x", x), gpurun.Out("z", z), gpurun.Size(2, 3, 2, 2)},
		{gpurun.In("x", x), gpurun.Out("z", z), gpurun.Size()},
		{gpurun.In("x", x), gpurun.Out("z", z), gpurun.Size(-2, -3, 4)},
		{gpurun.Halo(gpurun.In("x", x), gpurun.EdgeZero, 1, 1, 1), gpurun.Out("z", z), gpurun.Size(6, 4)},
		{gpurun.Halo(gpurun.In("x", x), gpurun.EdgeZero, 1, 1, 1, 1), gpurun.Out("z", z), gpurun.Size(6, 4, 1)},
		{gpurun.Halo(gpurun.In("x", x), gpurun.EdgeZero, -1), gpurun.Out("z", z), gpurun.Size(6, 4)},
	} {
		if err := eng.Run(t.Context(), kernel, args...); !errors.Is(err, gpurun.ErrKernel) {
			t.Error(fmt.Sprint(len(args)), err)
		}
	}
}
