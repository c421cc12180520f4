package device

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
)

// Trial is one way to launch the kernel of matrix products, and how fast it was.
type Trial struct {
	Launch opencl.MatMul
	Flops  float64 // operations a second, without transfers; 0 after an error
	Err    error   // it does not compile, does not run, or gives other bits
}

// Tuner is a device whose kernels can be launched in several ways.
type Tuner interface {
	Device

	// TuneMatMul tries ways to launch products in t, the present one first, until
	// all have been tried or ctx is done, and keeps the fastest, for later
	// processes too. It tells of each trial, and returns the one that is kept, or one
	// without Flops. Nothing else should use the device meanwhile.
	TuneMatMul(ctx context.Context, t kernels.DType, tell func(Trial)) (Trial, error)
}

// tuneSide is the side of the matrices that trials multiply: large enough to keep
// the device busy for some milliseconds.
func (d *openCLDevice) tuneSide() int {
	if d.info.Kind == CPU {
		return 768
	}
	return 3072
}

func (d *openCLDevice) TuneMatMul(ctx context.Context, t kernels.DType, tell func(Trial)) (Trial, error) {
	if t == kernels.Float64 {
		return tuneMatMul[float64](ctx, d, tell)
	}
	return tuneMatMul[float32](ctx, d, tell)
}

func tuneMatMul[T float32 | float64](ctx context.Context, d *openCLDevice, tell func(Trial)) (best Trial, err error) {
	n := d.tuneSide()
	p := &kernels.MatMul[T]{M: n, N: n, K: n, Alpha: 1, LDA: n, LDB: n, LDC: n, A: make([]T, n*n), B: make([]T, n*n)}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range p.A {
		p.A[i], p.B[i] = T(rng.Float64()-0.5), T(rng.Float64()-0.5)
	}
	t := p.DType()
	if d.info.Support(t) == None {
		return best, unsupported(p)
	}
	present := d.launch(t)
	candidates := []opencl.MatMul{present}
	for _, m := range opencl.MatMulCandidates(t, d.info.Kind == CPU, d.device.LocalMem, d.device.MaxWorkGroupSize) {
		if m != present {
			candidates = append(candidates, m)
		}
	}
	var bits []byte
	for _, m := range candidates {
		trial := try(ctx, d, p, m, &bits)
		if ctx.Err() != nil {
			break
		}
		tell(trial)
		if trial.Flops > best.Flops {
			best = trial
		}
	}
	if best.Flops == 0 {
		d.setLaunch(present)
		return best, ctx.Err()
	}
	d.setLaunch(best.Launch)
	d.storeLaunch(best.Launch)
	return best, ctx.Err()
}

// try measures m on p. bits are those of the first trial, which all others must
// have too.
func try[T float32 | float64](ctx context.Context, d *openCLDevice, p *kernels.MatMul[T], m opencl.MatMul, bits *[]byte) Trial {
	trial := Trial{Launch: m}
	d.setLaunch(m)
	r, err := newOpenCLMatMul(d, p)
	if err != nil {
		trial.Err = err
		return trial
	}
	defer r.Close()
	out := kernels.NewResult(p, p.Bounds())
	for range 3 {
		r.speed = newSpeedometer(d.info.Kind, d.device.ComputeUnits, d.device.MaxClock, p.DType())
		r.taken.Store(0)
		if trial.Err = r.Run(ctx, p.Bounds(), out); trial.Err != nil {
			return trial
		}
		trial.Flops = max(trial.Flops, p.Flops()/time.Duration(r.taken.Load()).Seconds())
	}
	switch {
	case *bits == nil:
		*bits = out.Planes[0]
	case !bytes.Equal(*bits, out.Planes[0]):
		trial.Flops, trial.Err = 0, fmt.Errorf("%v computes other bits on this device: its driver is at fault", m)
	}
	return trial
}

// launch returns how products in t are launched.
func (d *openCLDevice) launch(t kernels.DType) opencl.MatMul {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.matMul[t]
	if !ok {
		m = d.loadLaunch(t)
		d.matMul[t] = m
	}
	return m
}

func (d *openCLDevice) setLaunch(m opencl.MatMul) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.matMul[m.T] = m
}

// loadLaunch returns the launch that tuning has found, or else the one that is
// known for devices such as d.
func (d *openCLDevice) loadLaunch(t kernels.DType) opencl.MatMul {
	if data := cacheLoad(d.tuningName(t)); data != nil {
		m := opencl.MatMul{T: t}
		if json.Unmarshal(data, &m) == nil && m.Check() == nil {
			return m
		}
	}
	return opencl.KnownMatMul(t, d.info.Kind == CPU, d.device.Name, d.device.Vendor)
}

func (d *openCLDevice) storeLaunch(m opencl.MatMul) {
	if data, err := json.Marshal(m); err == nil {
		cacheStore(d.tuningName(m.T), data)
	}
}

// tuningName returns the cache's name of what tuning has found: for this device,
// driver and kernel.
func (d *openCLDevice) tuningName(t kernels.DType) string {
	m := opencl.KnownMatMul(t, d.info.Kind == CPU, "", "").Multiply()
	return cacheName("matmul launch", t.String(), m.Source, d.device.Name, d.device.Vendor, d.device.DriverVersion, d.device.Platform.Name)
}
