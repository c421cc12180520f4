package dist

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// use takes a device into q.
func (q *queue) use(id string, slots int) *deviceUse {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.add(&deviceUse{id: id, key: id, slots: slots})
}

// mustPull returns a lease that is there at once.
func mustPull(t *testing.T, p *puller) *lease {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := p.pull(ctx)
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	return l
}

func answer(l *lease, busy time.Duration) error {
	job := l.puller.q.job.(fakeJob)
	r := kernels.NewResult(job, l.tile)
	job.fill(l.tile, r)
	return l.done(r, busy)
}

func TestAnswersToADeadLeaseAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{10, 10}
		sink := newCheckSink(job)
		q := newQueue(job, sink, Options{Tiles: 2})
		p := q.join(q.use("a", 1), 0)
		p.rate = rate{50, 1}
		l := mustPull(t, p)
		time.Sleep(deadlineFactor*time.Second + deadlineSlack)
		synctest.Wait()
		if l.ctx.Err() == nil {
			t.Error("the lease is alive after its deadline")
		}
		again := mustPull(t, p)
		if again.tile != l.tile || again == l {
			t.Errorf("lost %v, then leased %v, the same: %t", l.tile, again.tile, again == l)
		}
		if answer(l, 1) != errRefused || l.failed(errHung) != errRefused || l.lost(errHung) != errRefused {
			t.Error("an answer to a lost lease was taken")
		}
		if slices.Max(sink.times) != 0 {
			t.Error("a late answer came into the sink")
		}
		if err := answer(again, time.Second); err != nil {
			t.Error(err)
		}
		if answer(again, time.Second) != errRefused {
			t.Error("a second answer to a lease was taken")
		}
		q.stop(errHung)
	})
}

func TestKeepHoldsALeaseOfUnknownLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{10, 10}
		q := newQueue(job, newCheckSink(job), Options{})
		p := q.join(q.use("a", 1), 0)
		silent := mustPull(t, q.join(q.use("b", 1), 0))
		l := mustPull(t, p)
		for range 10 {
			time.Sleep(silenceLimit * 9 / 10)
			if l.keep(); l.ctx.Err() != nil {
				t.Fatal("a lease that was kept alive has ended")
			}
		}
		if silent.ctx.Err() == nil {
			t.Error("a lease lives that was never kept alive")
		}
		if err := answer(l, time.Second); err != nil {
			t.Fatal(err)
		}
		// The rate is known now, and with it the deadline, before which nothing need come on.
		l = mustPull(t, p)
		time.Sleep(deadlineFactor*l.predicted + deadlineSlack - 1)
		if l.keep(); l.ctx.Err() != nil {
			t.Error("a lease has ended before its deadline")
		}
		time.Sleep(patience - 1)
		synctest.Wait()
		if l.ctx.Err() != nil {
			t.Error("a lease has ended though its device has come on")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if l.ctx.Err() == nil {
			t.Error("a lease lives whose device does not come on any more")
		}
		q.stop(errHung)
	})
}

// A lease whose length is known speaks for those beside it, since a device may
// have them all and compute one; and what was given up says nothing of the rate.
func TestProgressKeepsWhatWaitsOnTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{10, 10}
		q := newQueue(job, newCheckSink(job), Options{Tiles: 2})
		d := q.use("a", 2)
		a, b := q.join(d, 0), q.join(d, 1)
		a.rate = rate{50, 3600}
		computing, waiting := mustPull(t, a), mustPull(t, b)
		for range 10 {
			time.Sleep(silenceLimit * 9 / 10)
			if comesOn := computing.progress(); comesOn == nil {
				t.Error("nobody wants to know that the device comes on")
			} else {
				comesOn()
			}
		}
		if waiting.ctx.Err() != nil {
			t.Error("a lease was given up that waited on a device which came on")
		}
		time.Sleep(silenceLimit)
		synctest.Wait()
		if waiting.ctx.Err() == nil || computing.ctx.Err() != nil {
			t.Error("the lease on a silent device lives, or one before its deadline does not")
		}
		if r := b.rate.perSecond(); r != 0 {
			t.Errorf("the lease that was given up made a rate of %g", r)
		}
		q.stop(errHung)
	})
}

func TestPullHonoursItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{10, 10}
		q := newQueue(job, newCheckSink(job), Options{Tiles: 1})
		a, b := q.join(q.use("a", 1), 0), q.join(q.use("b", 1), 0)
		mustPull(t, a)
		ctx, cancel := context.WithTimeout(t.Context(), ceiling/2)
		defer cancel()
		if _, err := b.pull(ctx); err != context.DeadlineExceeded || len(q.waiting) != 0 {
			t.Errorf("got %v, with %d waiting", err, len(q.waiting))
		}
		q.stop(errHung)
		if _, err := b.pull(t.Context()); err != errOver {
			t.Errorf("after the end: %v", err)
		}
	})
}

// The holder of a tile, of which others have answered a part, may still
// answer the rest.
func TestAnAnswerCountsWhereNobodyWasFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{50, 40}
		sink := newCheckSink(job)
		q := newQueue(job, sink, Options{})
		a, b := q.join(q.use("a", 1), 0), q.join(q.use("b", 1), 0)
		a.rate, b.rate = rate{1e6, 1}, rate{1e5, 1}
		held := mustPull(t, a)
		if held.tile != job.Bounds() {
			t.Fatalf("%v was leased, want all", held.tile)
		}
		time.Sleep(ceiling / 2) // now it is late
		d := mustPull(t, b)
		if !d.duplicate || !held.tile.Contains(d.tile) || held.tile == d.tile {
			t.Fatalf("%v is no part of %v", d.tile, held.tile)
		}
		if err := answer(d, time.Millisecond); err != nil || held.ctx.Err() != nil {
			t.Fatal(err, held.ctx.Err())
		}
		d = mustPull(t, b)
		if err := answer(held, ceiling); err != nil {
			t.Fatal(err)
		}
		if d.ctx.Err() == nil || answer(d, 1) != errRefused {
			t.Error("the second duplicate was not beaten")
		}
		<-q.ended
		sink.check(t, true)
		checkReport(t, q.report(), true)
	})
}

// The first tiles of a device whose rate was known in a run before are worth the way, and so short
// that it does not matter if this run's cost much more.
func TestFirstTilesByEarlierRates(t *testing.T) {
	for _, test := range []struct {
		job         fakeJob
		rate        float64 // of the device, which has two slots
		least, most int     // elements of the first tile
	}{
		{fakeJob{1000, 1000}, 0, 1000, probeArea},
		{fakeJob{1000, 1000}, 2e6, 5000, 10_000},     // 10 ms
		{fakeJob{1000, 1000}, 1e8, 100_000, 170_000}, // its part of the job
		{fakeJob{1000, 1}, 2e6, 1000, 1000},          // no less than 2 ms
		{fakeJob{1000, 1000}, 1, 7000, 8000},         // no less than of devices that are unknown
	} {
		synctest.Test(t, func(t *testing.T) {
			q := newQueue(test.job, newCheckSink(test.job), Options{Rates: map[string]float64{"a": test.rate, "b": 7}})
			p := q.join(q.use("a", 2), 0)
			if l := mustPull(t, p); l.tile.Area() < test.least || l.tile.Area() > test.most || l.rated {
				t.Errorf("%v a second: the first tile of %v is %v, want %d to %d elements", test.rate, test.job, l.tile, test.least, test.most)
			}
			q.stop(errHung)
		})
	}
}

// model drives a queue with random events and checks it after each.
type model struct {
	*testing.T
	rng    *rand.Rand
	q      *queue
	sink   *checkSink
	idle   []*puller
	pulled chan *lease // what the pulls that were under way have got
	leases []*lease    // without an answer
	boom   error
}

func TestQueueModel(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			rng := rand.New(rand.NewPCG(seed, 7))
			job := fakeJob{1 + rng.IntN(40), 1 + rng.IntN(40)}
			opts := Options{Tiles: max(0, rng.IntN(60)-30), Cost: skewed(job)}
			m := &model{T: t, rng: rng, sink: newCheckSink(job), pulled: make(chan *lease, 100), boom: errors.New("boom")}
			m.q = newQueue(job, m.sink, opts)
			for range 1 + rng.IntN(6) {
				d := m.q.use("device", 1+rng.IntN(2))
				for slot := range d.slots {
					m.idle = append(m.idle, m.q.join(d, slot))
				}
			}
			for steps := 0; !m.over() && steps < 5000; steps++ {
				m.step()
				synctest.Wait()
				m.collect()
				m.check()
			}
			if !m.over() {
				t.Fatal("the job does not end")
			}
			m.sink.check(t, m.q.err == nil)
			for len(m.leases) > 0 {
				if m.leases[0].ctx.Err() == nil || m.act(m.leases[0]) != errRefused {
					t.Fatal("a lease outlived the job")
				}
			}
			checkReport(t, m.q.report(), m.q.err == nil)
		})
	}
}

func (m *model) over() bool {
	select {
	case <-m.q.ended:
		return true
	default:
		return false
	}
}

// step lets one thing happen.
func (m *model) step() {
	switch n := m.rng.IntN(10); {
	case n < 4 && len(m.idle) > 0:
		i := m.rng.IntN(len(m.idle))
		p := m.idle[i]
		m.idle = slices.Delete(m.idle, i, i+1)
		go func() {
			if l, err := p.pull(m.Context()); err == nil {
				m.pulled <- l
			}
		}()
	case n < 8 && len(m.leases) > 0:
		l := m.leases[m.rng.IntN(len(m.leases))]
		alive := l.ctx.Err() == nil
		if err := m.act(l); (err == nil) != alive {
			m.Fatalf("answering %v: %v; alive: %v", l.tile, err, alive)
		}
	case n == 8:
		time.Sleep(time.Duration(m.rng.ExpFloat64() * float64(50*time.Millisecond)))
	case n == 9 && m.rng.IntN(20) == 0:
		time.Sleep(time.Duration(m.rng.ExpFloat64() * float64(20*time.Second)))
	case n == 9 && m.rng.IntN(10) == 0:
		m.setAside(m.q.devices[m.rng.IntN(len(m.q.devices))])
	case n == 9 && len(m.q.waiting) > 0 && m.rng.IntN(5) == 0:
		m.setAside(m.q.waiting[0].puller.device)
	}
}

func (m *model) setAside(d *deviceUse) {
	m.q.mu.Lock()
	defer m.q.mu.Unlock()
	m.q.setAside(d, &DeviceError{Device: d.id, Op: "being tested", Err: m.boom})
}

// act answers l in a random way.
func (m *model) act(l *lease) (err error) {
	switch n := m.rng.IntN(120); {
	case n < 4:
		err = l.failed(m.boom)
	case n < 8:
		err = l.lost(m.boom)
	case n == 8:
		err = l.lost(errDrained)
	default:
		err = answer(l, time.Since(l.start))
	}
	m.leases = slices.DeleteFunc(m.leases, func(other *lease) bool { return other == l })
	m.idle = append(m.idle, l.puller)
	return err
}

func (m *model) collect() {
	for len(m.pulled) > 0 {
		m.leases = append(m.leases, <-m.pulled)
	}
}

// check fails unless the accounts of the queue agree with each other and with
// what is in the sink.
func (m *model) check() {
	q := m.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return
	}
	accounts := slices.Clone(m.sink.times)
	cost := q.costDone
	enter := func(x *piece) {
		cost += x.cost
		for y := range x.tile.H {
			for i := range x.tile.W {
				accounts[(x.tile.Y+y)*m.sink.job.w+x.tile.X+i]++
			}
		}
	}
	for _, x := range slices.Concat(q.pending.pieces, q.given) {
		enter(x)
		if len(x.holders) > 0 {
			m.Fatalf("%v is pending and leased", x.tile)
		}
		for _, r := range q.waiting {
			if !x.failedOn(r.puller.device) {
				m.Fatalf("%v is pending while a puller waits", x.tile)
			}
		}
	}
	leased := map[*piece]int{}
	for _, l := range q.live {
		if len(l.pieces) == 0 || l.ctx.Err() != nil || !l.puller.device.inUse() && !l.puller.device.left {
			m.Fatalf("the lease on %v is alive for no good", l.tile)
		}
		for _, x := range l.pieces {
			leased[x]++
			if !l.tile.Contains(x.tile) || !slices.Contains(x.holders, l) || x.failedOn(l.puller.device) {
				m.Fatalf("%v should not be a piece of %v", x.tile, l.tile)
			}
		}
	}
	for x, n := range leased {
		enter(x)
		devices := map[*deviceUse]bool{}
		for _, l := range x.holders {
			devices[l.puller.device] = true
		}
		if n != len(x.holders) || n != len(devices) {
			m.Fatalf("%v is in %d leases, has %d holders on %d devices", x.tile, n, len(x.holders), len(devices))
		}
	}
	for place, n := range accounts {
		if n != 1 {
			m.Fatalf("element %d has %d accounts", place, n)
		}
	}
	if cost < q.total*(1-1e-9) || cost > q.total*(1+1e-9) {
		m.Fatalf("the accounts cost %g, the job %g", cost, q.total)
	}
	m.checkSums()
}

// checkSums fails unless what the queue has added up over time is what there is.
func (m *model) checkSums() {
	q := m.q
	var all, helpers rateSum
	for _, p := range q.pullers {
		if p.device.inUse() {
			all.add(p)
		}
	}
	for _, r := range q.waiting {
		helpers.add(r.puller)
	}
	for _, l := range q.live {
		if l.duplicate {
			helpers.add(l.puller)
		}
	}
	slots := 0
	for _, d := range q.devices {
		if d.inUse() {
			slots += d.slots
		}
	}
	if near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(a, b) }; !near(all.sum, q.rates.sum) || !near(helpers.sum, q.helpers.sum) ||
		all.known != q.rates.known || all.all != q.rates.all || helpers.known != q.helpers.known || helpers.all != q.helpers.all || slots != q.slots {
		m.Fatalf("all are %v and not %v, those who help %v and not %v, slots %d and not %d", all, q.rates, helpers, q.helpers, slots, q.slots)
	}
	if cost := costOf(q.pending.pieces); math.Abs(cost-q.pending.cost) > 1e-9*q.total {
		m.Fatalf("what is pending costs %g and not %g", cost, q.pending.cost)
	}
}
