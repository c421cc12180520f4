package dist

import (
	"context"
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// How long Run waits for the devices to stop once the job has ended.
const (
	// drainLimit: a device that takes longer is named in the report.
	drainLimit = time.Second

	// cancelLimit applies when the caller's context is done: Run is to return
	// within 100 ms of that.
	cancelLimit = 90 * time.Millisecond
)

// Run computes job on devices and puts every element of the result into sink
// exactly once. The report is never nil; after an error it says how far the
// job came.
//
// Errors: ctx's own error if ctx is done before the job; what the sink
// returned, wrapped; or a *JobError with the reason ErrTileFailed or
// ErrNoDevice and every cause. A device that cannot begin, that fails three
// tiles running (or says that they are lost), or that does not stop when it is
// told to is set aside and named in the report, and the others do its work.
//
// No Put and no call of Progress is under way when Run returns, and none
// begins after. Every Runner has then been closed, unless that takes too
// long: once ctx is done Run waits at most 90 ms for the devices, and once
// the job has ended otherwise a second. What a device still does then it does
// in memory of its own, and its Runner is closed when it stops.
func Run(ctx context.Context, job kernels.Job, devices []Device, sink Sink, opts Options) (*Report, error) {
	q := newQueue(job, sink, opts)
	if opts.Live != nil {
		opts.Live.queue.Store(q)
	}
	var uses []*deviceUse
	var taken []Device
	for _, d := range devices {
		if use, _ := q.take(d); use != nil {
			uses, taken = append(uses, use), append(taken, d)
		}
	}
	switch {
	case ctx.Err() != nil:
		q.stop(ctx.Err())
	case len(taken) == 0:
		q.mu.Lock()
		q.lookForDevices()
		q.mu.Unlock()
	}
	unwatch := context.AfterFunc(ctx, func() { q.stop(ctx.Err()) })
	defer unwatch()

	logged := q.logMessages()
	var serving sync.WaitGroup
	select {
	case <-q.ended: // nothing to do, or nothing to do it with
	default:
		for i, d := range taken {
			serving.Go(func() { q.serve(d, uses[i]) })
		}
		serving.Go(func() { q.admit(opts.Join, &serving) })
	}
	<-q.ended
	q.putting.Wait()
	q.drain(ctx, &serving)
	logged()
	if q.err == nil {
		q.progress.finish()
	}
	report := q.report()
	report.Spans = q.allSpans()
	return report, q.err
}

// admit takes the devices that come into the job, until it has ended.
func (q *queue) admit(join <-chan Device, serving *sync.WaitGroup) {
	for {
		select {
		case <-q.ended:
			return
		case d, ok := <-join:
			if !ok {
				join = nil
				continue
			}
			switch use, declined := q.take(d); {
			case use != nil:
				serving.Go(func() { q.serve(d, use) })
			case declined:
				q.mu.Lock()
				q.lookForDevices() // that it has come does not end the waiting
				q.mu.Unlock()
			}
		}
	}
}

// serve has d work on the job until there is no more work for it.
func (q *queue) serve(d Device, use *deviceUse) {
	runner, err := d.Begin(q.ctx, q.job)
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.setAside(use, &DeviceError{Device: use.id, Op: "beginning the job", Err: err})
		use.serving = false
		return
	}
	if g, ok := runner.(Gridded); ok {
		grid := g.Grid()
		q.mu.Lock()
		use.lines = newOperandLines(q.job.Bounds())
		if use.grid = &grid; use.reads() {
			if use.inUse() {
				q.slots -= use.slots - 1
			}
			use.slots = 1
		}
		q.mu.Unlock()
	}
	c := &crew{q: q, device: use, runner: runner}
	if deep, ok := d.(interface{ depth() int }); ok && q.fixed {
		use.most = min(deep.depth(), use.slots+spareBytes/max(1, q.fixedBytes))
	}
	for slot := range use.slots {
		p := q.join(use, slot)
		c.pullers.Go(func() { c.work(p) })
	}
	c.pullers.Wait()
	err = runner.Close()

	q.mu.Lock()
	defer q.mu.Unlock()
	use.serving = false
	if err != nil && use.aside == nil {
		use.putAside(&DeviceError{Device: use.id, Op: "closing the job", Err: err})
	}
}

// drain waits, within limits, until no device works on the job any more, and
// names those that do not stop.
func (q *queue) drain(ctx context.Context, serving *sync.WaitGroup) {
	stopped := make(chan struct{})
	go func() {
		serving.Wait()
		close(stopped)
	}()
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	select {
	case <-stopped:
	case <-ctx.Done():
		limit.Reset(cancelLimit)
		select {
		case <-stopped:
		case <-limit.C:
		}
	case <-limit.C:
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, use := range q.devices {
			if use.serving && use.aside == nil {
				use.putAside(&DeviceError{Device: use.id, Op: "stopping", Err: errHung})
			}
		}
	}
}
