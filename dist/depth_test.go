package dist

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// deepQueue returns a queue of fixed tiles, and a puller for each slot of its
// first device, which can have most tiles at a time.
func deepQueue(tiles, devices, slots, most int) (q *queue, pullers []*puller) {
	job := fakeJob{tiles, 1}
	q = newQueue(job, newCheckSink(job), Options{Tiles: tiles})
	for i := range devices {
		d := q.use("device", slots)
		if i > 0 {
			continue
		}
		d.most = most
		for slot := range slots {
			pullers = append(pullers, q.join(d, slot))
		}
	}
	return q, pullers
}

func TestDepth(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		tiles, devices, slots, most int
		overhead, tile              time.Duration
		want                        int
	}{
		{1000, 1, 1, 256, 0, 10 * ms, 1},            // no way to speak of
		{1000, 1, 1, 256, 9 * ms, 10 * ms, 1},       // the tiles take longer
		{1000, 1, 1, 256, 10 * ms, 10 * ms, 2},      // one on the way for one at work
		{1000, 1, 3, 256, 55 * ms, 10 * ms, 8},      //
		{1000, 1, 2, 256, 100 * ms, ms, 102},        //
		{1000, 1, 2, 20, 100 * ms, ms, 20},          // no more than the device wants
		{1000, 1, 2, 256, time.Hour, 0, 256},        // a tile that takes no time
		{1000, 1, 2, 256, 50 * ms, 1, 256},          // or next to none
		{1000, 1, 1, 2, 100 * ms, ms, 2},            //
		{100, 1, 1, 256, 100 * ms, ms, 51},          // half of what there is
		{100, 2, 1, 256, 100 * ms, ms, 26},          // or of its share
		{100, 5, 2, 256, 100 * ms, ms, 12},          //
		{9, 5, 2, 256, 100 * ms, ms, 2},             // nothing to spare
		{2000, 1, 1, 256, 3 * time.Second, ms, 256}, //
	} {
		q, pullers := deepQueue(test.tiles, test.devices, test.slots, test.most)
		p := pullers[0]
		p.overhead, p.tile = test.overhead, test.tile
		if got := q.depth(p); got != test.want {
			t.Errorf("%+v: got %d", test, got)
		}
		var leases []*lease
		for range test.tiles {
			leases = append(leases, mustPull(t, p))
		}
		if got := q.depth(p); got != test.slots {
			t.Errorf("%+v: got %d where nothing is left", test, got)
		}
		for _, l := range leases { // what comes back counts as what has never been out
			if err := l.lost(errHung); err != nil {
				t.Fatal(err)
			}
			p.device.setback = 0
		}
		if got := q.depth(p); got != test.want {
			t.Errorf("%+v: got %d where all has come back", test, got)
		}
		q.stop(errHung)
	}
}

// checkPullers fails unless each puller of the device has a slot of its own, and
// as many work as it says.
func checkPullers(t *testing.T, q *queue, d *deviceUse, working map[*puller]bool) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	slots := map[int]bool{}
	for _, p := range q.pullers {
		if p.device == d {
			if slots[p.slot] || p.slot < 0 || p.slot >= len(q.pullers) {
				t.Fatalf("slot %d of %d is not only one's", p.slot, len(q.pullers))
			}
			slots[p.slot] = true
		}
	}
	for _, p := range d.resting {
		if working[p] {
			t.Fatalf("the puller of slot %d works and rests", p.slot)
		}
	}
	if len(working) != d.slots+d.spare || len(slots) != len(working)+len(d.resting) {
		t.Fatalf("%d work, and %d are said to; %d of %d rest", len(working), d.slots+d.spare, len(d.resting), len(slots))
	}
}

// TestSparePullersComeAndGo changes at random how far away a device seems, and
// has its pullers pull: there are as many as its depth says, once all have
// pulled, and those that went come again before new ones do.
func TestSparePullersComeAndGo(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, round))
			slots, most := 1+rng.IntN(3), 1+rng.IntN(30)
			q, pullers := deepQueue(2000, 1+rng.IntN(3), slots, most)
			d := pullers[0].device
			working := map[*puller]bool{}
			for _, p := range pullers {
				working[p] = true
			}
			for range 12 {
				overhead := time.Duration(rng.IntN(20)) * time.Millisecond
				for _, p := range bySlot(working) {
					p.overhead, p.tile = overhead, time.Millisecond
					p.rate = rate{1, 1}
				}
				want := max(slots, min(slots+int(overhead/time.Millisecond), most))
				turn(t, q, working)
				if len(working) != want {
					t.Fatalf("%d pullers work, want %d", len(working), want)
				}
				checkPullers(t, q, d, working)
			}
			if len(q.pullers) > max(slots, most) {
				t.Errorf("there are %d pullers for at most %d", len(q.pullers), max(slots, most))
			}
			q.stop(errHung)
		})
	}
}

// bySlot returns pullers in an order that follows from the seed, as that of a map
// does not.
func bySlot(pullers map[*puller]bool) []*puller {
	return slices.SortedFunc(maps.Keys(pullers), func(a, b *puller) int { return a.slot - b.slot })
}

// turn has each puller that works pull once, and answer, as work does.
func turn(t *testing.T, q *queue, working map[*puller]bool) {
	t.Helper()
	todo := bySlot(working)
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l, err := p.pull(ctx)
		if err != nil {
			if !p.spare() || err != errOver {
				t.Fatalf("the puller of slot %d got %v", p.slot, err)
			}
			delete(working, p)
			continue
		}
		for more := q.enlist(p); more != nil; more = q.enlist(p) {
			if working[more] || more.overhead != p.overhead || more.tile != p.tile || more.rate != p.rate {
				t.Fatalf("%+v was made from %+v", more, p)
			}
			working[more] = true
			todo = append(todo, more)
		}
		if err := l.lost(errors.New("again")); err != nil { // so that there is always enough
			t.Fatal(err)
		}
		p.device.setback = 0
	}
}

// TestNoSparePullers has pullers that get no company.
func TestNoSparePullers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := func(p *puller) *puller {
			p.overhead, p.tile = time.Second, time.Millisecond
			return p
		}
		q, pullers := deepQueue(100, 1, 2, 2)
		if q.enlist(far(pullers[0])) != nil {
			t.Error("a device that wants none got a spare puller")
		}
		q.stop(errHung)
		q, pullers = deepQueue(100, 2, 2, 50)
		mustPull(t, far(pullers[0]))
		q.mu.Lock()
		q.setAside(pullers[0].device, &DeviceError{})
		q.mu.Unlock()
		if q.enlist(pullers[0]) != nil {
			t.Error("a device that is set aside got a spare puller")
		}
		q.stop(errHung)
		q, pullers = deepQueue(100, 1, 2, 50)
		far(pullers[0])
		q.stop(errHung)
		if q.enlist(pullers[0]) != nil {
			t.Error("a job that has ended got a spare puller")
		}
	})
}

// TestASparePullerDoesNotWait checks that a spare puller that finds nothing goes
// to rest, where the others wait for what may come back: here all the tiles that
// are left have failed on their device.
func TestASparePullerDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, pullers := deepQueue(40, 2, 1, 50)
		p := pullers[0]
		p.overhead, p.tile = 10*time.Millisecond, time.Millisecond
		first := mustPull(t, p)
		spare := q.enlist(p)
		for range 39 {
			if err := mustPull(t, p).failed(errors.New("not here")); err != nil {
				t.Fatal(err)
			}
			p.device.setback = 0
		}
		if _, err := spare.pull(t.Context()); err != errOver || len(p.device.resting) != 1 || p.device.resting[0] != spare {
			t.Errorf("got %v; %d rest", err, len(p.device.resting))
		}
		waited := make(chan error)
		go func() {
			_, err := p.pull(t.Context())
			waited <- err
		}()
		synctest.Wait()
		if len(q.waiting) != 1 || p.device.spare != 0 {
			t.Errorf("%d wait, and %d are spare", len(q.waiting), p.device.spare)
		}
		if err := first.lost(errHung); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil {
			t.Errorf("it got %v", err)
		}
		q.stop(errHung)
	})
}

// farDevice is a device behind a long way: a tile takes 1 ms to compute, one at
// a time for each slot, and 10 ms to get there and back.
type farDevice struct {
	fakeDevice
	most          int
	now, together atomic.Int32
	computes      chan struct{}
}

func (d *farDevice) depth() int { return d.most }

func (d *farDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	d.computes = make(chan struct{}, d.slots)
	return &farRunner{d, job.(fakeJob)}, nil
}

type farRunner struct {
	*farDevice
	job fakeJob
}

func (r *farRunner) Close() error { return nil }

func (r *farRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if now := r.now.Add(1); now > r.together.Load() {
		r.together.Store(now)
	}
	defer r.now.Add(-1)
	if err := pause(ctx, 5*time.Millisecond); err != nil {
		return err
	}
	came := time.Now()
	r.computes <- struct{}{}
	out.Waited = time.Since(came)
	time.Sleep(time.Millisecond)
	<-r.computes
	r.job.fill(t, out)
	out.Busy = time.Millisecond
	return pause(ctx, 5*time.Millisecond)
}

// TestAFarDeviceIsKeptBusy runs a job on a device behind a long way. With fixed
// tiles it has so many that it computes without a break; where the queue cuts
// the tiles it makes them longer instead.
func TestAFarDeviceIsKeptBusy(t *testing.T) {
	for name, test := range map[string]struct {
		opts     Options
		most     int
		together [2]int32 // at least, at most
		limit    time.Duration
	}{
		"fixed":        {Options{Tiles: 1000}, 256, [2]int32{11, 40}, 1300 * time.Millisecond},
		"not so many":  {Options{Tiles: 1000}, 4, [2]int32{4, 4}, 4 * time.Second},
		"no depth":     {Options{Tiles: 1000}, 0, [2]int32{1, 1}, time.Minute},
		"of any sizes": {Options{}, 256, [2]int32{1, 1}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &farDevice{fakeDevice: fakeDevice{id: "far", slots: 1}, most: test.most}
				job := fakeJob{1000, 10}
				sink := newCheckSink(job)
				r, err := Run(t.Context(), job, []Device{d}, sink, test.opts)
				if err != nil {
					t.Fatal(err)
				}
				sink.check(t, true)
				checkReport(t, r, true)
				if n := d.together.Load(); n < test.together[0] || n > test.together[1] || r.Makespan > test.limit {
					t.Errorf("%d tiles at a time, in %v", n, r.Makespan)
				}
			})
		})
	}
}
