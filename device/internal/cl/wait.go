package cl

import (
	"context"
	"sync"
	"time"

	"github.com/ebitengine/purego"
)

// While it waits for the driver's callback, Wait asks for the status itself,
// at intervals that double from the first of these to the second: callbacks
// have been seen late.
const (
	firstPoll = 200 * time.Microsecond
	lastPoll  = 10 * time.Millisecond
)

// Wait flushes the event's queue and sleeps until the command is done. It
// returns nil if the command went well, else its *Error. When ctx is done
// first it returns ctx's error at once; the command goes on, and the event
// may be waited for again. Several goroutines may wait for one event.
func (e *Event) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if status, err := e.Status(); status == COMPLETE || err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	e.waiter.register(e)
	interval := firstPoll
	poll := time.NewTimer(interval)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.waiter.done:
			return e.outcome(e.waiter.code)
		case <-poll.C:
			if status, err := e.Status(); status == COMPLETE || err != nil {
				return err
			}
			interval = min(2*interval, lastPoll)
			poll.Reset(interval)
		}
	}
}

// flush makes sure that the command will run.
func (e *Event) flush() error {
	if e.queue.handle.Load() == 0 {
		return nil // a queue is flushed when it is released
	}
	return e.queue.Flush()
}

// eventWaiter is how the driver's callback reaches those who wait for an
// event. The driver holds its id alone, so a callback that comes after the
// event was released finds nothing and does nothing.
type eventWaiter struct {
	once sync.Once
	id   uintptr
	done chan struct{} // closed by the callback
	code Code          // the command's final status, set before done is closed
}

// waiting holds the waiters whose callback is still to come, by id. Ids are
// never used twice.
var waiting struct {
	sync.Mutex
	lastID uintptr
	byID   map[uintptr]*eventWaiter
}

// register asks the driver, once an event, to call back on completion.
func (w *eventWaiter) register(e *Event) {
	w.once.Do(func() {
		w.done = make(chan struct{})
		waiting.Lock()
		if waiting.byID == nil {
			waiting.byID = make(map[uintptr]*eventWaiter)
		}
		waiting.lastID++
		w.id = waiting.lastID
		waiting.byID[w.id] = w
		waiting.Unlock()
		live[waiters].Add(1)

		// Not under the lock: a driver may call back before this returns. If
		// it refuses, the polling does its work.
		handle := e.handle.Load()
		if handle == 0 || callCode(setEventCallback, handle, uintptr(COMPLETE), callback(), w.id) != 0 {
			w.forget()
		}
	})
}

// forget makes a callback that is still to come find nothing.
func (w *eventWaiter) forget() { take(w.id) }

// take removes the waiter called id and returns it, or nil if there is none.
func take(id uintptr) *eventWaiter {
	waiting.Lock()
	defer waiting.Unlock()
	w := waiting.byID[id]
	if w != nil {
		delete(waiting.byID, id)
		live[waiters].Add(-1)
	}
	return w
}

// callback returns the C address of onComplete. There is one for the whole
// process, since a callback is never freed.
var callback = sync.OnceValue(func() uintptr { return purego.NewCallback(onComplete) })

// onComplete is called by a thread of the driver when a command has ended with
// status, an int32. The driver may hold locks: it must return soon and call
// nothing of OpenCL. Windows wants every callback to return a word.
func onComplete(_, status, id uintptr) uintptr {
	if w := take(id); w != nil {
		w.code = Code(int32(status))
		close(w.done)
	}
	return 0
}
