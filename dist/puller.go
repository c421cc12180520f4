package dist

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// crew is the pullers of one device.
type crew struct {
	q       *queue
	device  *deviceUse
	runner  kernels.Runner
	pullers sync.WaitGroup
}

// work pulls tiles for p, has the runner compute them and answers, until there
// is no more work, or p is not needed any more.
//
// A Run that ends because its lease has (a duplicate was faster, the deadline
// passed, the job ended) is neither failed nor lost: the answer is refused,
// whatever it is.
func (c *crew) work(p *puller) {
	var own buffer
	lender, lends := c.runner.(lender)
	for {
		l, err := p.pull(c.q.ctx)
		if err != nil {
			return
		}
		for more := c.q.enlist(p); more != nil; more = c.q.enlist(p) {
			c.pullers.Go(func() { c.work(more) })
		}
		start := time.Now()
		used := &own
		if lends {
			used, err = lender.lend(l.ctx, l.tile, l.progress(), l.cameLate)
		} else {
			r := own.result(c.q.job, l.tile)
			r.Progress = l.progress()
			err = c.runner.Run(l.ctx, l.tile, r)
		}
		busy, computed := time.Since(start), err == nil
		var unverified error
		held := computed && c.q.verify != nil && c.q.hold()
		if held {
			unverified = c.q.verify(l.ctx, l.tile, &used.view)
		}
		switch {
		case errors.Is(unverified, ErrWrong):
			err = l.wrong(&used.view, busy, unverified)
		case unverified != nil:
			err = l.stop(fmt.Errorf("verifying the result of tile %v: %w", l.tile, unverified))
		case errors.Is(err, errOperand):
			err = l.stop(err)
		case err == nil:
			err = l.done(&used.view, busy)
		case errors.Is(err, ErrLost):
			err = l.lost(err)
		default:
			err = l.failed(err)
		}
		if computed && errors.Is(err, errRefused) {
			l.cameLate()
		}
		if held {
			c.q.putting.Done()
		}
		if lends && used != nil {
			lender.takeBack(used)
		}
	}
}

// hold makes Run wait for q.putting, or returns false if the job has ended: what is found
// out about a device while a result of it is verified must not come after Run.
func (q *queue) hold() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over {
		q.putting.Add(1)
	}
	return !q.over
}

// lender is a Runner whose results come in memory of its own. So nothing has
// to be copied, and a Run can end at once when a result is still coming in.
type lender interface {
	// lend does as Run does. Its result is the buffer's view, and valid until
	// takeBack. progress is as in kernels.Result. late, if it is not nil, is called when
	// a result comes, or begins to, after lend has returned with an error, until the
	// job has ended.
	lend(ctx context.Context, t kernels.Tile, progress, late func()) (*buffer, error)
	takeBack(b *buffer)
}

// buffer is memory for one result after another: fresh memory for each would
// cost more than the fastest devices take to compute it.
type buffer struct {
	largest *kernels.Result
	area    int
	view    kernels.Result
}

// result returns b's view, which now has the planes that job has for t. They
// share their memory with all results before, and hold what those left there.
// A buffer is for results of one job.
func (b *buffer) result(job kernels.Job, t kernels.Tile) *kernels.Result {
	area := t.Area()
	if b.largest == nil || area > b.area {
		b.largest, b.area = kernels.NewResult(job, t), area
	}
	b.view = kernels.Result{Planes: b.view.Planes[:0]}
	for _, plane := range b.largest.Planes {
		n := 0
		if b.area > 0 {
			n = len(plane) / b.area * area
		}
		b.view.Planes = append(b.view.Planes, plane[:n:n])
	}
	return &b.view
}
