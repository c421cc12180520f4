package device

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	Err    error   // it does not compile, does not run, or gives other bits than the CPU
}

// Tuner is a device whose kernels can be launched in several ways.
type Tuner interface {
	Device

	// TuneMatMul tries ways to launch products in t, the present one first and then
	// unlike ones early, until all have been tried or ctx is done. It keeps the
	// fastest so far, in the cache for later processes too, unless the cache is off.
	// It tells of each trial, and returns the one that is kept, or one without Flops.
	// It ends with an error where nothing can be kept. Nothing else should use the
	// device meanwhile.
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
	var none kernels.MatMul[T]
	t := none.DType()
	if d.info.Support(t) == None {
		return best, unsupported(&none)
	}
	checks, err := newTuneChecks[T](ctx, d.tuneSide())
	if err != nil {
		return best, err
	}
	present := d.launch(t)
	candidates := []opencl.MatMul{present}
	for _, m := range opencl.MatMulCandidates(t, d.info.Kind == CPU, d.device.LocalMem, d.device.MaxWorkGroupSize) {
		if m != present {
			candidates = append(candidates, m)
		}
	}
	for _, m := range candidates {
		trial := checks.try(ctx, d, m)
		if ctx.Err() != nil {
			break
		}
		tell(trial)
		if trial.Flops <= best.Flops {
			continue
		}
		best = trial
		d.setLaunch(m)
		// At once: the process may be stopped at any time.
		if err := d.storeLaunch(m); err != nil {
			return Trial{}, err
		}
	}
	return best, ctx.Err()
}

// tuneChecks are what each launch has to compute as the CPU does: the product that
// is timed, and one that goes where that does not.
type tuneChecks[T float32 | float64] struct {
	odd, timed tuneCheck[T]
}

// tuneCheck is a product with the bits of its result.
type tuneCheck[T float32 | float64] struct {
	job  *kernels.MatMul[T]
	want []byte
}

// newTuneChecks returns checks of which the timed one has sides of n.
func newTuneChecks[T float32 | float64](ctx context.Context, n int) (*tuneChecks[T], error) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []T {
		x := make([]T, n)
		for i := range x {
			x[i] = T(rng.Float64() - 0.5)
		}
		return x
	}
	const rows, cols, steps = 517, 389, 131 // no multiple of any block or slab
	odd := &kernels.MatMul[T]{
		TransA: true, M: rows, N: cols, K: steps, Alpha: 1.1, Beta: 0.5,
		A: random(steps * rows), LDA: rows, B: random(steps * cols), LDB: cols, C: random(rows * cols), LDC: cols,
	}
	timed := &kernels.MatMul[T]{M: n, N: n, K: n, Alpha: 1, A: random(n * n), LDA: n, B: random(n * n), LDB: n, LDC: n}
	c := &tuneChecks[T]{odd: tuneCheck[T]{job: odd}, timed: tuneCheck[T]{job: timed}}
	return c, errors.Join(c.odd.ask(ctx), c.timed.ask(ctx))
}

// ask has the CPU say what the result is.
func (c *tuneCheck[T]) ask(ctx context.Context) error {
	cpu, err := OpenCPU(0)
	if err != nil {
		return err
	}
	defer cpu.Close()
	r, err := cpu.Begin(ctx, c.job)
	if err != nil {
		return err
	}
	defer r.Close()
	out := kernels.NewResult(c.job, c.job.Bounds())
	c.want = out.Planes[0]
	return r.Run(ctx, c.job.Bounds(), out)
}

// try measures m, if it passes both checks.
func (c *tuneChecks[T]) try(ctx context.Context, d *openCLDevice, m opencl.MatMul) Trial {
	const rounds = 3
	_, err := c.odd.try(ctx, d, m, 1)
	if err != nil {
		return Trial{Launch: m, Err: err}
	}
	flops, err := c.timed.try(ctx, d, m, rounds)
	return Trial{Launch: m, Flops: flops, Err: err}
}

// try computes the product some times and returns the operations a second of the
// fastest.
func (c *tuneCheck[T]) try(ctx context.Context, d *openCLDevice, m opencl.MatMul, rounds int) (flops float64, err error) {
	r := newMatMulRunner(d, c.job, m)
	r.state.fixed = true // a launch that asks too much of the device is no good
	if err := r.open(); err != nil {
		return 0, err
	}
	defer r.Close()
	out := kernels.NewResult(c.job, c.job.Bounds())
	for range rounds {
		r.speed = newSpeedometer(d.info.Kind, d.device.ComputeUnits, d.device.MaxClock, m.T)
		r.taken.Store(0)
		if err := r.Run(ctx, c.job.Bounds(), out); err != nil {
			return 0, err
		}
		if !bytes.Equal(out.Planes[0], c.want) {
			return 0, fmt.Errorf("%v computes other bits on this device than the CPU does: its driver is at fault", m)
		}
		flops = max(flops, c.job.Flops()/time.Duration(r.taken.Load()).Seconds())
	}
	return flops, nil
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
// known for devices such as d, or one that d has room for.
func (d *openCLDevice) loadLaunch(t kernels.DType) opencl.MatMul {
	if data := cacheLoad(d.tuningName(t)); data != nil {
		m := opencl.MatMul{T: t}
		if json.Unmarshal(data, &m) == nil && m.Check() == nil && d.fits(m) {
			return m
		}
	}
	known := opencl.KnownMatMul(t, d.info.Kind == CPU, d.device.Name, d.device.Vendor)
	if d.fits(known) {
		return known
	}
	if c := opencl.MatMulCandidates(t, d.info.Kind == CPU, d.device.LocalMem, d.device.MaxWorkGroupSize); len(c) > 0 {
		return c[0]
	}
	return known // the driver will say what is wrong with it
}

func (d *openCLDevice) fits(m opencl.MatMul) bool {
	return m.Fits(d.device.LocalMem, d.device.MaxWorkGroupSize)
}

func (d *openCLDevice) storeLaunch(m opencl.MatMul) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return cacheStore(d.tuningName(m.T), data)
}

// tuningName returns the cache's name of what tuning has found: for this device,
// driver and kernel.
func (d *openCLDevice) tuningName(t kernels.DType) string {
	m := opencl.KnownMatMul(t, d.info.Kind == CPU, "", "").Multiply()
	return cacheName("matmul launch", t.String(), m.Source, d.device.Name, d.device.Vendor, d.device.DriverVersion, d.device.Platform.Name)
}
