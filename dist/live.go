package dist

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// Live shows how a Run goes while it does: see Options.Live. The zero value is good,
// for one Run. Its method may be called by several goroutines.
type Live struct{ queue atomic.Pointer[queue] }

// Report returns the report of the Run as it stands, or nil before it has begun. After
// the Run it is that which Run has returned.
func (l *Live) Report() *Report {
	q := l.queue.Load()
	if q == nil {
		return nil
	}
	return q.report()
}

// State says in a word what a device does in a job.
type State string

// The states of a device.
const (
	StateStarting State = "starting"  // it is made ready for the job
	StateWorking  State = "working"   // it has leases
	StateIdle     State = "idle"      // it has none: nothing is left for it, or the job is done
	StateSetAside State = "set aside" // it gets no more, as DeviceReport.SetAside says
	StateGone     State = "gone"      // its host left, or cannot be reached; it comes back as another device
)

// state returns the state of d. The queue's mutex is held.
func (d *deviceUse) state() State {
	switch {
	case d.aside != nil && !d.wrong && (d.left || errors.Is(d.aside, errHostGone)):
		return StateGone
	case d.aside != nil:
		return StateSetAside
	case !d.began:
		return StateStarting
	case d.out > 0:
		return StateWorking
	}
	return StateIdle
}

// faults are what went wrong on a device.
type faults struct {
	count  int // leases that failed, were lost, or had a wrong result
	last   *DeviceError
	lastAt time.Time
}

// note keeps why a lease ended without a result that counts, and logs it. q.mu is held.
func (q *queue) note(l *lease, outcome Outcome, err error) {
	d := l.puller.device
	d.faults.last, d.faults.lastAt = computing(d.id, l.tile, err), time.Now()
	q.say("tile "+string(outcome), "device", d.id, "tile", l.tile.String(), "err", err)
}

// message is what is to be logged.
type message struct {
	level      slog.Level
	text       string
	attributes []any
}

// mostMessages is how many wait to be logged; of more, it is only said how many they were.
const mostMessages = 256

// say has a warning logged, as tell does.
func (q *queue) say(text string, attributes ...any) { q.tell(slog.LevelWarn, text, attributes...) }

// tell has a message logged, not at once, as q.mu is held. Once the job is over nothing is.
func (q *queue) tell(level slog.Level, text string, attributes ...any) {
	if q.log == nil || q.over {
		return
	}
	select {
	case q.messages <- message{level, text, attributes}:
	default:
		q.unsaid++
	}
}

// logMessages logs what is said, until the returned function is called. That waits until
// all has been logged, but not for a log that hangs.
func (q *queue) logMessages() (end func()) {
	if q.log == nil {
		return func() {}
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for m := range q.messages {
			q.log.Log(context.Background(), m.level, m.text, m.attributes...)
		}
		if q.unsaid > 0 {
			q.log.Warn("messages left out", "number", q.unsaid)
		}
	}()
	return func() {
		close(q.messages) // nothing is said once the job is over
		select {
		case <-logged:
		case <-time.After(cancelLimit / 4):
		}
	}
}
