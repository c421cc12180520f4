package device

import (
	"context"
	"errors"
	"testing"
	"time"

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

// TestTuneRefusesOtherBits has a trial whose result differs from the first one's.
func TestTuneRefusesOtherBits(t *testing.T) {
	d := openOpenCL(t, 0)
	p := &kernels.MatMul[float64]{M: 3, N: 2, K: 1, Alpha: 1, A: []float64{1, 2, 3}, LDA: 1, B: []float64{4, 5}, LDB: 2, LDC: 2}
	first := d.launch(kernels.Float64)
	var bits []byte
	if x := try(t.Context(), d, p, first, &bits); x.Err != nil || x.Flops <= 0 {
		t.Fatal(x)
	}
	bits[3] ^= 1
	if x := try(t.Context(), d, p, first, &bits); x.Err == nil || x.Flops != 0 {
		t.Errorf("other bits are taken: %+v", x)
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
