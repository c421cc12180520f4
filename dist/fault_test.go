package dist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// always makes a device fail every tile with err.
func always(err error) func(context.Context, kernels.Tile, int) error {
	return func(context.Context, kernels.Tile, int) error { return err }
}

// failsOn makes a device fail, with err, every tile that holds element (x, y).
func failsOn(x, y int, err error) func(context.Context, kernels.Tile, int) error {
	return func(_ context.Context, t kernels.Tile, _ int) error {
		if t.Contains(kernels.Tile{X: x, Y: y, W: 1, H: 1}) {
			return err
		}
		return nil
	}
}

// hangsAfter makes a device hang on the tile after the first n, and all later.
func hangsAfter(n int) func(context.Context, kernels.Tile, int) error {
	return func(ctx context.Context, _ kernels.Tile, i int) error {
		if i >= n {
			return hang(ctx)
		}
		return nil
	}
}

func TestDuplicatesFinishForADeviceThatHangs(t *testing.T) {
	for name, opts := range map[string]Options{"factoring": {}, "fixed tiles": {Tiles: 40}} {
		for _, n := range []int{0, 1, 5} {
			t.Run(fmt.Sprintf("%s, after %d", name, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, err := runFakes(t, t.Context(), fakeJob{1000, 100}, opts,
						&fakeDevice{id: "a", rate: 10000}, &fakeDevice{id: "b", rate: 10000},
						&fakeDevice{id: "hangs", rate: 10000, fault: hangsAfter(n)})
					if err != nil {
						t.Fatal(err)
					}
					if r.Duplicates == 0 && r.Lost == 0 {
						t.Error("nothing was duplicated or lost")
					}
					// Two of three devices are left; the rest is what noticing costs.
					if r.Makespan > 8*time.Second {
						t.Errorf("makespan %v, with %d lost and %d duplicates", r.Makespan, r.Lost, r.Duplicates)
					}
				})
			})
		}
	}
}

func TestIdlePullersShareWhatASlowDeviceHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// As quick as the others at first, then slower by far.
		slow := &fakeDevice{id: "slow", rate: 10000, fault: func(ctx context.Context, _ kernels.Tile, n int) error {
			if n >= 10 {
				return pause(ctx, time.Hour)
			}
			return nil
		}}
		r, err := runFakes(t, t.Context(), fakeJob{500, 100}, Options{}, slow,
			&fakeDevice{id: "a", rate: 10000}, &fakeDevice{id: "b", rate: 10000}, &fakeDevice{id: "c", rate: 10000})
		if err != nil {
			t.Fatal(err)
		}
		var held kernels.Tile
		helpers := map[string]bool{}
		for _, s := range r.Spans {
			if s.Device == "slow" && s.Outcome == OutcomeBeaten {
				held = s.Tile
			}
		}
		for _, s := range r.Spans {
			if s.Outcome == OutcomeDone && held.Contains(s.Tile) {
				helpers[s.Device] = true
			}
		}
		if len(helpers) != 3 || r.Lost != 0 {
			t.Errorf("%v, held by the slow device, was done by %v; %d lost", held, helpers, r.Lost)
		}
	})
}

func TestAFailingDeviceIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		r, err := runFakes(t, t.Context(), fakeJob{100, 100}, Options{},
			&fakeDevice{id: "good", rate: 1000}, &fakeDevice{id: "bad", fault: always(boom)}, &fakeDevice{id: "fair", rate: 1000})
		if err != nil {
			t.Fatal(err)
		}
		bad := r.Devices[1]
		if !errors.Is(bad.SetAside, boom) || !strings.HasPrefix(bad.SetAside.Error(), "bad: ") || bad.Tiles != 0 {
			t.Errorf("the failing device: %+v", bad)
		}
		if r.Devices[0].SetAside != nil || r.Devices[2].SetAside != nil || r.Retries != deviceSetbacks {
			t.Errorf("the others: %+v; %d retries", r.Devices, r.Retries)
		}
	})
}

func TestATileThatFailsOnThreeDevicesEndsTheJob(t *testing.T) {
	for tiles := range 2 {
		synctest.Test(t, func(t *testing.T) {
			var fakes []*fakeDevice
			var causes []error
			for i := range 5 {
				causes = append(causes, fmt.Errorf("cause %d", i))
				fakes = append(fakes, &fakeDevice{id: fmt.Sprintf("device%d", i), rate: 1000, fault: failsOn(77, 33, causes[i])})
			}
			_, err := runFakes(t, t.Context(), fakeJob{100, 100}, Options{Tiles: 50 * tiles}, fakes...)
			var job *JobError
			if !errors.As(err, &job) || !errors.Is(err, ErrTileFailed) || len(job.Causes) != tileDevices {
				t.Fatalf("got %v", err)
			}
			for _, c := range job.Causes {
				i := int(c.Device[len("device")] - '0')
				if !errors.Is(err, causes[i]) || !strings.Contains(err.Error(), c.Device+": computing tile ") {
					t.Errorf("%v does not name %v", err, c)
				}
			}
		})
	}
}

func TestATileThatFailsOnEveryDeviceEndsTheJob(t *testing.T) {
	for n := 1; n <= 2; n++ {
		synctest.Test(t, func(t *testing.T) {
			boom := errors.New("boom")
			fakes := []*fakeDevice{{id: "a", rate: 1000, fault: failsOn(5, 5, boom)}, {id: "b", rate: 1000, fault: failsOn(5, 5, boom)}}
			_, err := runFakes(t, t.Context(), fakeJob{100, 100}, Options{}, fakes[:n]...)
			var job *JobError
			if !errors.As(err, &job) || !errors.Is(err, ErrTileFailed) || !errors.Is(err, boom) || len(job.Causes) != n {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestADeviceYetToBeginCanSaveATile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &fakeDevice{id: "late", rate: 1000, begins: func(ctx context.Context) error { return pause(ctx, time.Minute) }}
		r, err := runFakes(t, t.Context(), fakeJob{30, 30}, Options{},
			&fakeDevice{id: "a", rate: 1000, fault: failsOn(5, 5, errors.New("boom"))}, late)
		if err != nil || r.Devices[1].Tiles == 0 {
			t.Errorf("got %v, %+v", err, r)
		}
	})
}

func TestDevicesThatCannotBegin(t *testing.T) {
	boom, bang := errors.New("boom"), errors.New("bang")
	begins := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	a, b := &fakeDevice{id: "a", begins: begins(boom)}, &fakeDevice{id: "b", begins: begins(bang)}
	late := func(ctx context.Context) error { return pause(ctx, 50*time.Millisecond) }
	r, err := runFakes(t, t.Context(), fakeJob{10, 10}, Options{}, a, b, &fakeDevice{id: "c", begins: late})
	if err != nil || !errors.Is(r.Devices[0].SetAside, boom) || !errors.Is(r.Devices[1].SetAside, bang) {
		t.Errorf("got %v, %+v", err, r.Devices)
	}
	_, err = runFakes(t, t.Context(), fakeJob{10, 10}, Options{}, a, b)
	if !errors.Is(err, ErrNoDevice) || !errors.Is(err, boom) || !errors.Is(err, bang) || !strings.Contains(err.Error(), "a: beginning the job: boom") {
		t.Errorf("got %v", err)
	}
	if _, err = runFakes(t, t.Context(), fakeJob{10, 10}, Options{}); !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), "no devices were given; choose one") {
		t.Errorf("without devices: %v", err)
	}
}

func TestNoDeviceJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := runFakes(t, t.Context(), fakeJob{10, 10}, Options{Join: make(chan Device), Wait: 90 * time.Second})
		if took := time.Since(start); !errors.Is(err, ErrNoDevice) || took != 90*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
		for _, part := range []string{"none joined within 1m30s", "gpurun worker --join", "--wait", "choose a device"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	})
}

// Hosts that should have come are named, with why they have not, unless there is another cause.
func TestNoDeviceNamesHosts(t *testing.T) {
	gone := errors.New("host there:9473 is not there: it was killed")
	options := Options{Join: make(chan Device), Absent: func() []error { return []error{gone} }}
	_, err := runFakes(t, t.Context(), fakeJob{10, 10}, options)
	if !errors.Is(err, ErrNoDevice) || !errors.Is(err, gone) {
		t.Fatalf("got %v", err)
	}
	if want := "none came within 0s; start the hosts again, raise --wait, or choose a device: " + gone.Error(); !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%q does not end in %q", err, want)
	}
	boom := errors.New("boom")
	broken := &fakeDevice{id: "broken", begins: func(context.Context) error { return boom }}
	if _, err = runFakes(t, t.Context(), fakeJob{10, 10}, options, broken); !errors.Is(err, boom) || errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// leases returns a lease on each of n tiles, all of one device whose rate is
// known, so that they have deadlines.
func leases(t *testing.T, q *queue, n int) []*lease {
	t.Helper()
	d := q.use("leaves", n)
	out := make([]*lease, n)
	for slot := range n {
		p := q.join(d, slot)
		p.rate = rate{50, 1}
		out[slot] = mustPull(t, p)
	}
	return out
}

// The last device wants to leave, and then does not answer what it still has:
// the deadline of that is the last event there is.
func TestADeviceThatLeavesAndGoesSilent(t *testing.T) {
	for _, opts := range []Options{{Tiles: 2}, {Tiles: 2, Join: make(chan Device), Wait: time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			job := fakeJob{10, 10}
			q := newQueue(job, newCheckSink(job), opts)
			out := leases(t, q, 2)
			if err := out[0].lost(errDrained); err != nil {
				t.Fatal(err)
			}
			over := func() bool { synctest.Wait(); return q.ctx.Err() != nil }
			time.Sleep(deadlineFactor*out[1].predicted + deadlineSlack + opts.Wait - 1)
			if over() {
				t.Errorf("the job has ended too early: %v", q.err)
			}
			time.Sleep(time.Nanosecond)
			if !over() || !errors.Is(q.err, ErrNoDevice) || !errors.Is(q.err, errDrained) {
				t.Errorf("after the deadline: over: %t, with %v", over(), q.err)
			}
			q.stop(errHung)
		})
	}
}

// What each puller of a device that leaves gives back goes to one that is idle
// at once.
func TestIdlePullersTakeWhatALeavingDeviceGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{10, 10}
		q := newQueue(job, newCheckSink(job), Options{Tiles: 3})
		out := leases(t, q, 3)
		taken := make(chan *lease, len(out))
		for range out {
			p := q.join(q.use("idle", 1), 0)
			go func() {
				if l, err := p.pull(t.Context()); err == nil {
					taken <- l
				}
			}()
		}
		synctest.Wait()
		for i, l := range out {
			if err := l.lost(errDrained); err != nil {
				t.Fatal(err)
			}
			if synctest.Wait(); len(taken) != i+1 {
				t.Errorf("%d tiles were given back, and %d taken", i+1, len(taken))
			}
		}
		q.stop(errHung)
	})
}

// A tile is lost by its deadline, and its answer, which comes all the same,
// is refused.
func TestALateAnswerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &fakeDevice{id: "late", rate: 1000, fault: func(ctx context.Context, _ kernels.Tile, n int) error {
			if n == 4 {
				<-ctx.Done()
				time.Sleep(hangLimit / 2)
			}
			return nil
		}}
		r, err := runFakes(t, t.Context(), fakeJob{50, 50}, Options{}, late)
		if err != nil || r.Lost != 1 || r.Retries != 1 {
			t.Errorf("got %v; %d lost, %d retries", err, r.Lost, r.Retries)
		}
	})
}

func TestLostIsNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := func(_ context.Context, _ kernels.Tile, n int) error {
			if n%3 > 0 {
				return fmt.Errorf("connection reset: %w", ErrLost)
			}
			return nil
		}
		r, err := runFakes(t, t.Context(), fakeJob{50, 50}, Options{}, &fakeDevice{id: "a", rate: 1000, fault: flaky})
		if err != nil || r.Lost == 0 || r.Retries != r.Lost || r.Devices[0].SetAside != nil {
			t.Errorf("got %v, %+v", err, r)
		}
		gone := errors.New("connection reset")
		_, err = runFakes(t, t.Context(), fakeJob{50, 50}, Options{}, &fakeDevice{id: "a", fault: always(errors.Join(gone, ErrLost))})
		if !errors.Is(err, ErrNoDevice) || !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

// A device that ignores the end of its leases cannot hold up the job.
func TestADeviceThatNeverStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		stuck := func(_ context.Context, _ kernels.Tile, n int) error {
			if n >= 3 {
				<-free
			}
			return nil
		}
		r, err := runFakes(t, t.Context(), fakeJob{200, 100}, Options{},
			&fakeDevice{id: "good", rate: 1000}, &fakeDevice{id: "stuck", rate: 1000, fault: stuck})
		if err != nil || !errors.Is(r.Devices[1].SetAside, errHung) || r.Devices[0].SetAside != nil {
			t.Errorf("with another: %v, %+v", err, r.Devices)
		}
		_, err = runFakes(t, t.Context(), fakeJob{200, 100}, Options{}, &fakeDevice{id: "stuck", rate: 1000, fault: stuck})
		if !errors.Is(err, ErrNoDevice) || !errors.Is(err, errHung) {
			t.Errorf("alone: %v", err)
		}
		// It is the last to stop: Run gives up waiting, and names it.
		start := time.Now()
		r, err = runFakes(t, t.Context(), fakeJob{10, 10}, Options{Tiles: 8},
			&fakeDevice{id: "good", rate: 1000}, &fakeDevice{id: "stuck", rate: 1000, fault: stuck})
		if took := time.Since(start); err != nil || !errors.Is(r.Devices[1].SetAside, errHung) || took != r.Makespan+drainLimit {
			t.Errorf("at the end: %v, %+v, after %v", err, r.Devices, took)
		}
		close(free)
	})
}

func TestACloseErrorIsNamed(t *testing.T) {
	d := &fakeDevice{id: "a", closeErr: errors.New("boom")}
	r, err := runFakes(t, t.Context(), fakeJob{10, 10}, Options{}, d)
	if err != nil || !errors.Is(r.Devices[0].SetAside, d.closeErr) {
		t.Errorf("got %v, %+v", err, r.Devices)
	}
}

// schedule makes a device go wrong at random, now and then.
func schedule(rng *rand.Rand, boom error) func(context.Context, kernels.Tile, int) error {
	fails, loses, hangs, stalls := rng.IntN(8)/4, rng.IntN(10), rng.IntN(5)/2, rng.IntN(20)
	return func(ctx context.Context, _ kernels.Tile, _ int) error {
		switch n := rng.IntN(100); {
		case n < fails:
			return boom
		case n < fails+loses:
			return ErrLost
		case n < fails+loses+hangs:
			return hang(ctx)
		case n < fails+loses+hangs+stalls:
			return pause(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
		}
		return nil
	}
}

func TestRandomFaults(t *testing.T) {
	boom := errors.New("boom")
	failed := 0
	const seeds = 300
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			rng := rand.New(rand.NewPCG(seed, 6))
			job := fakeJob{1 + rng.IntN(100), 1 + rng.IntN(100)}
			var fakes []*fakeDevice
			for i := range 1 + rng.IntN(6) {
				fakes = append(fakes, &fakeDevice{
					id: fmt.Sprint(i), slots: 1 + rng.IntN(2), rate: 10 + 10000*rng.Float64(),
					fault: schedule(rand.New(rand.NewPCG(seed, uint64(100+i))), boom),
				})
			}
			opts := Options{Tiles: max(0, rng.IntN(200)-100)}
			if rng.IntN(2) == 0 {
				opts.Cost = skewed(job)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			_, err := runFakes(t, ctx, job, opts, fakes...)
			var cause *JobError
			if err != nil && (!errors.As(err, &cause) || len(cause.Causes) == 0 || !errors.Is(err, boom) && !errors.Is(err, ErrLost)) {
				t.Errorf("the error does not say why: %v", err)
			}
			if err != nil {
				failed++
			}
		})
	}
	if failed == 0 || failed > seeds*3/4 {
		t.Errorf("%d of %d jobs failed: the faults are not what they should be", failed, seeds)
	}
}
