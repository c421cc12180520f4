package gpurun_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// slowly makes a result, or two, and takes its time.
func slowly(p *gpurun.Part) error {
	time.Sleep(time.Millisecond)
	x, z := gpurun.Elements[int32](p, "x"), gpurun.Elements[int32](p, "z")
	for i := range z {
		z[i] = gpurun.ValueOf[int32](p, "a")*x[i] + 1
	}
	return nil
}

func slowlyTwo(p *gpurun.Part) error {
	x, half := gpurun.Elements[int32](p, "x"), gpurun.Elements[float64](p, "half")
	for i := range half {
		half[i] = float64(x[i]) / 2
	}
	return slowly(p)
}

// TestStateOfKernels interrupts kernels over files: at the end the results are what they would have been.
func TestStateOfKernels(t *testing.T) {
	rng := randomSource(t)
	resumed := 0
	for i, shape := range [][]int{{70_001}, {301, 211}, {13, 40, 50}, {70_003}, {213, 311}} {
		dir := t.TempDir()
		in, out, half, state := filepath.Join(dir, "x.npy"), filepath.Join(dir, "z.npy"), filepath.Join(dir, "half.npy"), filepath.Join(dir, "state")
		n := 1
		for _, side := range shape {
			n *= side
		}
		x := randomSlice[int32](rng, n)
		writeArray(t, in, npy.Header{Type: kernels.Int32, Rows: n / shape[len(shape)-1], Cols: shape[len(shape)-1], Shape: shape}, x)
		kernel := gpurun.Elementwise("z = a*x + 1", slowly)
		args := []gpurun.Argument{gpurun.InFile("x", in), gpurun.Text("a", "3"), gpurun.OutFile("z", out)}
		if two := i%2 == 0; two {
			kernel = gpurun.Elementwise("z = a*x + 1; double half = x/2.0", slowlyTwo)
			args = append(args, gpurun.OutFile("half", half))
		}
		config := gpurun.Config{Devices: []string{"cpu"}, State: state, Tiles: 60 * rng.IntN(2)}
		runs, report := interrupted(t, rng, config, func(ctx context.Context, eng *gpurun.Engine) error {
			err := eng.Run(ctx, kernel, args...)
			if _, there := os.Stat(out); (there == nil) != (err == nil) {
				t.Errorf("the error is %v, and the result there: %v", err, there == nil)
			}
			return err
		})
		t.Logf("%v: %d runs, %.2f resumed in the last", shape, runs, report.Resumed)
		if report.Resumed > 0 {
			resumed++
		}
		for k, z := range readArray[int32](t, out, shape) {
			if z != 3*x[k]+1 {
				t.Fatalf("%v: element %d is %d, want %d", shape, k, z, 3*x[k]+1)
			}
		}
		if i%2 == 0 {
			for k, h := range readArray[float64](t, half, shape) {
				if h != float64(x[k])/2 {
					t.Fatalf("%v: half of element %d is %g", shape, k, h)
				}
			}
		}
		if s, err := gpurun.ReadState(state); err != nil || !s.Finished || s.Done != 1 {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := os.Stat(filepath.Join(state, "gpurun.output")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was kept is left: %v", err)
		}
	}
	if resumed == 0 {
		t.Error("nothing was ever resumed")
	}
}

// TestStateOfOtherKernels has what is kept meet a kernel with another number, source, and file, and arrays in memory.
func TestStateOfOtherKernels(t *testing.T) {
	dir := t.TempDir()
	in, other, out, state := filepath.Join(dir, "x.npy"), filepath.Join(dir, "y.npy"), filepath.Join(dir, "z.npy"), filepath.Join(dir, "state")
	flat := npy.Header{Type: kernels.Int32, Rows: 1, Cols: 1000, Shape: []int{1000}}
	writeArray(t, in, flat, make([]int32, 1000))
	writeArray(t, other, flat, append(make([]int32, 999), 1))
	ctx, cancel := context.WithCancel(t.Context())
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, State: state, Tiles: 50, Progress: func(float64) { cancel() }})
	run := func(ctx context.Context, text, in, a, out string) error {
		return eng.Run(ctx, gpurun.Elementwise(text, slowly), gpurun.InFile("x", in), gpurun.Text("a", a), gpurun.OutFile("z", out))
	}
	if err := run(ctx, "z = a*x + 1", in, "3", out); !errors.Is(err, context.Canceled) {
		t.Fatal("it should have ended at its first tile: ", err)
	}
	for name, err := range map[string]error{
		"another number": run(t.Context(), "z = a*x + 1", in, "4", out),
		"another source": run(t.Context(), "z = 1 + a*x", in, "3", out),
		"another file":   run(t.Context(), "z = a*x + 1", other, "3", out),
	} {
		if !errors.Is(err, gpurun.ErrOtherState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := run(t.Context(), "z = a*x + 1", in, "3", filepath.Join(state, "z.npy")); err == nil || errors.Is(err, gpurun.ErrOtherState) {
		t.Errorf("a result in the folder: %v", err)
	}
	x, z := []int32{5}, make([]int32, 1)
	err := eng.Run(t.Context(), gpurun.Elementwise("z = a*x + 1", slowly), gpurun.In("x", x), gpurun.Value("a", int32(3)), gpurun.Out("z", z))
	if err != nil || z[0] != 16 {
		t.Errorf("arrays in memory, which are not kept: %d, %v", z[0], err)
	}
	if err := run(t.Context(), "z = a*x + 1", in, "3", out); err != nil {
		t.Error(err)
	}
	if r := eng.Report(); r.Resumed <= 0 {
		t.Errorf("%g was resumed", r.Resumed)
	}
}
