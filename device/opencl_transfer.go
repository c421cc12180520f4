package device

import (
	"context"

	"github.com/gpurun/gpurun/device/internal/cl"
)

// wait returns a function that waits for what an Enqueue method returned.
func wait(ctx context.Context) func(*cl.Event, error) error {
	return func(e *cl.Event, err error) error {
		if err != nil {
			return err
		}
		defer e.Release()
		return e.Wait(ctx)
	}
}

// writeBuffer has fill write the first bytes of b: into staging, from where they are copied, or, if
// that is nil, where the device has them.
func writeBuffer(ctx context.Context, q *cl.Queue, b *cl.Buffer, bytes int64, staging *cl.Mapping, fill func([]byte) error) error {
	if staging != nil {
		if err := fill(staging.Bytes()[:bytes]); err != nil {
			return err
		}
		return wait(ctx)(q.EnqueueWriteBuffer(b, 0, staging, 0, bytes))
	}
	m, err := q.MapBuffer(b, cl.MAP_WRITE, 0, bytes)
	if err != nil {
		return err
	}
	defer m.Release()
	return fill(m.Bytes())
}

// readBuffer calls use with the first bytes of b: in staging, which they are copied to, or, if that is
// nil, where the device has them.
func readBuffer(ctx context.Context, q *cl.Queue, b *cl.Buffer, bytes int64, staging *cl.Mapping, use func([]byte)) error {
	if staging != nil {
		if err := wait(ctx)(q.EnqueueReadBuffer(b, 0, staging, 0, bytes)); err != nil {
			return err
		}
		use(staging.Bytes()[:bytes])
		return nil
	}
	m, err := q.MapBuffer(b, cl.MAP_READ, 0, bytes)
	if err != nil {
		return err
	}
	defer m.Release()
	use(m.Bytes())
	return nil
}
