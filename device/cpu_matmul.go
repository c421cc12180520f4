package device

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// Multiplier is a device that computes matrix products in the memory of this
// process: the CPU.
//
// Several products may be computed at the same time. Each takes as many threads
// as are its share of GOMAXPROCS when it begins; a small one takes the calling
// goroutine alone, allocates nothing, and waits for nobody.
type Multiplier interface {
	Device

	// MatMul32 computes p. It returns false, with p.C undefined, if stop became
	// true before it was done, which takes a few milliseconds; nothing writes to
	// p.C after it has returned.
	MatMul32(p kernels.MatMul[float32], stop *atomic.Bool) bool

	// MatMul64 is MatMul32 in float64.
	MatMul64(p kernels.MatMul[float64], stop *atomic.Bool) bool
}

// large is how many products are being computed that may take several threads,
// by all devices of this process: they share its cores.
var large atomic.Int64

// largeFlops is from where on a product counts as large. What is smaller is not
// worth another goroutine in any variant.
const largeFlops = 1 << 17

// takeThreads returns how many threads a product of so many operations may
// take. The caller gives them back.
func takeThreads(flops float64) int {
	if flops < largeFlops {
		return 1
	}
	n := int(large.Add(1))
	return (runtime.GOMAXPROCS(0) + n - 1) / n
}

func giveThreadsBack(flops float64) {
	if flops >= largeFlops {
		large.Add(-1)
	}
}

func (d *cpuDevice) MatMul32(p kernels.MatMul[float32], stop *atomic.Bool) bool {
	flops := p.Flops()
	threads := takeThreads(flops)
	defer giveThreadsBack(flops)
	start := time.Now()
	done := d.variant.Gemm32(p.TransA, p.TransB, p.M, p.N, p.K, p.Alpha, p.A, p.LDA, p.B, p.LDB, p.Beta, p.C, p.LDC, threads, stop)
	if done && threads == d.info.Units {
		d.rates[kernels.Float32].record(flops, time.Since(start))
	}
	return done
}

func (d *cpuDevice) MatMul64(p kernels.MatMul[float64], stop *atomic.Bool) bool {
	flops := p.Flops()
	threads := takeThreads(flops)
	defer giveThreadsBack(flops)
	start := time.Now()
	done := d.variant.Gemm64(p.TransA, p.TransB, p.M, p.N, p.K, p.Alpha, p.A, p.LDA, p.B, p.LDB, p.Beta, p.C, p.LDC, threads, stop)
	if done && threads == d.info.Units {
		d.rates[kernels.Float64].record(flops, time.Since(start))
	}
	return done
}

func newCPUMatMul[T float32 | float64](d *cpuDevice, job *kernels.MatMul[T], compute func(kernels.MatMul[T], *atomic.Bool) bool) (kernels.Runner, error) {
	if job.Streams() {
		return newCPUMatMulStream(d, job, compute)
	}
	return &cpuMatMul[T]{job: job, compute: compute, turns: make(chan struct{}, min(cpuSlots, runtime.GOMAXPROCS(0)))}, nil
}

// cpuMatMul computes tiles of a product, as products of their own.
type cpuMatMul[T float32 | float64] struct {
	job     *kernels.MatMul[T]
	compute func(kernels.MatMul[T], *atomic.Bool) bool

	// turns holds a token for each tile that is computed: no more than there are cores,
	// whose caches have room for the panels of one product.
	turns chan struct{}
}

func (r *cpuMatMul[T]) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	if t.Empty() {
		return ctx.Err()
	}
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	p := r.job.Part(t)
	c := kernels.Elements[T](out.Planes[0])
	if p.Beta != 0 {
		for i := range t.H {
			copy(c[i*t.W:][:t.W], p.C[i*p.LDC:])
		}
	}
	p.C, p.LDC = c, t.W
	defer keepAdvancing(out)()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !r.compute(p, &stop) {
		return ctx.Err()
	}
	return nil
}

func (r *cpuMatMul[T]) Close() error { return nil }

// advanceEvery is how often a tile that is one call of a kernel, which cannot be
// seen to come on, shows that it does.
const advanceEvery = time.Second

// keepAdvancing advances out until stop is called.
func keepAdvancing(out *kernels.Result) (stop func()) {
	if out.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(advanceEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				out.Advance()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
