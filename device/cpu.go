package device

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/klauspost/cpuid/v2"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

// defaultShare is the part of a device's memory that the budget is without --mem.
const defaultShare = 0.8

// cpuDevice computes on all cores that GOMAXPROCS allows.
type cpuDevice struct {
	info    Info
	capped  bool // the budget was chosen, and not left to us
	variant cpu.Variant
	rates   map[kernels.DType]*rate // of products
	loaded  map[string]float64      // what the cache had of them
	peak    atomic.Int64

	mu      sync.Mutex
	customs int64 // bytes that kernels of users take
}

// newCPU returns the CPU as a device. memory caps its budget if it is positive.
func newCPU(memory int64) (Multiplier, error) {
	if err := cpu.Check(); err != nil {
		return nil, err
	}
	return newCPUVariant(cpu.Best(), memory), nil
}

func newCPUVariant(v cpu.Variant, memory int64) *cpuDevice {
	d := &cpuDevice{
		variant: v, info: newCPUInfo(memory), capped: memory > 0,
		rates: map[kernels.DType]*rate{kernels.Float32: {}, kernels.Float64: {}},
	}
	d.info.Driver = string(v)
	d.loaded = loadRates(d.ratesName(), d.measurables())
	return d
}

func newCPUInfo(memory int64) Info {
	total := TotalMemory()
	name := cpuid.CPU.BrandName
	if name == "" {
		name = runtime.GOARCH
	}
	return Info{
		ID: "cpu", Kind: CPU, Backend: BackendCPU,
		Name: name, Driver: string(cpu.Best()),
		Units:  runtime.GOMAXPROCS(0),
		Memory: total, MaxAlloc: total, Budget: budget(total, memory),
		Float32: Exact, Float64: Exact,
	}
}

// TotalMemory returns the bytes of memory that this machine has, or those that a control
// group leaves this process, as in a container or in a job of Slurm's, if they are fewer.
// It is the largest int64 if neither can be told.
func TotalMemory() int64 {
	total := uint64(math.MaxInt64)
	if m, err := mem.VirtualMemory(); err == nil && m.Total > 0 {
		total = min(total, m.Total)
	}
	if limit, err := memlimit.FromCgroup(); err == nil && limit > 0 {
		total = min(total, limit)
	}
	return int64(total)
}

// budget returns the bytes that a job may take: what was chosen, or else no more than
// a share of what other programs leave.
func (d *cpuDevice) budget() int64 {
	if m, err := mem.VirtualMemory(); err == nil && !d.capped && m.Available > 0 {
		return min(d.info.Budget, int64(defaultShare*float64(m.Available)))
	}
	return d.info.Budget
}

// budget returns the lesser of limit, if it is positive, and the default share
// of total.
func budget(total, limit int64) int64 {
	b := int64(defaultShare * float64(total))
	if limit > 0 {
		b = min(b, limit)
	}
	return b
}

// cpuSlots keeps the cores busy while the result of a tile is put in its place,
// which one core does.
const cpuSlots = 2

func (d *cpuDevice) Info() Info       { return d.info }
func (d *cpuDevice) ID() string       { return d.info.ID }
func (d *cpuDevice) Slots() int       { return cpuSlots }
func (d *cpuDevice) PeakBytes() int64 { return d.peak.Load() }

func (d *cpuDevice) Close() error {
	storeRates(d.ratesName(), d.loaded, d.measurables())
	return nil
}

// notePeak notes what a job takes beside what the caller has in memory.
func (d *cpuDevice) notePeak(bytes int64) {
	for before := d.peak.Load(); bytes > before && !d.peak.CompareAndSwap(before, bytes); before = d.peak.Load() {
	}
}

func (d *cpuDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.info.Support(job.DType()) != None {
		switch job := job.(type) {
		case *kernels.Mandelbrot:
			return &cpuMandelbrot{variant: d.variant, job: job}, nil
		case *kernels.MatMul[float32]:
			return newCPUMatMul(d, job, d.MatMul32)
		case *kernels.MatMul[float64]:
			return newCPUMatMul(d, job, d.MatMul64)
		case *kernels.Custom:
			r, err := newCPUCustom(d, job)
			if err != nil {
				return nil, err // and no Runner that is none
			}
			return r, nil
		}
	}
	return nil, unsupported(job)
}

// cpuMandelbrot runs Mandelbrot tiles: the cores pull chunks of the tile, so
// that they finish together however uneven it is.
type cpuMandelbrot struct {
	variant cpu.Variant
	job     *kernels.Mandelbrot
}

func (r *cpuMandelbrot) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	if t.Area() > math.MaxUint32 {
		return fmt.Errorf("tile %v has more than %d pixels: use more tiles", t, uint32(math.MaxUint32))
	}
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()

	cores := min(runtime.GOMAXPROCS(0), (t.Area()+chunkMultiple-1)/chunkMultiple)
	chunks := chunks{n: int64(t.Area()), cores: int64(cores)}
	var wg sync.WaitGroup
	for range cores {
		wg.Go(func() { r.variant.Mandelbrot(r.job, t, out, chunks.pull, &stop) })
	}
	wg.Wait()
	return ctx.Err()
}

// chunks deals out the pixels of a tile, in chunks that become smaller towards its
// end (C. Polychronopoulos and D. Kuck, "Guided Self-Scheduling", 1987).
type chunks struct {
	n, cores int64
	next     atomic.Int64
}

const (
	// A core gets one part in chunkShare of its even share of the pixels that are
	// left at once: less than all, since some pixels take a thousand times as
	// long as others.
	chunkShare = 16

	// chunkMultiple is how many orbits the kernels begin at once.
	chunkMultiple = 64
)

// pull returns the next pixels, from … to−1.
func (c *chunks) pull() (from, to int) {
	for {
		next := c.next.Load()
		if next >= c.n {
			return 0, 0
		}
		size := max((c.n-next)/(c.cores*chunkShare)/chunkMultiple, 1) * chunkMultiple
		end := min(next+size, c.n)
		if c.next.CompareAndSwap(next, end) {
			return int(next), int(end)
		}
	}
}

func (r *cpuMandelbrot) Close() error { return nil }
