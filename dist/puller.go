package dist

import (
	"errors"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// work is the puller of a device on this machine: it pulls tiles, has runner
// compute them and answers, until there is no more work.
//
// A Run that ends because its lease has (a duplicate was faster, the deadline
// passed, the job ended) is neither failed nor lost: the answer is refused,
// whatever it is.
func (p *puller) work(runner kernels.Runner) {
	var buffer buffer
	for {
		l, err := p.pull(p.q.ctx)
		if err != nil {
			return
		}
		r := buffer.result(p.q.job, l.tile)
		start := time.Now()
		err = runner.Run(l.ctx, l.tile, r)
		busy := time.Since(start)
		switch {
		case err == nil:
			err = l.done(r, busy)
		case errors.Is(err, ErrLost):
			err = l.lost(err)
		default:
			err = l.failed(err)
		}
		_ = err // A refusal asks for nothing but the next pull.
	}
}

// buffer is memory for one result after another: fresh memory for each would
// cost more than the fastest devices take to compute it.
type buffer struct {
	largest *kernels.Result
	area    int
}

// result returns a result with the planes that job has for t. They share
// their memory with all results before, and hold what those left there.
func (b *buffer) result(job kernels.Job, t kernels.Tile) *kernels.Result {
	if b.largest == nil || t.Area() > b.area {
		b.largest, b.area = kernels.NewResult(job, t), t.Area()
	}
	r := &kernels.Result{}
	for i, d := range job.Planes() {
		n := t.Area() * d.Size()
		r.Planes = append(r.Planes, b.largest.Planes[i][:n:n])
	}
	return r
}
