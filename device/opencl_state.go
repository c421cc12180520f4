package device

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gpurun/gpurun/device/internal/cl"
)

// openCLState is what a job holds on a device: some slots, each of which is what
// one tile at a time needs, and what they share. It is built anew, with a smaller
// budget, when the device runs out of memory.
type openCLState[S openCLSlot] struct {
	build  openCLBuilder[S]
	device *openCLDevice

	// fixed makes the job fail where it would be tried with less memory, which
	// lowers the device's budget for all that comes.
	fixed bool

	mu    sync.Mutex // held to build the job's memory anew
	now   *openCLMemory[S]
	fatal error // why there is none any more
}

// openCLBuilder builds what a job holds on a device.
type openCLBuilder[S openCLSlot] interface {
	// share returns how many of so many free bytes the job takes at most.
	share(free int64) int64

	// fit returns the bytes that the job's memory takes, if it is to be at most so
	// many, or an error that says how many are needed.
	fit(bytes int64) (int64, error)

	// fill allocates m in what fit had for so many bytes. On an error the caller
	// releases m.
	fill(m *openCLMemory[S], bytes int64) error
}

// halfOf leaves half of the memory free, so that the device can begin another job too,
// unless half is too little.
func halfOf(free int64, job interface {
	fit(bytes int64) (int64, error)
}) int64 {
	if _, err := job.fit(free / 2); err != nil {
		return free
	}
	return free / 2
}

// openCLSlot is what one tile at a time needs.
type openCLSlot interface {
	// finish waits until nothing runs any more that uses the slot.
	finish()

	// release frees what the slot has, or has so far.
	release()
}

// openCLMemory is one build of a state.
type openCLMemory[S openCLSlot] struct {
	context *openCLContext
	slots   chan S
	count   int // of all slots
	shared  []interface{ Release() }
}

// errStale tells run that the memory that it used has been replaced.
var errStale = errors.New("the memory was replaced")

var errRunnerClosed = errors.New("the runner is closed")

// open builds the state for the first time.
func (s *openCLState[S]) open(d *openCLDevice, build openCLBuilder[S]) error {
	s.device, s.build = d, build
	m, err := s.newMemory()
	if err == nil {
		s.now = m
		return nil
	}
	if s.fixed {
		return err
	}
	return s.rebuild(err)
}

// run has a tile computed by compute in a slot. When the device runs out of
// memory, it is tried again with half of what there was. What goes wrong in memory
// that is replaced because another slot ran out may be due to that, whatever it
// is called: then it is tried again, too.
func (s *openCLState[S]) run(ctx context.Context, compute func(slot S) error) error {
	for {
		s.mu.Lock()
		m, fatal := s.now, s.fatal
		s.mu.Unlock()
		if fatal != nil {
			return fatal
		}
		err := m.run(ctx, compute)
		switch {
		case err == errStale:
			continue
		case err == nil || ctx.Err() != nil:
			return err
		case cl.IsOutOfMemory(err) && !s.fixed:
			err = s.shrink(m, err)
		case s.replaced(m):
			continue
		default:
			// Whatever it was, the next job does not inherit it.
			s.device.abandon(m.context)
		}
		if err != nil {
			return err
		}
	}
}

// replaced reports whether m is not the job's memory any more, after it has waited
// for whoever is just replacing it.
func (s *openCLState[S]) replaced(m *openCLMemory[S]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now != m || s.fatal != nil
}

func (m *openCLMemory[S]) run(ctx context.Context, compute func(slot S) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	var slot S
	select {
	case s, ok := <-m.slots:
		if !ok {
			return errStale
		}
		slot = s
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		if err != nil && ctx.Err() != nil {
			// What was launched drains into the slot, and only then is it free.
			go func() {
				slot.finish()
				m.slots <- slot
			}()
			return
		}
		m.slots <- slot
	}()
	return compute(slot)
}

// newMemory builds in the job's share of what is left of the budget.
func (s *openCLState[S]) newMemory() (*openCLMemory[S], error) {
	bytes := s.build.share(s.free())
	if _, err := s.build.fit(bytes); err != nil {
		return nil, err
	}
	c, err := s.device.acquire()
	if err != nil {
		return nil, err
	}
	m := &openCLMemory[S]{context: c, slots: make(chan S, openCLSlots)}
	if err := s.build.fill(m, bytes); err != nil {
		m.count = len(m.slots)
		m.release()
		s.device.abandon(c)
		return nil, err
	}
	m.count = len(m.slots)
	return m, nil
}

// free returns the bytes of the budget that nothing has yet.
func (s *openCLState[S]) free() int64 { return s.device.ledger.Budget() - s.device.ledger.Used() }

// shrink replaces m, unless somebody has, after memory ran out with cause.
func (s *openCLState[S]) shrink(m *openCLMemory[S], cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatal != nil || s.now != m {
		return s.fatal
	}
	m.release()
	close(m.slots)
	s.device.abandon(m.context)
	s.fatal = s.rebuild(cause)
	return s.fatal
}

// rebuild builds anew after cause has ended the last: with half its size, as
// often as the cause is that memory ran out. Without success it returns what the
// job failed of.
func (s *openCLState[S]) rebuild(cause error) error {
	for cl.IsOutOfMemory(cause) {
		if !s.halve() {
			return fmt.Errorf("%w, even with %d bytes: free memory on the device, or use another", cause, s.device.ledger.Budget())
		}
		m, err := s.newMemory()
		if err == nil {
			s.now = m
			return nil
		}
		cause = err
	}
	return cause
}

// halve lowers the device's budget so that half as much is left of it as the job
// would have taken, and reports whether it still fits. The budget stays so until
// the device is closed.
func (s *openCLState[S]) halve() bool {
	bytes, err := s.build.fit(s.free())
	if err != nil {
		return false
	}
	ledger := s.device.ledger
	ledger.SetBudget(ledger.Used() + bytes/2)
	_, err = s.build.fit(s.free())
	return err == nil
}

// close waits for what still drains.
func (s *openCLState[S]) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatal == nil {
		s.now.release()
		s.fatal = errRunnerClosed
	}
}

// release waits until all slots have come back from those who use them, and releases
// everything.
func (m *openCLMemory[S]) release() {
	for range m.count {
		s := <-m.slots
		s.finish()
		s.release()
	}
	for _, b := range m.shared {
		b.Release()
	}
	m.context.release()
}
