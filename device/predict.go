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
	if before := math.Float64frombits(r.bits.Load()); before > 0 {
		now = (before + now) / 2
	}
	r.bits.Store(math.Float64bits(now))
}

func (d *cpuDevice) Predict(job kernels.Job) time.Duration {
	p, ok := job.(product)
	if !ok {
		return 0
	}
	perSecond := math.Float64frombits(d.rates[job.DType()].bits.Load())
	if perSecond == 0 {
		perSecond = guessedCPUFlops * float64(d.info.Units) * 8 / float64(job.DType().Size())
	}
	return seconds(p.Flops() / perSecond)
}

func (d *openCLDevice) Predict(job kernels.Job) time.Duration {
	p, ok := job.(product)
	if !ok {
		return 0
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
	return beginning + seconds(float64(p.Moved())/transferBytes) + seconds(p.Flops()/2/perSecond)
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s*1e9, math.MaxInt64/4))
}
