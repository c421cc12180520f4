package cl

import (
	"sync"
	"unsafe"
)

// Buffer is memory of a device.
type Buffer struct {
	object
	ctx  *Context
	size int64
}

// CreateBuffer allocates size bytes, which are charged to the ledger first:
// over its budget the error is a *BudgetError and the driver is not called.
// A size below 1 or above the device's MaxAlloc is INVALID_BUFFER_SIZE. Most
// drivers allocate late, so that a command may fail for want of memory
// afterwards; see IsOutOfMemory.
func (c *Context) CreateBuffer(flags MemFlags, size int64) (*Buffer, error) {
	const op = "create buffer"
	context := c.handle.Load()
	if context == 0 {
		return nil, c.released(op, INVALID_CONTEXT)
	}
	if size < 1 || size > c.device.MaxAlloc {
		return nil, c.errorf(op, INVALID_BUFFER_SIZE, "%d bytes, not in 1 to %d", size, c.device.MaxAlloc)
	}
	if err := c.ledger.Alloc(size); err != nil {
		return nil, err
	}
	var handle uintptr
	code := c.injected(op)
	if code == 0 {
		handle = call(createBuffer, context, uintptr(flags), uintptr(size), 0, uintptr(unsafe.Pointer(&code)))
	}
	if code != 0 {
		c.ledger.Free(size)
		return nil, c.errorf(op, code, "%d bytes", size)
	}
	b := &Buffer{ctx: c, size: size}
	b.own(buffers, handle)
	return b, nil
}

// Size returns the buffer's bytes.
func (b *Buffer) Size() int64 { return b.size }

// Release gives the memory back, to the ledger at once and to the device when
// the commands that use it are done and its mappings are released.
func (b *Buffer) Release() {
	if b != nil && b.release(buffers, releaseMemObject) {
		b.ctx.ledger.Free(b.size)
	}
}

// checkRange returns an error unless [offset, offset+size) lies in b.
func (b *Buffer) checkRange(op string, offset, size int64) error {
	if offset < 0 || size < 0 || offset > b.size-size {
		return b.ctx.errorf(op, INVALID_VALUE, "%d bytes at offset %d, of %d", size, offset, b.size)
	}
	return nil
}

// Mapping is a part of a buffer that the host can reach. It keeps the buffer's
// memory alive until it is released itself.
type Mapping struct {
	queue *Queue
	size  int64

	mu     sync.Mutex
	buffer uintptr // a reference to the buffer of its own; 0 once unmapped
	data   *byte
}

// Bytes returns the mapped memory, or nil once the mapping is released: what
// was returned before must not be touched any more then.
func (m *Mapping) Bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return nil
	}
	return unsafe.Slice(m.data, m.size)
}

// Size returns the bytes mapped.
func (m *Mapping) Size() int64 { return m.size }

// Release unmaps the memory, in the queue that mapped it, which must not have
// been released yet. Transfers from and to the mapping must be done. Where the
// driver refuses, because the context is broken, the memory goes with the
// context.
func (m *Mapping) Release() {
	if m == nil || m.queue.unmap(m, nil) == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
}

// forget gives up m's reference to the buffer. m.mu is held.
func (m *Mapping) forget() {
	if m.buffer == 0 {
		return
	}
	callCode(releaseMemObject, m.buffer)
	m.buffer, m.data = 0, nil
	live[mappings].Add(-1)
}
