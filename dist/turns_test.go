package dist

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestTurns checks that a coordinator that asks for much does not keep another
// from its turn.
func TestTurns(t *testing.T) {
	turns := newTurns(1)
	first, err := turns.take(t.Context(), "greedy")
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 4)
	var wg sync.WaitGroup
	for waiting, owner := range []string{"greedy", "greedy", "greedy", "modest"} {
		wg.Go(func() {
			done, err := turns.take(context.Background(), owner)
			if err != nil {
				t.Error(err)
				return
			}
			order <- owner
			done()
		})
		for turns.waiting() <= waiting {
			time.Sleep(time.Millisecond)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.take(cancelled, "gone"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled take: %v", err)
	}
	first()
	wg.Wait()
	if got := []string{<-order, <-order}; !slices.Equal(got, []string{"greedy", "modest"}) {
		t.Errorf("the order is %v", got)
	}
	if turns.free != 1 || len(turns.queues) != 0 {
		t.Errorf("%d slots are free, %d queues left", turns.free, len(turns.queues))
	}
}

// waiting returns how many wait for a turn.
func (t *turns) waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.queues {
		n += len(q.waiting)
	}
	return n
}
