package cl

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// The kernel turns for as many steps as it is told.
const spinSource = `
__kernel void spin(__global uint *out, uint steps)
{
	uint x = get_global_id(0);
	for (uint i = 0; i < steps; i++)
		x = x * 1664525u + 1013904223u;
	out[get_global_id(0)] = x;
}
`

// requireSpin returns the kernel spin, whose first argument is set.
func requireSpin(t testing.TB, ctx *Context) *Kernel {
	k := requireKernel(t, ctx, spinSource, "spin")
	if err := k.SetArg(0, requireBuffer(t, ctx, MEM_READ_WRITE, 4*64)); err != nil {
		t.Fatal(err)
	}
	return k
}

// spin enqueues k for so many steps.
func spin(t testing.TB, q *Queue, k *Kernel, steps uint32, wait ...*Event) *Event {
	t.Helper()
	if err := k.SetArg(1, steps); err != nil {
		t.Fatal(err)
	}
	e, err := q.EnqueueNDRangeKernel(k, nil, []int{64}, nil, wait...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// skipOclgrind skips a test that the simulator, a fine place for all others,
// cannot run.
func skipOclgrind(t *testing.T, ctx *Context, why string) {
	t.Helper()
	if ctx.device.Platform.Name == "Oclgrind" {
		t.Skip("Oclgrind: " + why)
	}
}

func TestWaitCancelled(t *testing.T) {
	ctx, q := requireContext(t)
	skipOclgrind(t, ctx, "it is too slow")
	k := requireSpin(t, ctx)
	// Long enough on any device to be still running when it is waited for.
	e := spin(t, q, k, 5_000_000)
	defer e.Release()

	done, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Wait(done); err != context.Canceled {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	switch err := e.Wait(brief); err {
	case context.DeadlineExceeded:
	case nil:
		t.Skip("this driver runs commands inside clFlush, so nothing can be cancelled")
	default:
		t.Fatal(err)
	}
	if status, err := e.Status(); status == COMPLETE || err != nil {
		t.Fatalf("status %v, %v", status, err)
	}
	if err := e.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if status, err := e.Status(); status != COMPLETE || err != nil {
		t.Fatalf("status %v, %v", status, err)
	}
}

// An event may be waited for when its queue is gone.
func TestWaitWithoutQueue(t *testing.T) {
	ctx, _ := requireContext(t)
	q, err := ctx.CreateCommandQueue(0)
	if err != nil {
		t.Fatal(err)
	}
	e := spin(t, q, requireSpin(t, ctx), 1000)
	defer e.Release()
	q.Release()
	if err := e.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// Callbacks that come after the event, the queue and the context are released
// find nothing.
func TestReleaseBeforeCompletion(t *testing.T) {
	d := requireDevice(t)
	for range 8 {
		ctx, err := d.CreateContext(NewLedger(1 << 20))
		if err != nil {
			t.Fatal(err)
		}
		q, err := ctx.CreateCommandQueue(0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ctx.CreateProgramWithSource(spinSource, "")
		if err != nil {
			t.Fatal(err)
		}
		k, err := p.CreateKernel("spin")
		if err != nil {
			t.Fatal(err)
		}
		b, err := ctx.CreateBuffer(MEM_READ_WRITE, 4*64)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.SetArg(0, b); err != nil {
			t.Fatal(err)
		}
		e := spin(t, q, k, 20_000)
		brief, cancel := context.WithTimeout(context.Background(), 100*time.Microsecond)
		_ = e.Wait(brief) // done or not: either may be
		cancel()
		e.Release()
		b.Release()
		k.Release()
		p.Release()
		q.Release()
		ctx.Release()
	}
	time.Sleep(20 * time.Millisecond) // for the last callbacks
}

// Many goroutines use one context, each with a queue and a kernel of its own,
// and several wait for one event.
func TestConcurrency(t *testing.T) {
	ctx, _ := requireContext(t)
	skipOclgrind(t, ctx, "it crashes when two threads flush")
	p, err := ctx.CreateProgramWithSource(spinSource, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := pull(ctx, p); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// pull runs some short kernels in a queue of its own.
func pull(ctx *Context, p *Program) error {
	q, err := ctx.CreateCommandQueue(0)
	if err != nil {
		return err
	}
	defer q.Release()
	k, err := p.CreateKernel("spin")
	if err != nil {
		return err
	}
	defer k.Release()
	for range 50 {
		b, err := ctx.CreateBuffer(MEM_READ_WRITE, 4*64)
		if err != nil {
			return err
		}
		if err := k.SetArgs(b, rand.Uint32N(1000)); err != nil {
			return err
		}
		e, err := q.EnqueueNDRangeKernel(k, nil, []int{64}, nil)
		if err != nil {
			return err
		}
		b.Release() // the command holds it
		errs := make(chan error, 3)
		for range cap(errs) {
			go func() { errs <- e.Wait(context.Background()) }()
		}
		for range cap(errs) {
			err = errors.Join(err, <-errs)
		}
		e.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// If the driver never calls back, polling finds the end.
func TestWaitWithoutCallback(t *testing.T) {
	ctx, q := requireContext(t)
	e := spin(t, q, requireSpin(t, ctx), 20_000)
	defer e.Release()
	e.waiter.once.Do(func() { e.waiter.done = make(chan struct{}) })
	if err := e.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}
