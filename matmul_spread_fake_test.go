package gpurun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
)

// This file checks which devices compute a product, and what happens when they
// fail, with GPUs that are only pretended.

// fakeGPU computes as the CPU does, until it fails.
type fakeGPU struct {
	device.Device
	id      string
	support device.Support // in float64
	takes   time.Duration  // what Predict says
	good    int64          // tiles that it computes before it fails
	refuses bool           // to begin
	onTile  func()         // if not nil, called with each tile, which is not computed then

	begun, tiles, asked atomic.Int64
}

var errFake = errors.New("the fake GPU failed")

func (d *fakeGPU) ID() string   { return d.id }
func (d *fakeGPU) Slots() int   { return 1 } // so that a tile is in its place when the next fails
func (d *fakeGPU) Close() error { return nil }

func (d *fakeGPU) Info() device.Info {
	info := d.Device.Info()
	info.ID, info.Kind = d.id, device.GPU
	if d.support != "" {
		info.Float64 = d.support
	}
	return info
}

func (d *fakeGPU) Predict(kernels.Job) device.Prediction {
	d.asked.Add(1)
	return device.Prediction{Time: d.takes}
}

func (d *fakeGPU) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	d.begun.Add(1)
	if d.refuses {
		return nil, errFake
	}
	runner, err := d.Device.Begin(ctx, job)
	return fakeRunner{runner, d}, err
}

type fakeRunner struct {
	kernels.Runner
	d *fakeGPU
}

func (r fakeRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if r.d.onTile != nil {
		r.d.onTile()
		<-ctx.Done()
		return ctx.Err()
	}
	if r.d.tiles.Add(1) > r.d.good {
		return errFake
	}
	return r.Runner.Run(ctx, t, out)
}

// openFake returns an engine for which choice has found fakes, and the CPU before
// them if that is wanted.
func openFake(t *testing.T, choice []string, cpu bool, fakes ...*fakeGPU) *Engine {
	t.Helper()
	eng, err := Open(t.Context(), &Config{Devices: []string{"cpu"}, Tiles: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	eng.config.Devices = choice
	if !cpu {
		eng.devices = nil
	}
	for i, d := range fakes {
		d.Device, d.id = eng.spare, fmt.Sprintf("gpu%d", i)
		eng.devices = append(eng.devices, d)
	}
	return eng
}

// TestDeviceChoice has a product of float64 that takes the CPU a while be put on
// devices.
func TestDeviceChoice(t *testing.T) {
	sooner, later := func() *fakeGPU { return &fakeGPU{} }, func() *fakeGPU { return &fakeGPU{takes: time.Hour} }
	of := func(s device.Support) *fakeGPU { return &fakeGPU{support: s} }
	gpu0, both, everything := []string{"gpu0"}, []string{"cpu", "gpu0"}, []string{"cpu", "gpu0", "gpu1"}
	for name, test := range map[string]struct {
		choice []string
		cpu    bool
		fakes  []*fakeGPU
		want   []string
		err    error
	}{
		"only the CPU":            {[]string{"cpu"}, true, nil, nil, nil},
		"default, sooner":         {nil, false, []*fakeGPU{sooner()}, gpu0, nil},
		"auto, sooner":            {[]string{"auto"}, false, []*fakeGPU{sooner()}, gpu0, nil},
		"auto, later":             {[]string{"auto"}, false, []*fakeGPU{later()}, nil, nil},
		"auto, one sooner":        {[]string{"auto"}, false, []*fakeGPU{later(), sooner()}, []string{"gpu0", "gpu1"}, nil},
		"auto, no float64":        {[]string{"auto"}, false, []*fakeGPU{of(device.None)}, nil, nil},
		"auto, inexact":           {[]string{"auto"}, false, []*fakeGPU{of(device.Inexact)}, nil, nil},
		"auto, one has float64":   {[]string{"auto"}, false, []*fakeGPU{sooner(), of(device.None)}, gpu0, nil},
		"all, sooner":             {[]string{"all"}, true, []*fakeGPU{sooner()}, both, nil},
		"all, later":              {[]string{"all"}, true, []*fakeGPU{later()}, nil, nil},
		"all, inexact":            {[]string{"all"}, true, []*fakeGPU{of(device.Inexact)}, nil, nil},
		"gpu, later":              {[]string{"gpu"}, false, []*fakeGPU{later()}, gpu0, nil},
		"gpu, inexact":            {[]string{"gpu"}, false, []*fakeGPU{of(device.Inexact)}, nil, ErrDevice},
		"its id, inexact":         {[]string{"gpu0"}, false, []*fakeGPU{of(device.Inexact)}, gpu0, nil},
		"its id, no float64":      {[]string{"gpu0"}, false, []*fakeGPU{of(device.None)}, nil, ErrDevice},
		"cpu and gpu, later":      {[]string{"cpu", "gpu"}, true, []*fakeGPU{later(), later()}, everything, nil},
		"cpu and gpu, no float64": {[]string{"cpu", "gpu"}, true, []*fakeGPU{of(device.None)}, nil, nil},
		"auto and its id, later":  {[]string{"auto", "gpu0"}, false, []*fakeGPU{later()}, gpu0, nil},
	} {
		eng := openFake(t, test.choice, test.cpu, test.fakes...)
		who, err := eng.spreadOver(&kernels.MatMul[float64]{M: 500, N: 500, K: 500, Alpha: 1})
		var got []string
		for _, d := range who.devices {
			got = append(got, d.ID())
		}
		if !slices.Equal(got, test.want) || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, error %v, want %v, error %v", name, got, err, test.want, test.err)
		}
		if who, err := eng.spreadOver(&kernels.MatMul[float64]{M: 500, K: 500, Alpha: 1}); !who.none() || err != nil {
			t.Errorf("%s: a product without elements goes to %v, error %v", name, who, err)
		}
	}
}

// square is the product of two matrices of one size, with beta times a third.
type square[T float32 | float64] struct {
	n       int
	a, b, c []T
	beta    T
}

func newSquare[T float32 | float64](rng *rand.Rand, n int, beta T) *square[T] {
	s := &square[T]{n: n, beta: beta}
	for _, x := range []*[]T{&s.a, &s.b, &s.c} {
		*x = make([]T, n*n)
		for i := range *x {
			(*x)[i] = T(rng.NormFloat64())
		}
	}
	return s
}

// gemm has eng compute s, and returns the result.
func (s *square[T]) gemm(ctx context.Context, eng *Engine) ([]T, error) {
	c := slices.Clone(s.c)
	of := func(x []T) matrix[T] { return matrix[T]{s.n, s.n, s.n, x} }
	var run any = compute[float64](eng.spare.MatMul64)
	if _, narrow := any(c).([]float32); narrow {
		run = compute[float32](eng.spare.MatMul32)
	}
	err := gemm(ctx, eng, run.(compute[T]), blas.NoTrans, blas.Trans, 1, of(s.a), of(s.b), s.beta, of(c))
	return c, err
}

// blas is gemm through BLAS.
func (s *square[T]) blas(eng *Engine) []T {
	out := slices.Clone(s.c)
	switch c := any(out).(type) {
	case []float64:
		a, b := any(s.a).([]float64), any(s.b).([]float64)
		eng.BLAS().Dgemm(blas.NoTrans, blas.Trans, s.n, s.n, s.n, 1, a, s.n, b, s.n, float64(s.beta), c, s.n)
	case []float32:
		a, b := any(s.a).([]float32), any(s.b).([]float32)
		eng.BLAS().Sgemm(blas.NoTrans, blas.Trans, s.n, s.n, s.n, 1, a, s.n, b, s.n, float32(s.beta), c, s.n)
	}
	return out
}

// TestFallback has GPUs fail, with and without the old C in the sum: what the engine
// chose is computed on the CPU then, and what was named is an error, but not in BLAS.
func TestFallback(t *testing.T) {
	testFallback[float32](t)
	testFallback[float64](t)
}

func testFallback[T float32 | float64](t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, beta := range []T{0, 1, 0.5} {
		s := newSquare(rng, 90, beta)
		want, err := s.gemm(t.Context(), openFake(t, []string{"cpu"}, true))
		if err != nil {
			t.Fatal(err)
		}
		for name, fake := range map[string]func() *fakeGPU{
			"works":               func() *fakeGPU { return &fakeGPU{good: 100} },
			"fails after a tile":  func() *fakeGPU { return &fakeGPU{good: 1} },
			"fails after 5 tiles": func() *fakeGPU { return &fakeGPU{good: 5} },
			"does not begin":      func() *fakeGPU { return &fakeGPU{refuses: true} },
		} {
			for _, choice := range [][]string{nil, {"gpu0"}} {
				what := fmt.Sprintf("%T, β = %v, a GPU of %v that %s", beta, beta, choice, name)
				d := fake()
				eng := openFake(t, choice, false, d)
				if got := s.blas(eng); !slices.Equal(got, want) || d.begun.Load() == 0 {
					t.Errorf("%s: BLAS is wrong, or did not ask it", what)
				}
				d = fake()
				eng = openFake(t, choice, false, d)
				got, err := s.gemm(t.Context(), eng)
				if choice != nil && name != "works" {
					if !errors.Is(err, ErrTileFailed) && !errors.Is(err, ErrNoDevice) || !errors.Is(err, errFake) {
						t.Errorf("%s: the error is %v", what, err)
					}
					continue
				}
				if err != nil || !slices.Equal(got, want) || d.begun.Load() == 0 {
					t.Errorf("%s: the product is wrong, error %v", what, err)
				}
				checkFallbackReport(t, eng.Report(), name != "works", what)
			}
		}
	}
}

// checkFallbackReport checks who is said to have computed a product.
func checkFallbackReport(t *testing.T, r *Report, failed bool, what string) {
	t.Helper()
	if !failed {
		if len(r.Devices) != 1 || r.Devices[0].ID != "gpu0" || r.Devices[0].SetAside != "" {
			t.Errorf("%s: the devices are %+v", what, r.Devices)
		}
		return
	}
	if len(r.Devices) != 2 || r.Devices[0].ID != "cpu" || r.Devices[0].Share != 1 || r.Devices[1].ID != "gpu0" ||
		r.Devices[1].Share != 0 || r.Devices[1].SetAside == "" || r.Flops != 2*90*90*90 {
		t.Errorf("%s: the report is %+v", what, r)
	}
}

// TestSpreadStops checks that the CPU does not go on where ctx is done.
func TestSpreadStops(t *testing.T) {
	s := newSquare[float64](rand.New(rand.NewPCG(9, 9)), 90, 0.5)
	for _, choice := range [][]string{nil, {"gpu0"}} {
		ctx, cancel := context.WithCancel(t.Context())
		d := &fakeGPU{onTile: cancel}
		eng := openFake(t, choice, false, d)
		if _, err := s.gemm(ctx, eng); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: the error is %v", choice, err)
		}
		if r := eng.Report(); r == nil || r.Devices[0].ID != "gpu0" || r.Flops != 0 {
			t.Errorf("%v: the report is %+v", choice, r)
		}
	}
}

// TestSpreadMemory checks what happens without memory for the copy of C.
func TestSpreadMemory(t *testing.T) {
	s := newSquare[float64](rand.New(rand.NewPCG(9, 9)), 90, 0.5)
	want, err := s.gemm(t.Context(), openFake(t, []string{"cpu"}, true))
	if err != nil {
		t.Fatal(err)
	}
	defer func(before func() int64) { totalMemory = before }(totalMemory)
	totalMemory = func() int64 { return 8 * 90 * 90 }
	d := &fakeGPU{good: 100}
	named, chosen := openFake(t, []string{"gpu0"}, false, d), openFake(t, nil, false, &fakeGPU{good: 100})
	if _, err := s.gemm(t.Context(), named); !errors.Is(err, ErrTooLarge) || d.begun.Load() != 0 {
		t.Errorf("without memory for a copy the error is %v", err)
	}
	if got, err := s.gemm(t.Context(), chosen); err != nil || !slices.Equal(got, want) {
		t.Errorf("without memory for a copy the CPU's product is wrong, error %v", err)
	}
	if !slices.Equal(s.blas(named), want) {
		t.Error("without memory for a copy BLAS is wrong")
	}
	s.beta = 0 // which needs none
	if _, err := s.gemm(t.Context(), named); err != nil {
		t.Error(err)
	}
}

// TestSmallProducts checks that they do not take memory, nor a device's time, unless
// the device was named.
func TestSmallProducts(t *testing.T) {
	d := &fakeGPU{good: 1 << 40}
	impl := openFake(t, nil, false, d).BLAS()
	for _, n := range []int{1, 5, 16, 33, 40} {
		s, s32 := newSquare[float64](rand.New(rand.NewPCG(1, 1)), n, 0), newSquare[float32](rand.New(rand.NewPCG(1, 1)), n, 0)
		got := testing.AllocsPerRun(50, func() {
			impl.Dgemm(blas.NoTrans, blas.NoTrans, n, n, n, 1, s.a, n, s.b, n, 1, s.c, n)
			impl.Sgemm(blas.NoTrans, blas.NoTrans, n, n, n, 1, s32.a, n, s32.b, n, 0, s32.c, n)
		})
		if got != 0 && !RaceEnabled {
			t.Errorf("products of %d×%d matrices beside a GPU allocate %v times", n, n, got)
		}
	}
	if d.asked.Load() != 0 || d.begun.Load() != 0 {
		t.Error("small products asked the GPU")
	}
	newSquare[float64](rand.New(rand.NewPCG(1, 1)), 64, 0).blas(impl.eng)
	if d.asked.Load() != 1 || d.begun.Load() != 1 {
		t.Error("a larger one did not go there")
	}
	d = &fakeGPU{good: 1 << 40}
	newSquare[float64](rand.New(rand.NewPCG(1, 1)), 16, 0).blas(openFake(t, []string{"gpu0"}, false, d))
	if d.begun.Load() != 1 {
		t.Error("a small product did not go to the GPU that was named")
	}
}

// TestHalvesStayHere checks that no part of a triangular or symmetric product is a job.
func TestHalvesStayHere(t *testing.T) {
	d := &fakeGPU{good: 1 << 40}
	impl := openFake(t, []string{"gpu0"}, false, d).BLAS()
	const n = 200
	s, s32 := newSquare[float64](rand.New(rand.NewPCG(1, 1)), n, 0), newSquare[float32](rand.New(rand.NewPCG(1, 1)), n, 0)
	impl.Dtrsm(blas.Left, blas.Lower, blas.NoTrans, blas.Unit, n, n, 1, s.a, n, s.b, n)
	impl.Dtrmm(blas.Right, blas.Upper, blas.Trans, blas.Unit, n, n, 1, s.a, n, s.b, n)
	impl.Dsyrk(blas.Lower, blas.Trans, n, n, 1, s.a, n, 1, s.c, n)
	impl.Strsm(blas.Left, blas.Lower, blas.NoTrans, blas.Unit, n, n, 1, s32.a, n, s32.b, n)
	impl.Strmm(blas.Right, blas.Upper, blas.Trans, blas.Unit, n, n, 1, s32.a, n, s32.b, n)
	impl.Ssyrk(blas.Lower, blas.Trans, n, n, 1, s32.a, n, 1, s32.c, n)
	if begun := d.begun.Load(); begun != 0 {
		t.Errorf("they began %d jobs", begun)
	}
}

// tunable is a GPU that can be tuned.
type tunable struct{ *fakeGPU }

func (tunable) TuneMatMul(_ context.Context, t kernels.DType, tell func(device.Trial)) (device.Trial, error) {
	tell(device.Trial{Flops: 1})
	best := device.Trial{Flops: 2}
	tell(best)
	return best, nil
}

// TestTuneTells checks whom Tune tells: nobody, if nobody asks.
func TestTuneTells(t *testing.T) {
	d := &fakeGPU{}
	eng := openFake(t, nil, false, d)
	eng.devices = []device.Device{tunable{d}}
	if err := eng.Tune(t.Context(), nil); err != nil {
		t.Error(err)
	}
	kept, told := 0, 0
	if err := eng.Tune(t.Context(), func(tried Trial) {
		told++
		if tried.Kept {
			kept++
		}
	}); err != nil || told != 6 || kept != 2 {
		t.Errorf("it told of %d trials, of which %d were kept, error %v", told, kept, err)
	}
}
