package cl

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// A hundred rounds of open, build, run and close leave nothing behind.
func TestNoLeak(t *testing.T) {
	d := requireDevice(t)
	ledger := NewLedger(1 << 20)
	before := Live()
	round(t, d, ledger) // starts what threads the driver keeps
	goroutines := runtime.NumGoroutine()
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		round(t, d, ledger)
	}
	if after := Live(); len(before) != 0 || len(after) != 0 {
		t.Errorf("%v before, %v after", before, after)
	}
	if ledger.Used() != 0 {
		t.Errorf("%d bytes are still charged", ledger.Used())
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d after the first round", runtime.NumGoroutine(), goroutines)
}

// round opens d, runs a kernel, copies its result through a mapping and
// releases everything.
func round(t *testing.T, d *Device, ledger *Ledger) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, err := d.CreateContext(ledger)
	must(err)
	defer ctx.Release()
	q, err := ctx.CreateCommandQueue(0)
	must(err)
	defer q.Release()
	p, err := ctx.CreateProgramWithSource(spinSource, "")
	must(err)
	defer p.Release()
	k, err := p.CreateKernel("spin")
	must(err)
	defer k.Release()
	b, err := ctx.CreateBuffer(MEM_READ_WRITE, 4*64)
	must(err)
	defer b.Release()
	host, err := ctx.CreateBuffer(MEM_READ_WRITE|MEM_ALLOC_HOST_PTR, 4*64)
	must(err)
	defer host.Release()
	m, err := q.MapBuffer(host, MAP_READ, 0, 4*64)
	must(err)
	defer m.Release()

	must(k.SetArgs(b, uint32(1000)))
	run, err := q.EnqueueNDRangeKernel(k, nil, []int{64}, nil)
	must(err)
	defer run.Release()
	read, err := q.EnqueueReadBuffer(b, 0, m, 0, 4*64, run)
	must(err)
	defer read.Release()
	must(read.Wait(context.Background()))
}
