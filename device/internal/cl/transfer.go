package cl

import (
	"unsafe"
)

// WriteBuffer copies src into dst from offset on, after the events in wait. It
// blocks until src may be reused, and cannot be interrupted.
func (q *Queue) WriteBuffer(dst *Buffer, offset int64, src []byte, wait ...*Event) error {
	return q.blockingTransfer(enqueueWriteBuffer, "write buffer", dst, offset, src, wait)
}

// ReadBuffer copies src from offset on into dst, after the events in wait. It
// blocks until dst is full, and cannot be interrupted.
func (q *Queue) ReadBuffer(src *Buffer, offset int64, dst []byte, wait ...*Event) error {
	return q.blockingTransfer(enqueueReadBuffer, "read buffer", src, offset, dst, wait)
}

func (q *Queue) blockingTransfer(fn function, op string, b *Buffer, offset int64, host []byte, wait []*Event) error {
	buffer, handles, err := q.beginBuffer(op, b, offset, int64(len(host)), wait)
	if err != nil || len(host) == 0 {
		return err
	}
	return q.ctx.result(op, callCode(fn, q.handle.Load(), buffer, 1,
		uintptr(offset), uintptr(len(host)), uintptr(unsafe.Pointer(unsafe.SliceData(host))),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), 0))
}

// EnqueueWriteBuffer copies size bytes of src from srcOffset on into dst from
// offset on, after the events in wait. Src must stay mapped, and this part of
// it unchanged, until the event has completed.
func (q *Queue) EnqueueWriteBuffer(dst *Buffer, offset int64, src *Mapping, srcOffset, size int64, wait ...*Event) (*Event, error) {
	return q.transfer(enqueueWriteBuffer, "write buffer", dst, offset, src, srcOffset, size, wait)
}

// EnqueueReadBuffer copies size bytes of src from offset on into dst from
// dstOffset on, after the events in wait. Dst must stay mapped, and this part
// of it untouched, until the event has completed.
func (q *Queue) EnqueueReadBuffer(src *Buffer, offset int64, dst *Mapping, dstOffset, size int64, wait ...*Event) (*Event, error) {
	return q.transfer(enqueueReadBuffer, "read buffer", src, offset, dst, dstOffset, size, wait)
}

func (q *Queue) transfer(fn function, what string, b *Buffer, offset int64, m *Mapping, hostOffset, size int64, wait []*Event) (*Event, error) {
	op := "enqueue " + what
	buffer, handles, err := q.beginBuffer(op, b, offset, size, wait)
	if err != nil {
		return nil, err
	}
	host := m.Bytes()
	if host == nil {
		return nil, q.ctx.errorf(op, INVALID_VALUE, "the host's memory is not mapped any more")
	}
	if hostOffset < 0 || hostOffset > m.size-size {
		return nil, q.ctx.errorf(op, INVALID_VALUE, "%d bytes at offset %d of a mapping of %d", size, hostOffset, m.size)
	}
	var event uintptr
	code := callCode(fn, q.handle.Load(), buffer, 0,
		uintptr(offset), uintptr(size), uintptr(unsafe.Pointer(unsafe.SliceData(host[hostOffset:]))),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), uintptr(unsafe.Pointer(&event)))
	if code != 0 {
		return nil, q.ctx.result(op, code)
	}
	return q.newEvent(what, event), nil
}

// EnqueueCopyBuffer copies size bytes of src from srcOffset on into dst from
// dstOffset on, after the events in wait. The two must not overlap.
func (q *Queue) EnqueueCopyBuffer(src, dst *Buffer, srcOffset, dstOffset, size int64, wait ...*Event) (*Event, error) {
	const op = "enqueue copy buffer"
	source, handles, err := q.beginBuffer(op, src, srcOffset, size, wait)
	if err != nil {
		return nil, err
	}
	target := dst.handle.Load()
	if target == 0 {
		return nil, q.ctx.released(op, INVALID_MEM_OBJECT)
	}
	if err := dst.checkRange(op, dstOffset, size); err != nil {
		return nil, err
	}
	var event uintptr
	code := callCode(enqueueCopyBuffer, q.handle.Load(), source, target,
		uintptr(srcOffset), uintptr(dstOffset), uintptr(size),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), uintptr(unsafe.Pointer(&event)))
	if code != 0 {
		return nil, q.ctx.result(op, code)
	}
	return q.newEvent("copy buffer", event), nil
}

// EnqueueFillBuffer repeats pattern over size bytes of dst from offset on,
// after the events in wait. The pattern has 1, 2, 4, … or 128 bytes, and
// divides offset and size.
func (q *Queue) EnqueueFillBuffer(dst *Buffer, pattern []byte, offset, size int64, wait ...*Event) (*Event, error) {
	const op = "enqueue fill buffer"
	buffer, handles, err := q.beginBuffer(op, dst, offset, size, wait)
	if err != nil {
		return nil, err
	}
	n := int64(len(pattern))
	if n < 1 || n > 128 || n&(n-1) != 0 || offset%n != 0 || size%n != 0 {
		return nil, q.ctx.errorf(op, INVALID_VALUE, "a pattern of %d bytes for %d at offset %d", n, size, offset)
	}
	if functions[enqueueFillBuffer] == 0 {
		return nil, q.ctx.errorf(op, INVALID_OPERATION, "it needs OpenCL 1.2")
	}
	var event uintptr
	code := callCode(enqueueFillBuffer, q.handle.Load(), buffer,
		uintptr(unsafe.Pointer(unsafe.SliceData(pattern))), uintptr(len(pattern)), uintptr(offset), uintptr(size),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), uintptr(unsafe.Pointer(&event)))
	if code != 0 {
		return nil, q.ctx.result(op, code)
	}
	return q.newEvent("fill buffer", event), nil
}

// MapBuffer makes size bytes of b from offset on reachable for the host, after
// the events in wait. It blocks until they are. While kernels use a buffer it
// must not be mapped for writing.
func (q *Queue) MapBuffer(b *Buffer, flags MapFlags, offset, size int64, wait ...*Event) (*Mapping, error) {
	const op = "map buffer"
	buffer, handles, err := q.beginBuffer(op, b, offset, size, wait)
	if err != nil {
		return nil, err
	}
	var code Code
	address := call(enqueueMapBuffer, q.handle.Load(), buffer, 1, uintptr(flags), uintptr(offset), uintptr(size),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), 0, uintptr(unsafe.Pointer(&code)))
	if code != 0 {
		return nil, q.ctx.result(op, code)
	}
	callCode(retainMemObject, buffer)
	live[mappings].Add(1)
	m := &Mapping{queue: q, size: size, buffer: buffer}
	// The address is the driver's: Go must not take it for an integer that
	// became a pointer, which go vet forbids.
	m.data = *(**byte)(unsafe.Pointer(&address))
	return m, nil
}

// EnqueueUnmapMemObject ends m after the events in wait. Commands that use the
// buffer next see what the host wrote if they come later in this queue or wait
// for the event, which is nil if m was unmapped before.
func (q *Queue) EnqueueUnmapMemObject(m *Mapping, wait ...*Event) (*Event, error) {
	var event uintptr
	err := q.unmap(m, &event, wait...)
	if err != nil || event == 0 {
		return nil, err
	}
	return q.newEvent("unmap buffer", event), nil
}

// unmap unmaps m, if it is still mapped, and stores the event at event unless
// that is nil.
func (q *Queue) unmap(m *Mapping, event *uintptr, wait ...*Event) error {
	const op = "enqueue unmap buffer"
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.buffer == 0 {
		return nil
	}
	handles, err := q.begin(op, wait)
	if err != nil {
		return err
	}
	code := callCode(enqueueUnmapMemObject, q.handle.Load(), m.buffer, uintptr(unsafe.Pointer(m.data)),
		uintptr(len(handles)), uintptr(unsafe.Pointer(unsafe.SliceData(handles))), uintptr(unsafe.Pointer(event)))
	if code != 0 {
		return q.ctx.result(op, code)
	}
	m.forget()
	return nil
}

// beginBuffer is begin for a command on size bytes of b from offset on. It
// returns b's handle too.
func (q *Queue) beginBuffer(op string, b *Buffer, offset, size int64, wait []*Event) (uintptr, []uintptr, error) {
	handles, err := q.begin(op, wait)
	if err != nil {
		return 0, nil, err
	}
	buffer := b.handle.Load()
	if buffer == 0 {
		return 0, nil, q.ctx.released(op, INVALID_MEM_OBJECT)
	}
	return buffer, handles, b.checkRange(op, offset, size)
}
