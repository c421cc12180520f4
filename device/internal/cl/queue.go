package cl

import (
	"unsafe"
)

// Queue runs commands on a device, one after the other. The commands of
// different queues overlap, unless one waits for another's event. A device may
// leave commands lying until their queue is flushed; Event.Wait, and any
// command of another queue that waits for an event, flush the event's queue.
type Queue struct {
	object
	ctx *Context
}

// CreateCommandQueue returns a new queue that runs its commands in order.
func (c *Context) CreateCommandQueue(properties QueueProperties) (*Queue, error) {
	const op = "create queue"
	context := c.handle.Load()
	if context == 0 {
		return nil, c.released(op, INVALID_CONTEXT)
	}
	var code Code
	handle := call(createCommandQueue, context, c.device.id, uintptr(properties), uintptr(unsafe.Pointer(&code)))
	if code != 0 {
		return nil, c.result(op, code)
	}
	q := &Queue{ctx: c}
	q.own(queues, handle)
	return q, nil
}

// Release gives the queue up. Its commands still run to their end.
func (q *Queue) Release() {
	if q != nil {
		q.release(queues, releaseCommandQueue)
	}
}

// EnqueueNDRangeKernel runs k, with the arguments that it has now, for each
// work-item of a range of 1 to 3 dimensions. Global has the work-items of each
// dimension, each at least 1; local, if not nil, those of a work-group, and
// offset, if not nil, the first global id. The kernel starts when the events
// in wait have completed; nil events are skipped.
func (q *Queue) EnqueueNDRangeKernel(k *Kernel, offset, global, local []int, wait ...*Event) (*Event, error) {
	handles, err := q.begin(k.op, wait)
	if err != nil {
		return nil, err
	}
	kernel := k.handle.Load()
	if kernel == 0 {
		return nil, q.ctx.released(k.op, INVALID_KERNEL)
	}
	var r ndRange
	if !r.set(offset, global, local) {
		return nil, q.ctx.errorf(k.op, INVALID_WORK_DIMENSION, "offset %v, global %v, local %v", offset, global, local)
	}
	var event uintptr
	code := callCode(enqueueNDRangeKernel, q.handle.Load(), kernel, uintptr(len(global)),
		uintptr(unsafe.Pointer(r.first)), uintptr(unsafe.Pointer(&r.global)), uintptr(unsafe.Pointer(r.group)),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), uintptr(unsafe.Pointer(&event)))
	if code != 0 {
		return nil, q.ctx.errorf(k.op, code, "offset %v, global %v, local %v", offset, global, local)
	}
	return q.newEvent(k.what, event), nil
}

// ndRange is a range of work-items as OpenCL wants it: offset and local are
// pointed to only where they are given.
type ndRange struct {
	offset, global, local [3]uintptr
	first, group          *[3]uintptr
}

// set reports whether the range makes sense. Some drivers let nonsense pass.
func (r *ndRange) set(offset, global, local []int) bool {
	if len(global) < 1 || len(global) > 3 || !sizes(&r.global, global, 1) {
		return false
	}
	if local != nil {
		r.group = &r.local
		if len(local) != len(global) || !sizes(&r.local, local, 1) {
			return false
		}
	}
	if offset != nil {
		r.first = &r.offset
		if len(offset) != len(global) || !sizes(&r.offset, offset, 0) {
			return false
		}
	}
	return true
}

// sizes copies from to to and reports whether each number is at least least.
func sizes(to *[3]uintptr, from []int, least int) bool {
	for i, n := range from {
		if n < least {
			return false
		}
		to[i] = uintptr(n)
	}
	return true
}

// EnqueueMarker returns an event that completes when the events in wait have,
// or, without any, when all commands enqueued before have. It is how to wait
// for a queue without blocking a thread.
func (q *Queue) EnqueueMarker(wait ...*Event) (*Event, error) {
	const op = "enqueue marker"
	handles, err := q.begin(op, wait)
	if err != nil {
		return nil, err
	}
	if functions[enqueueMarkerWithWaitList] == 0 {
		return nil, q.ctx.errorf(op, INVALID_OPERATION, "it needs OpenCL 1.2")
	}
	var event uintptr
	code := callCode(enqueueMarkerWithWaitList, q.handle.Load(),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), uintptr(unsafe.Pointer(&event)))
	if code != 0 {
		return nil, q.ctx.result(op, code)
	}
	return q.newEvent("marker", event), nil
}

// Flush makes the device start on what was enqueued. It does not block.
func (q *Queue) Flush() error {
	const op = "flush"
	if _, err := q.begin(op, nil); err != nil {
		return err
	}
	return q.ctx.result(op, callCode(flush, q.handle.Load()))
}

// Finish blocks until all commands enqueued before are done. It cannot be
// interrupted, and some drivers spin a core meanwhile: prefer Event.Wait. An
// error may be that of a command enqueued long before.
func (q *Queue) Finish() error {
	const op = "finish"
	if _, err := q.begin(op, nil); err != nil {
		return err
	}
	return q.ctx.result(op, callCode(finish, q.handle.Load()))
}

// begin checks that q can do op and returns the handles of the events to wait
// for: nil, as OpenCL wants it, where there are none.
func (q *Queue) begin(op string, wait []*Event) ([]uintptr, error) {
	if q.handle.Load() == 0 {
		return nil, q.ctx.released(op, INVALID_COMMAND_QUEUE)
	}
	var handles []uintptr
	for i, e := range wait {
		if e == nil {
			continue
		}
		handle := e.handle.Load()
		if handle == 0 {
			return nil, q.ctx.errorf(op, INVALID_EVENT, "event %d to wait for has been released", i)
		}
		if handles == nil {
			handles = make([]uintptr, 0, len(wait))
		}
		handles = append(handles, handle)
		if e.queue != q {
			if err := e.flush(); err != nil {
				return nil, err
			}
		}
	}
	if code := q.ctx.injected(op); code != 0 {
		return nil, q.ctx.result(op, code)
	}
	return handles, nil
}
