package cl

import (
	"time"
	"unsafe"
)

// Event is a command that was enqueued. Releasing it does not stop the
// command: nothing does.
type Event struct {
	object
	queue  *Queue
	what   string // "kernel NAME", "write buffer" and the like
	waiter eventWaiter
}

func (q *Queue) newEvent(what string, handle uintptr) *Event {
	e := &Event{queue: q, what: what}
	e.own(events, handle)
	return e
}

// Release gives the event up, completed or not.
func (e *Event) Release() {
	if e != nil && e.release(events, releaseEvent) {
		e.waiter.forget()
	}
}

// Status returns how far the command has come. If the command has failed it
// returns an *Error with the driver's code.
func (e *Event) Status() (Status, error) {
	handle := e.handle.Load()
	if handle == 0 {
		return 0, e.queue.ctx.released("wait for "+e.what, INVALID_EVENT)
	}
	var status int32
	code := callCode(getEventInfo, handle, uintptr(eventExecutionStatus),
		unsafe.Sizeof(status), uintptr(unsafe.Pointer(&status)), 0)
	if code != 0 {
		return 0, e.queue.ctx.result("wait for "+e.what, code)
	}
	if status <= int32(COMPLETE) {
		return COMPLETE, e.outcome(Code(status))
	}
	return Status(status), nil
}

// outcome returns the error of a command that has ended with code, which is 0
// if it went well.
func (e *Event) outcome(code Code) error {
	ctx := e.queue.ctx
	if ctx.fault.Load() != nil && code == 0 {
		code = ctx.injected("wait for " + e.what)
	}
	if code == 0 {
		return nil
	}
	return ctx.result("wait for "+e.what, code)
}

// Profile says when a command passed its stages, on the device's own clock,
// whose zero is arbitrary.
type Profile struct {
	Queued, Submitted, Started, Ended time.Duration
}

// ProfilingInfo returns the times of a completed command of a queue that was
// created with QUEUE_PROFILING_ENABLE.
func (e *Event) ProfilingInfo() (Profile, error) {
	op := "get the times of " + e.what
	handle := e.handle.Load()
	if handle == 0 {
		return Profile{}, e.queue.ctx.released(op, INVALID_EVENT)
	}
	var p Profile
	for _, stage := range []struct {
		param param
		time  *time.Duration
	}{
		{profilingQueued, &p.Queued},
		{profilingSubmit, &p.Submitted},
		{profilingStart, &p.Started},
		{profilingEnd, &p.Ended},
	} {
		nanoseconds, code := queryValue[uint64](getEventProfilingInfo, []uintptr{handle}, stage.param)
		if code != 0 {
			return Profile{}, e.queue.ctx.result(op, code)
		}
		*stage.time = time.Duration(nanoseconds)
	}
	return p, nil
}
