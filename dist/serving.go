package dist

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gpurun/gpurun/kernels"
)

// This file is the coordinator's side of operands: hosts fetch from it the parts of
// those of a product that they lack.

// servedOperands are the operands of a job that devices of one host have begun.
type servedOperands struct {
	number uint64
	job    kernels.Job
	spec   operandSpec
	users  int // runners, and Begins; guarded by the RemoteHost's mutex

	// reading counts those who read: the owner of the operands may write to them when
	// the job has ended. It grows only under the RemoteHost's mutex, while there are
	// users.
	reading sync.WaitGroup

	// failed is done when a part could not be read, and its cause says why.
	failed context.Context
	fail   context.CancelCauseFunc
}

const (
	// maxFetches bounds the fetches of a session that have not been answered: their
	// panels' turn to be written has not come.
	maxFetches = 64

	// maxReads bounds the panels of a session that are read or wait to be written, and
	// with maxPanel the memory that they take: 16 MiB, as a window has at most.
	maxReads = 4
)

// errOperand is matched by the error about an operand that cannot be read. It is
// nothing that a device could help.
var errOperand = errors.New("an operand cannot be read")

// errOperandsEnded answers fetches for a product that has ended.
var errOperandsEnded = errors.New("the product has ended")

// fetches is what hosts have asked for of operands.
type fetches struct {
	served map[uint64]*servedOperands // those of products that have not ended; guarded by the RemoteHost's mutex
	out    int                        // how many are not answered; likewise
	slots  chan struct{}              // holds a token for each panel that is read or waits
	memory sync.Pool                  // of *[]float64
}

func newFetches() *fetches {
	f := &fetches{served: map[uint64]*servedOperands{}, slots: make(chan struct{}, maxReads)}
	f.memory.New = func() any { return new([]float64) }
	return f
}

// serve returns the operands of job, which all devices of the host that have begun
// it share, or nil if it has none. The caller calls letGo.
func (r *RemoteHost) serve(job kernels.Job) *servedOperands {
	spec, ok := operandsOf(job)
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.fetches.served {
		if s.job == job {
			s.users++
			return s
		}
	}
	s := &servedOperands{number: numbers.Add(1), job: job, spec: spec, users: 1}
	s.failed, s.fail = context.WithCancelCause(context.Background())
	r.fetches.served[s.number] = s
	return s
}

// letGo ends a use of s, which may be nil. After the last one nobody reads the
// operands any more.
func (r *RemoteHost) letGo(s *servedOperands) {
	if s == nil {
		return
	}
	r.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(r.fetches.served, s.number)
	}
	r.mu.Unlock()
	if last {
		s.reading.Wait()
		s.fail(nil)
	}
}

// fetch answers m, in a goroutine of its own.
func (r *RemoteHost) fetch(m fetchMessage) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.fetches.served[m.Operands]
	t := kernels.Tile{X: m.X, Y: m.Y, W: m.W, H: m.H}
	switch {
	case r.fetches.out >= maxFetches:
		return protocolError("fetch %d, beside %d", m.Fetch, r.fetches.out)
	case m.Operands == 0 || m.Operands > numbers.Load():
		return protocolError("fetch of the operands %d, which nobody has", m.Operands)
	case m.Operand < 0 || m.Operand >= maxArgs || s != nil && m.Operand >= s.spec.count():
		return protocolError("fetch of operand %d", m.Operand)
	case s != nil && (!s.spec.reads(m.Operand) || t.Empty() || !s.spec.stored(m.Operand).Contains(t) || t.Area() > maxPanel/s.spec.elementOf(m.Operand)):
		return protocolError("fetch of %v of operand %d, which has %v", t, m.Operand, s.spec.stored(m.Operand))
	}
	r.fetches.out++
	r.loops.Go(func() { r.answerFetch(m.Fetch, m.Operands, m.Operand, t) })
	return nil
}

// answerFetch reads a part of an operand and sends it.
func (r *RemoteHost) answerFetch(id, operands uint64, operand int, t kernels.Tile) {
	select {
	case r.fetches.slots <- struct{}{}:
	case <-r.ctx.Done():
		return
	}
	o := outgoing{typ: typePanel, turn: r.forgetFetch, sent: func() { <-r.fetches.slots }}
	memory := r.fetches.memory.Get().(*[]float64)
	elements, err := r.readServed(memory, operands, operand, t)
	if err != nil {
		r.fetches.memory.Put(memory)
		o.message = panelMessage{Fetch: id, Error: errorText(err)}
	} else {
		o.message, o.planes = panelMessage{Fetch: id}, [][]byte{elements}
		o.free = func() { r.fetches.memory.Put(memory) }
	}
	r.send(o) // if the session has ended, nobody waits
}

// readServed returns a part of an operand, in memory.
func (r *RemoteHost) readServed(memory *[]float64, operands uint64, operand int, t kernels.Tile) ([]byte, error) {
	r.mu.Lock()
	s := r.fetches.served[operands]
	if s == nil {
		r.mu.Unlock()
		return nil, errOperandsEnded
	}
	s.reading.Add(1)
	r.mu.Unlock()
	defer s.reading.Done()
	if s.failed.Err() != nil {
		return nil, context.Cause(s.failed) // it would only take longer to end
	}
	size := t.Area() * s.spec.elementOf(operand)
	if n := (size + 7) / 8; cap(*memory) < n {
		*memory = make([]float64, n)
	}
	elements := kernels.Bytes((*memory)[:cap(*memory)])[:size]
	if err := readOperand(s.job, elements, operand, t); err != nil {
		err = fmt.Errorf("%w: %w", errOperand, err)
		s.fail(err)
		return nil, err
	}
	return elements, nil
}

// forgetFetch notes that a fetch has been answered.
func (r *RemoteHost) forgetFetch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetches.out--
}
