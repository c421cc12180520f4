package dist

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// This file is what becomes of results that come late: to leases that were lost, since
// their deadline passed, the session with their host ended, or their device was set
// aside. They are refused, also where nobody else has computed the tile yet, and counted.

// cameLate notes that a result for l has come, or has begun to, that its puller does not
// wait for. It counts once for a lease, if l was lost, and until the job has ended: not if
// l was beaten.
func (l *lease) cameLate() {
	q := l.puller.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over || !l.late.IsZero() {
		return
	}
	l.late = time.Now()
	if l.outcome == OutcomeLost {
		q.countLate(l)
	}
}

// countLate counts the result that came late for l, which was lost. q.mu is held.
func (q *queue) countLate(l *lease) {
	d := l.puller.device
	q.counts.late++
	d.late++
	if q.spans {
		d.work.spans[l.span].Late = l.late.Sub(q.counts.began)
	}
	q.tell(slog.LevelInfo, "late result refused", "device", d.id, "tile", l.tile.String(), "after", l.late.Sub(l.start).Round(time.Millisecond))
}

// numbers are those of jobs, leases and operands, in all sessions of this process. They
// begin anywhere, so that a host which brings here what belongs to another session, or to
// one with a process before this, does not bring the answer to a lease that is out.
var numbers = func() *atomic.Uint64 {
	n := &atomic.Uint64{}
	n.Store(rand.Uint64N(1 << 31))
	return n
}()

// strays are the leases on hosts for the answers to which nobody waits any more, of all
// sessions: a host may come back, in another one, before it answers.
type strays struct {
	mu     sync.Mutex
	leases map[uint64]stray // by number
}

// stray is such a lease.
type stray struct {
	runner *remoteRunner
	late   func() // see lender
}

// maxStrays bounds them: a host need not answer any. Of more the oldest are forgotten.
const maxStrays = 1 << 14

// unanswered are the strays of this process.
var unanswered = strays{leases: map[uint64]stray{}}

// add notes that nobody waits for the answer to lease, unless its job has ended.
func (s *strays) add(lease uint64, x stray) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.runner.running.Err() != nil {
		return
	}
	if len(s.leases) >= maxStrays {
		oldest := lease
		for number := range s.leases {
			oldest = min(oldest, number)
		}
		delete(s.leases, oldest)
	}
	s.leases[lease] = x
}

// take returns the lease of that number, which r has answered, and forgets it. It is not
// there if it was another host's.
func (s *strays) take(lease uint64, r *RemoteHost) (x stray, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, there = s.leases[lease]
	if there = there && r.has(x.runner.key); there {
		delete(s.leases, lease)
	}
	return x, there
}

// forgetEnded forgets the leases of jobs that have ended. Their runners may have been
// closed before.
func (s *strays) forgetEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.leases, func(_ uint64, x stray) bool { return x.runner.running.Err() != nil })
}

// has reports whether the host has the device that is known by key.
func (r *RemoteHost) has(key string) bool {
	return slices.ContainsFunc(r.devices, func(d Device) bool { return d.(*remoteDevice).key() == key })
}

// giveUp ends the wait for the answer to a lease, because of err, and cancels it. If the
// answer has come just before it returns that.
func (r *remoteRunner) giveUp(lease uint64, answered chan reply, err error) (*buffer, error) {
	h := r.host
	h.mu.Lock()
	w, out := h.leases[lease]
	delete(h.leases, lease)
	coming := w.begun && h.ctx.Err() == nil // else it may break off here
	if out && w.late != nil && !coming {
		unanswered.add(lease, stray{r, w.late})
	}
	h.leaveIfDrained()
	h.mu.Unlock()
	if !out {
		a := <-answered
		return a.result, r.blame(a.err)
	}
	if w.late != nil && coming {
		w.late()
	}
	h.send(outgoing{typ: typeCancel, message: cancelMessage{Lease: lease}})
	return nil, err
}

// refuse notes the answer to a lease for which nobody waits; result says that it is one.
func (r *RemoteHost) refuse(lease uint64, result bool) {
	if x, there := unanswered.take(lease, r); there && result {
		x.late()
	}
}
