package gpurun

import (
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/loglimit"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Live returns the report of the job that runs, as far as it has come, or nil if none
// does, or its devices have not begun. In it Iterations, Flops and the devices' Shares and
// Rates are estimates by the costs of what is done, and Seconds is the time since the job
// began. Matrix products that the CPU computes in place are not shown.
func (e *Engine) Live() *Report {
	l := e.liveJob()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var r *Report
	if l.part != nil {
		r = l.part()
	}
	if l.whole != nil {
		r = l.whole(r)
	}
	if r != nil {
		r.Seconds = time.Since(l.start).Seconds()
	}
	return r
}

// liveJob is the job that runs, for Engine.Live.
type liveJob struct {
	start time.Time

	mu   sync.Mutex
	part func() *Report // of what runs: the job, or a band of it; nil if nothing does

	// whole, of an image, returns the report of the bands that are done and of part's,
	// if that is not nil. It is nil for other jobs.
	whole func(part *Report) *Report
}

// show makes whole what is shown of l.
func (l *liveJob) show(whole func(part *Report) *Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whole = whole
}

// between has do change, between two bands of an image, what whole is made from.
func (l *liveJob) between(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = nil
	do()
}

// liveJob returns the job that runs, or nil.
func (e *Engine) liveJob() *liveJob {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live
}

// setLive makes l the job that runs, or none if it is nil.
func (e *Engine) setLive(l *liveJob) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live = l
}

// observe has a run of job seen by Live, by the metrics and by the log, for which it sets
// opts. The caller, whose turn it is, calls end with what dist.Run returned.
func (e *Engine) observe(job kernels.Job, devices []device.Device, infos []Device, opts *dist.Options) (end func(*dist.Report, error)) {
	live := &dist.Live{}
	opts.Live, opts.Log = live, e.log
	work := workOf(job, opts.Cost)
	infos = slices.Clip(infos)
	l := e.liveJob()
	part := func() *Report {
		all := infos
		if e.cluster != nil {
			all = append(all, e.cluster.infos()...)
		}
		r := live.Report()
		if r == nil {
			return nil
		}
		out := newReport(job, r, devices, all)
		out.estimate(work)
		return out
	}
	l.mu.Lock()
	l.part = part
	l.mu.Unlock()
	e.metrics.Begin(live)
	bounds := job.Bounds()
	e.log.Debug("job begins", "kernel", job.Kernel(), "width", bounds.W, "height", bounds.H)
	return func(r *dist.Report, err error) {
		e.metrics.End(r)
		e.log.Debug("job ends", "kernel", job.Kernel(), "done", r.Done, "seconds", r.Makespan.Seconds(), "err", err)
	}
}

// workOf returns the operations that job takes, the elements that it has, or the iterations
// that it is expected to take by its cost.
func workOf(job kernels.Job, cost tiler.Cost) float64 {
	if p, ok := job.(productJob); ok {
		return p.Flops()
	}
	if _, ok := job.(*kernels.Custom); ok {
		return float64(job.Bounds().Area())
	}
	if cost == nil {
		return 0
	}
	return max(0, cost.Cost(job.Bounds())-pixelCost*float64(job.Bounds().Area()))
}

// estimate sets in r, of a run that goes on, the Shares of what is done, the Rates, and
// how much work that is; work is that of the whole run.
func (r *Report) estimate(work float64) {
	sum := 0.0
	for _, d := range r.Devices {
		sum += d.Share
	}
	if sum == 0 {
		return
	}
	for i := range r.Devices {
		r.Devices[i].Share /= sum
	}
	// Done lacks what is on its way to the sink. With that the work of a device, which is
	// its Rate times its BusySeconds, does not depend on what the others do.
	before := r.Resumed * r.Done
	done := before + sum*(1-before)
	r.Resumed = before / done
	switch r.Job {
	case "matmul":
		r.setFlops(work * done)
	case "custom":
		r.setElements(work * done)
	default:
		r.setWork(int64(work * done))
	}
}

// quiet returns log, or a silent one if it is nil. No message comes too often: what
// strangers on the network do must not fill a disk.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(loglimit.New(log.Handler()))
}

// liveHosts returns how many hosts are there.
func (e *Engine) liveHosts() int {
	if e.cluster == nil {
		return 0
	}
	return e.cluster.count()
}

// liveDone returns the part of the job that runs that is done, 0 if none does.
func (e *Engine) liveDone() float64 {
	if r := e.Live(); r != nil {
		return r.Done
	}
	return 0
}

// MetricsAddr returns the address at which e serves metrics, or nil.
func (e *Engine) MetricsAddr() net.Addr { return e.server.Addr() }

// MetricsAddr returns the address at which w serves metrics, or nil.
func (w *Worker) MetricsAddr() net.Addr { return w.server.Addr() }
