package dist

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// TestLate has devices that hear nothing of a deadline: each holds tiles for long and
// then answers with the result, with an error, or that it was stopped. Only results count.
func TestLate(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		var sent [3]int
		devices := []*fakeDevice{{id: "good", rate: 1}}
		for i := range sent {
			holds := make([]int, 5) // of the tiles from the third on: 0 is not at all
			for j := range holds {
				holds[j] = r.IntN(4)
			}
			holds[0] = max(holds[0], 3-3*i) // one result at least
			d := &fakeDevice{id: string(rune('a' + i)), slots: 1 + r.IntN(3)}
			d.fault = func(ctx context.Context, _ kernels.Tile, n int) error {
				if err := pause(ctx, time.Second); err != nil {
					return err
				}
				if n < 3 || n-3 >= len(holds) || holds[n-3] == 0 {
					return nil
				}
				time.Sleep(time.Duration(10+7*n) * time.Second) // the device may be set aside, or not yet
				switch holds[n-3] {
				case 1:
					return errHung
				case 2:
					return ctx.Err()
				}
				if ctx.Err() != nil {
					sent[i]++
				}
				return nil
			}
			devices = append(devices, d)
		}
		report, err := runFakes(t, t.Context(), fakeJob{4000, 1}, Options{Tiles: 4000}, devices...)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for i, n := range sent {
			if got := report.Devices[1+i].Late; got != n {
				t.Errorf("%d results of %s were late, and it sent %d", got, report.Devices[1+i].ID, n)
			}
			sum += n
		}
		if report.Late != sum || sum == 0 {
			t.Errorf("%d were late of %d", report.Late, sum)
		}
		for _, s := range report.Spans {
			if late := s.Late > 0; late && (s.Outcome != OutcomeLost || s.Late < s.Ended) {
				t.Errorf("the span %+v", s)
			} else if late {
				sum--
			}
		}
		if sum != 0 {
			t.Errorf("%d of those that were late are not in the spans", sum)
		}
	})
}

// TestBeatenIsNotLate has a device answer when a duplicate has been faster, and one when
// the job has ended.
func TestBeatenIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{2, 1}
		q := newQueue(job, newCheckSink(job), Options{Tiles: 2})
		a, b := q.join(q.use("a", 1), 0), q.join(q.use("b", 1), 0)
		a.rate, b.rate = rate{1, 1}, rate{1, 1}
		slow, done := mustPull(t, a), mustPull(t, b)
		time.Sleep(deadlineFactor*time.Second + deadlineSlack)
		synctest.Wait()
		again := mustPull(t, b)
		lost := slow
		if again.tile == done.tile {
			lost = done
		}
		time.Sleep(2 * time.Second)
		faster := mustPull(t, a)
		if err := answer(faster, time.Second); err != nil {
			t.Fatal(err)
		}
		if again.cameLate(); again.outcome == OutcomeBeaten && q.report().Late != 0 {
			t.Error("who was beaten was late")
		}
		for range 2 {
			if lost.cameLate(); q.report().Late != 1 {
				t.Errorf("%d were late of one that was lost", q.report().Late)
			}
		}
		q.stop(errHung)
		if slow.cameLate(); q.report().Late != 1 {
			t.Error("it was late when the job had ended")
		}
	})
}

// loopback returns the two ends of a connection on the loopback interface.
func loopback(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if there, err = net.Dial("tcp", l.Addr().String()); err == nil {
		here, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return here, there
}

// pausedHost is a host that answers the first leases, and then none until the coordinator
// has given up those that it has.
type pausedHost struct {
	first   int            // leases that are answered, as many at a time as there are pullers, so that all have a rate
	early   []leaseMessage // those of them that are not answered yet
	held    []leaseMessage // those that are not
	given   int            // up, of those that are held
	waiting []leaseMessage // what comes meanwhile

	hold   func(h *scriptedHost, i int, of leaseMessage) // what it does when it holds one
	giveUp func(h *scriptedHost, i int, of leaseMessage) // and when the coordinator has given that up
}

func (p *pausedHost) react(h *scriptedHost, f frame) {
	var lease leaseMessage
	var cancel cancelMessage
	switch {
	case h.begin(f):
	case f.typ == typeLease && f.decode(&lease) == nil:
		switch {
		case p.first > 0:
			if p.early = append(p.early, lease); len(p.early) < 1+prefetched {
				return
			}
			for _, l := range p.early {
				h.say(h.control, h.result(l))
			}
			p.first, p.early = p.first-len(p.early), nil
		case p.given > 0 && p.given == len(p.held):
			h.say(h.control, h.result(lease))
		case p.given > 0:
			p.waiting = append(p.waiting, lease)
		default:
			p.held = append(p.held, lease)
			p.hold(h, len(p.held)-1, lease)
		}
	case f.typ == typeCancel && f.decode(&cancel) == nil:
		given := func(l leaseMessage) bool { return l.Lease == cancel.Lease }
		i := slices.IndexFunc(p.held, given)
		if i < 0 {
			if j := slices.IndexFunc(p.waiting, given); j >= 0 { // the machine is slow
				p.waiting = slices.Delete(p.waiting, j, j+1)
				h.say(h.control, mustFrame(typeFailed, failedMessage{Lease: cancel.Lease, Lost: true, Error: "stopped"}))
			}
			return
		}
		p.giveUp(h, i, p.held[i])
		if p.given++; p.given == len(p.held) {
			for _, l := range p.waiting {
				h.say(h.control, h.result(l))
			}
		}
	}
}

// shallow is a device of a host that gets no more tiles than it has slots.
type shallow struct{ Device }

// runBeside computes a job on devices, beside one of this machine that always has
// something to do, and those that join.
func runBeside(t *testing.T, job *knownJob, devices []Device, join <-chan Device) (r *Report, log string) {
	t.Helper()
	var text lockedLog
	local := &mandelDevice{id: "local", pause: 40 * time.Millisecond}
	sink := newImageSink(job.Mandelbrot)
	r, err := Run(t.Context(), job.Mandelbrot, append([]Device{local}, devices...), sink, Options{
		Tiles: 600, Join: join, Spans: true, Log: slog.New(slog.NewTextHandler(&text, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	checkReport(t, r, true)
	return r, text.String()
}

// TestLateFromAHost has a host hold tiles for longer than it may and then answer, in the
// same session: with all of the result, with what was to come of it when the deadline
// passed, or that it was stopped.
func TestLateFromAHost(t *testing.T) {
	job := &knownJobs()[3]
	nothing := func(*scriptedHost, int, leaseMessage) {}
	answer := func(h *scriptedHost, _ int, of leaseMessage) { h.say(h.control, h.result(of)) }
	stop := func(h *scriptedHost, _ int, of leaseMessage) {
		h.say(h.control, mustFrame(typeFailed, failedMessage{Lease: of.Lease, Lost: true, Error: "stopped"}))
	}
	const rest = 9
	half := func(h *scriptedHost, i int, of leaseMessage) {
		if all := h.result(of); i == 0 {
			h.say(h.bulk, all[:len(all)-rest])
		}
	}
	both := func(one, other func(*scriptedHost, int, leaseMessage)) func(*scriptedHost, int, leaseMessage) {
		return func(h *scriptedHost, i int, of leaseMessage) { one(h, i, of); other(h, i, of) }
	}
	for name, test := range map[string]struct {
		hold, giveUp func(h *scriptedHost, i int, of leaseMessage)
		most         int // that are late; more than are held if all are
	}{
		"whole":   {nothing, answer, 600},
		"twice":   {nothing, both(answer, answer), 600},
		"stopped": {nothing, both(stop, answer), 0}, // a second answer is none
		"silent":  {nothing, nothing, 0},
		"begun": {half, func(h *scriptedHost, i int, of leaseMessage) {
			if all := h.result(of); i == 0 {
				h.say(h.bulk, all[len(all)-rest:])
			}
		}, 1},
		"never whole": {half, stop, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pausedHost{first: 20, hold: test.hold, giveUp: test.giveUp}
			here, there := loopback(t)
			r := startScriptedHostOn(t, here, there, job, p.react)
			report, log := runBeside(t, job, []Device{shallow{r.Devices()[0]}}, nil)
			late := min(test.most, len(p.held))
			if report.Late != late || report.Devices[1].Late != late || report.Lost < len(p.held) {
				t.Errorf("%d were late, want %d; %d were lost, of %d", report.Late, late, report.Lost, len(p.held))
			}
			if n := strings.Count(log, `level=INFO msg="late result refused" device=`); n != late {
				t.Errorf("the log has %d, want %d", n, late)
			}
		})
	}
}

// TestLateFromASessionBefore has a host that holds tiles lose its connection and come back
// in another session, where it brings what it had computed in the first. None of that is
// used: it is not even right.
func TestLateFromASessionBefore(t *testing.T) {
	job := &knownJobs()[3]
	const held = 1 + prefetched
	cut := make(chan struct{})
	first := &pausedHost{hold: func(_ *scriptedHost, i int, _ leaseMessage) {
		if i == held-1 {
			close(cut)
		}
	}}
	here, there := loopback(t)
	before := startScriptedHostOn(t, here, there, job, first.react)
	join := make(chan Device, 1)
	var coming sync.WaitGroup
	defer coming.Wait()
	coming.Go(func() {
		<-cut
		there.Close()
		within(t, time.Minute, "its leases are lost", func() bool {
			unanswered.mu.Lock()
			defer unanswered.mu.Unlock()
			for _, l := range first.held {
				if _, lost := unanswered.leases[l.Lease]; !lost {
					return false
				}
			}
			return true
		})
		brought := false
		here, there := loopback(t)
		join <- startScriptedHostOn(t, here, there, job, func(h *scriptedHost, f frame) {
			var m leaseMessage
			if h.begin(f) || f.typ != typeLease || f.decode(&m) != nil {
				return
			}
			for _, old := range first.held {
				if !brought {
					h.say(h.control, mustFrame(typeResult, resultMessage{Lease: old.Lease}, make([]byte, len(job.result(kernels.Tile{W: old.W, H: old.H})))...))
				}
			}
			brought = true
			h.say(h.control, h.result(m))
		}).Devices()[0]
	})
	report, _ := runBeside(t, job, before.Devices(), join)
	if len(report.Devices) != 3 || report.Devices[2].Tiles == 0 {
		t.Fatalf("it did not come back: %+v", report.Devices)
	}
	if report.Late != held || report.Devices[1].Late != held || report.Devices[2].Late != 0 || report.Lost != held {
		t.Errorf("%d were late, want %d; %d were lost: %+v", report.Late, held, report.Lost, report.Devices)
	}
	within(t, time.Minute, "nothing is remembered after the job", func() bool {
		unanswered.mu.Lock()
		defer unanswered.mu.Unlock()
		return len(unanswered.leases) == 0
	})
}

// TestLateOfAnother has a host answer for a lease that another host lost, and one answer
// for more than are remembered.
func TestLateOfAnother(t *testing.T) {
	host := func(name string) *RemoteHost {
		r := &RemoteHost{session: &session{peer: helloMessage{Name: name}}, addr: "192.0.2.1:5000"}
		r.devices = []Device{&remoteDevice{host: r, info: DeviceInfo{ID: "cpu"}}}
		return r
	}
	mine, others := host("mine"), host("others")
	running, end := context.WithCancel(t.Context())
	runner := &remoteRunner{host: mine, key: mine.devices[0].(*remoteDevice).key(), running: running}
	s := strays{leases: map[uint64]stray{}}
	for i := range uint64(maxStrays + 5) {
		s.add(i, stray{runner: runner})
	}
	for lease, want := range map[uint64]bool{4: false, 5: true, maxStrays + 4: true} {
		if _, there := s.take(lease, others); there {
			t.Errorf("another host answers for lease %d", lease)
		}
		if _, there := s.take(lease, mine); there != want {
			t.Errorf("lease %d is there: %v", lease, there)
		}
		if _, there := s.take(lease, mine); there {
			t.Errorf("lease %d was answered twice", lease)
		}
	}
	end()
	if s.forgetEnded(); len(s.leases) != 0 {
		t.Errorf("%d are left", len(s.leases))
	}
	if s.add(1, stray{runner: runner}); len(s.leases) != 0 {
		t.Error("one is noted after the job")
	}
}
