package dist

import (
	"context"
	"sync"
)

// turns shares the slots of a device among coordinators: each that waits gets
// its turn before another gets a second one.
type turns struct {
	mu     sync.Mutex
	free   int
	queues []*turnQueue // of the coordinators that wait, the next one first
}

// turnQueue holds what one coordinator waits for, in the order of asking.
type turnQueue struct {
	owner   any
	waiting []chan struct{}
}

func newTurns(slots int) *turns { return &turns{free: slots} }

// take waits for a slot for owner. The caller calls done when it has finished.
func (t *turns) take(ctx context.Context, owner any) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return t.giveBack, nil
	}
	turn := make(chan struct{})
	q := t.queue(owner)
	q.waiting = append(q.waiting, turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return t.giveBack, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	if !t.leave(owner, turn) {
		t.mu.Unlock()
		t.giveBack() // the turn came at the same moment
		return nil, ctx.Err()
	}
	t.mu.Unlock()
	return nil, ctx.Err()
}

// queue returns owner's queue, the last one if it is new. t.mu is held.
func (t *turns) queue(owner any) *turnQueue {
	for _, q := range t.queues {
		if q.owner == owner {
			return q
		}
	}
	q := &turnQueue{owner: owner}
	t.queues = append(t.queues, q)
	return q
}

// leave takes turn out of owner's queue, and reports whether it was there.
// t.mu is held.
func (t *turns) leave(owner any, turn chan struct{}) bool {
	for i, q := range t.queues {
		if q.owner != owner {
			continue
		}
		for k, w := range q.waiting {
			if w != turn {
				continue
			}
			q.waiting = append(q.waiting[:k], q.waiting[k+1:]...)
			if len(q.waiting) == 0 {
				t.queues = append(t.queues[:i], t.queues[i+1:]...)
			}
			return true
		}
	}
	return false
}

// giveBack passes a slot on to the coordinator whose turn it is.
func (t *turns) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queues) == 0 {
		t.free++
		return
	}
	q := t.queues[0]
	t.queues = t.queues[1:]
	close(q.waiting[0])
	if q.waiting = q.waiting[1:]; len(q.waiting) > 0 {
		t.queues = append(t.queues, q)
	}
}
