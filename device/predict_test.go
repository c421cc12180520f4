package device

import (
	"testing"
	"time"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
)

// TestPredictGPU checks what a consumer's GPU, of which nothing has been measured,
// is taken to need: an RTX 4090, which does 82 TFLOP/s in float32 and 1.3 in
// float64.
func TestPredictGPU(t *testing.T) {
	d := newOpenCLDevice(Info{Kind: GPU, Units: 128, MaxAlloc: 6 << 30, Budget: 19 << 30}, &cl.Device{ComputeUnits: 128, MaxClock: 2520, Platform: &cl.Platform{}})
	d.opened.Store(true)
	const n = 8192
	for _, x := range []struct {
		job  kernels.Job
		best float64 // operations a second
	}{
		{&kernels.MatMul[float32]{M: n, N: n, K: n, Alpha: 1}, 82e12},
		{&kernels.MatMul[float64]{M: n, N: n, K: n, Alpha: 1}, 1.3e12},
	} {
		p := x.job.(product)
		least := seconds(p.Flops()/x.best + float64(p.Moved())/transferBytes)
		if took := d.Predict(x.job).Time; took < least || took > 4*least {
			t.Errorf("%v: it predicts %v, and the device needs %v", x.job.DType(), took, least)
		}
	}
}

// TestPredictBeginning checks that the first product counts what only that takes,
// so that a small one does not go to a device that is still to be opened.
func TestPredictBeginning(t *testing.T) {
	d := openOpenCL(t, 0)
	p := &kernels.MatMul[float64]{M: 1, N: 1, K: 1, Alpha: 1, A: []float64{1}, LDA: 1, B: []float64{1}, LDB: 1, LDC: 1}
	before := d.Predict(p).Time
	if _, err := runTiles(t.Context(), d, p, 1); err != nil {
		t.Fatal(err)
	}
	if after := d.Predict(p).Time; before < after+time.Second/2 || after > time.Second/10 {
		t.Errorf("it predicts %v before the first product and %v after", before, after)
	}
}
