package device

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
)

// TestTune tunes for a moment: the fastest that was tried is used from then on,
// also by the next process.
func TestTune(t *testing.T) {
	t.Setenv("GPURUN_CACHE", t.TempDir())
	d := openOpenCL(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var tried []Trial
	kept, err := d.TuneMatMul(ctx, kernels.Float32, func(x Trial) { tried = append(tried, x) })
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if len(tried) == 0 || tried[0].Launch != opencl.KnownMatMul(kernels.Float32, d.info.Kind == CPU, d.device.Name, d.device.Vendor) {
		t.Fatalf("tried %v, want the present launch first", tried)
	}
	seen := map[opencl.MatMul]bool{}
	for _, x := range tried {
		if x.Err != nil {
			t.Errorf("%v: %v", x.Launch, x.Err)
		}
		if x.Flops > kept.Flops || seen[x.Launch] {
			t.Errorf("%v was tried, with %g, and %v kept with %g", x.Launch, x.Flops, kept.Launch, kept.Flops)
		}
		seen[x.Launch] = true
	}
	if d.launch(kernels.Float32) != kept.Launch {
		t.Errorf("it uses %v, and found %v", d.launch(kernels.Float32), kept.Launch)
	}
	if next := d.loadLaunch(kernels.Float32); next != kept.Launch {
		t.Errorf("the next process uses %v, and this one found %v", next, kept.Launch)
	}
}

// TestTuningCache has what is in the cache be nonsense: it is as good as nothing.
func TestTuningCache(t *testing.T) {
	t.Setenv("GPURUN_CACHE", t.TempDir())
	d := openOpenCL(t, 0)
	want := opencl.KnownMatMul(kernels.Float64, d.info.Kind == CPU, d.device.Name, d.device.Vendor)
	for _, data := range []string{"", "nonsense", "{}", `{"rows":-1,"cols":7,"vector":3}`, `{"rows":1000000,"cols":32,"vector":16}`, `[1]`} {
		cacheStore(d.tuningName(kernels.Float64), []byte(data))
		if got := d.loadLaunch(kernels.Float64); got != want {
			t.Errorf("%q: it uses %v, want %v", data, got, want)
		}
	}
}

// TestTuneKeepsNothing tunes where the cache cannot be written to, which is said
// at once, and where it is off, which is no error.
func TestTuneKeepsNothing(t *testing.T) {
	d := openOpenCL(t, 0)
	t.Setenv("GPURUN_CACHE", "/dev/null/folder")
	tried := 0
	best, err := d.TuneMatMul(t.Context(), kernels.Float32, func(Trial) { tried++ })
	if err == nil || !strings.Contains(err.Error(), "set GPURUN_CACHE") || best.Flops != 0 || tried != 1 {
		t.Errorf("after %d trials it returned %+v, %v", tried, best, err)
	}
	t.Setenv("GPURUN_CACHE", "off")
	ctx, cancel := context.WithCancel(t.Context())
	best, err = d.TuneMatMul(ctx, kernels.Float32, func(Trial) { cancel() })
	if !errors.Is(err, context.Canceled) || best.Flops <= 0 || d.launch(kernels.Float32) != best.Launch {
		t.Errorf("without a cache it returned %+v, %v", best, err)
	}
}

// TestTuneInterrupted stops after some trials: what was best is stored already
// when the next is told of.
func TestTuneInterrupted(t *testing.T) {
	t.Setenv("GPURUN_CACHE", t.TempDir())
	d := openOpenCL(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var best Trial
	tried := 0
	kept, err := d.TuneMatMul(ctx, kernels.Float64, func(x Trial) {
		if next := d.loadLaunch(kernels.Float64); tried > 0 && next != best.Launch {
			t.Errorf("after %d trials %v is stored, and %v was best", tried, next, best.Launch)
		}
		if x.Flops > best.Flops {
			best = x
		}
		if tried++; tried == 4 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || tried != 4 || kept != best {
		t.Errorf("after %d trials it returned %+v, %v, and %+v was best", tried, kept, err, best)
	}
	if next := d.loadLaunch(kernels.Float64); next != best.Launch {
		t.Errorf("%v is stored, and %v was best", next, best.Launch)
	}
}

// TestTuneBudget has trials run out of the device's resources: they are refused,
// and nothing is taken from what comes after them.
func TestTuneBudget(t *testing.T) {
	t.Setenv("GPURUN_CACHE", t.TempDir())
	for _, op := range []string{"create buffer", "wait for kernel matmul"} {
		d := openOpenCL(t, 0)
		budget := d.ledger.Budget()
		failTimes(t, d, 1, op, cl.OUT_OF_RESOURCES)
		ctx, cancel := context.WithCancel(t.Context())
		var tried []Trial
		best, err := d.TuneMatMul(ctx, kernels.Float32, func(x Trial) {
			if tried = append(tried, x); len(tried) == 2 {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) || len(tried) != 2 || !errors.Is(tried[0].Err, cl.OUT_OF_RESOURCES) || tried[1].Err != nil {
			t.Errorf("%s: it tried %+v, and returned %v", op, tried, err)
		}
		if best != tried[1] || d.ledger.Budget() != budget {
			t.Errorf("%s: it kept %+v, with a budget of %d, and %d before", op, best, d.ledger.Budget(), budget)
		}
		d.Close()
	}
}

// TestTuneRefusesOtherBits has a kernel that is wrong where the easy product, which
// is timed, does not come.
func TestTuneRefusesOtherBits(t *testing.T) {
	d := openOpenCL(t, 0)
	m := d.launch(kernels.Float64)
	checks, err := newTuneChecks[float64](t.Context(), 64)
	if err != nil {
		t.Fatal(err)
	}
	if x := checks.try(t.Context(), d, m); x.Err != nil || x.Flops <= 0 {
		t.Fatal(x)
	}
	checks.timed.want[3] ^= 1
	if x := checks.try(t.Context(), d, m); x.Err == nil || x.Flops != 0 {
		t.Errorf("other bits are taken: %+v", x)
	}
	checks.timed.want[3] ^= 1

	wrong := m.Multiply()
	wrong.Source = strings.Replace(wrong.Source, "keep == 2", "keep == 3", 1) // C is not scaled
	c, err := d.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer c.release()
	right := c.programs[m.Multiply()]
	built, err := c.CreateProgramWithSource(wrong.Source, wrong.Options)
	if err != nil {
		t.Fatal(err)
	}
	c.programs[m.Multiply()] = built
	if x := checks.try(t.Context(), d, m); x.Err == nil || !strings.Contains(x.Err.Error(), "other bits") {
		t.Errorf("a wrong kernel is taken: %+v", x)
	}
	c.programs[m.Multiply()] = right
	built.Release()
}

// TestLaunchFits has devices on which there is too little room for what suits most
// of their sort.
func TestLaunchFits(t *testing.T) {
	t.Setenv("GPURUN_CACHE", t.TempDir())
	for _, room := range []struct {
		local int64
		items int
	}{{48 << 10, 256}, {16 << 10, 256}, {48 << 10, 64}, {16 << 10, 128}} {
		d := &openCLDevice{info: Info{Kind: GPU}, device: &cl.Device{
			Platform: &cl.Platform{}, LocalMem: room.local, MaxWorkGroupSize: room.items,
		}}
		for _, typ := range []kernels.DType{kernels.Float32, kernels.Float64} {
			known := opencl.KnownMatMul(typ, false, "", "")
			for _, from := range []string{"the table", "the cache"} {
				m := d.loadLaunch(typ)
				if m.Check() != nil || int64(m.LocalBytes()) > room.local || m.Group() > room.items {
					t.Errorf("%+v: from %s it takes %v, with %d bytes and %d items", room, from, m, m.LocalBytes(), m.Group())
				}
				if d.fits(known) != (m == known) {
					t.Errorf("%+v: it takes %v, and known is %v", room, m, known)
				}
				if err := d.storeLaunch(known); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestCandidates checks that every launch that is tried can work, and none twice.
func TestCandidates(t *testing.T) {
	for _, typ := range []kernels.DType{kernels.Float32, kernels.Float64} {
		for _, cpu := range []bool{true, false} {
			seen := map[opencl.MatMul]bool{}
			for _, m := range opencl.MatMulCandidates(typ, cpu, 32<<10, 128) {
				if m.Check() != nil || seen[m] || m.LocalBytes() > 32<<10 || m.Group() > 128 || (m.Depth == 0) != cpu {
					t.Errorf("%v in %v: %v", m, typ, m.Check())
				}
				seen[m] = true
			}
			if len(seen) < 10 {
				t.Errorf("there are %d candidates in %v", len(seen), typ)
			}
		}
	}
}
