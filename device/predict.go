package device

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// product is a job whose operations are known: a kernels.MatMul.
type product interface {
	kernels.Job
	Flops() float64
	Moved() int64
}

// What a product is taken to need on a device until one has been measured. That
// of GPUs is hopeful in float32, so that they are tried. In float64 it is careful:
// most GPUs have 64 times fewer lanes there.
const (
	guessedCPUFlops   = 16e9 // of a core, in float64; twice that in float32
	guessedLanes32    = 128  // fused multiply-adds that a unit of a GPU begins in a cycle, in float32
	guessedLanes64    = 2    // and in float64
	transferBytes     = 8e9  // a second, to and from a device
	transferBeginning = 300 * time.Microsecond
	fileBytes         = 1e9 // a second, from and to files

	// openCLBeginning is for the first product alone: a context, and the compilation
	// of the kernels, which takes PoCL 3.1 as long while its cache is cold.
	openCLBeginning = time.Second
)

// rate is the operations a second that products on the CPU were last seen to
// reach, as the bits of a float64; 0 before the first.
type rate struct{ bits atomic.Uint64 }

// leastRated is how many operations tell something about the rate.
const leastRated = 1 << 27

// record learns from a product that had all threads.
func (r *rate) record(flops float64, took time.Duration) {
	if flops < leastRated || took <= 0 {
		return
	}
	now := flops / took.Seconds()
	if before, measured := r.now(); measured {
		now = (before + now) / 2
	}
	r.set(now)
}

// now returns the rate, and whether there is one.
func (r *rate) now() (perSecond float64, measured bool) {
	perSecond = math.Float64frombits(r.bits.Load())
	return perSecond, perSecond > 0
}

// set makes perSecond the rate that was seen.
func (r *rate) set(perSecond float64) { r.bits.Store(math.Float64bits(perSecond)) }

func (d *cpuDevice) Predict(job kernels.Job) Prediction {
	p, ok := job.(product)
	if !ok {
		return Prediction{}
	}
	perSecond, measured := d.rates[job.DType()].now()
	if !measured {
		perSecond = guessedCPUFlops * float64(d.info.Units) * 8 / float64(job.DType().Size())
	}
	computing := seconds(p.Flops() / perSecond)
	bytes := d.streamed(job)
	// Panels are read while others are multiplied.
	return Prediction{max(computing, seconds(float64(bytes)/fileBytes)), bytes}
}

// streamed returns the bytes that are moved for job if its operands are not in memory.
func (d *cpuDevice) streamed(job kernels.Job) int64 {
	switch p := job.(type) {
	case *kernels.MatMul[float32]:
		return cpuStreamed(d, p)
	case *kernels.MatMul[float64]:
		return cpuStreamed(d, p)
	}
	return 0
}

func cpuStreamed[T float32 | float64](d *cpuDevice, job *kernels.MatMul[T]) int64 {
	if !job.Streams() {
		return 0
	}
	plan, _, _ := planCPU(d, job) // or nothing, and Begin says so
	return int64(plan.Moved * float64(job.DType().Size()))
}

func (d *openCLDevice) Predict(job kernels.Job) Prediction {
	p, ok := job.(product)
	if !ok {
		return Prediction{}
	}
	perSecond, measured := d.products[job.DType()].now()
	if !measured && d.info.Kind != CPU {
		lanes := guessedLanes32
		if job.DType() == kernels.Float64 {
			lanes = guessedLanes64
		}
		megahertz := d.device.MaxClock
		if megahertz == 0 {
			megahertz = 1000
		}
		perSecond = float64(lanes) * float64(max(d.info.Units, 1)) * float64(megahertz) * 1e6
	}
	beginning := transferBeginning
	if !d.opened.Load() {
		beginning += openCLBeginning
	}
	computing := seconds(p.Flops() / 2 / perSecond)
	bytes, streams := d.moved(job, p.Moved())
	moving := seconds(float64(bytes) / transferBytes)
	if streams {
		// Panels are moved while others are multiplied.
		return Prediction{beginning + max(computing, moving), bytes}
	}
	return Prediction{beginning + computing + moving, bytes}
}

// moved returns the bytes that are moved for job, which are once if whole operands stay
// on the device, and whether they stream through it instead.
func (d *openCLDevice) moved(job kernels.Job, once int64) (bytes int64, streams bool) {
	switch p := job.(type) {
	case *kernels.MatMul[float32]:
		return openCLMoved(d, p, once)
	case *kernels.MatMul[float64]:
		return openCLMoved(d, p, once)
	}
	return once, false
}

func openCLMoved[T float32 | float64](d *openCLDevice, job *kernels.MatMul[T], once int64) (bytes int64, streams bool) {
	r := newMatMulRunner(d, job, d.launch(job.DType()))
	if r.steps == 0 || r.params.Check() != nil {
		return once, false
	}
	size, err := r.size(r.share(d.ledger.Budget() - d.ledger.Used()))
	if err != nil || size.resident {
		return once, false
	}
	return int64(size.moved * float64(job.DType().Size())), true
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s*1e9, math.MaxInt64/4))
}
