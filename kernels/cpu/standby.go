package cpu

import (
	"runtime"
	"sync/atomic"
)

// A helper is a goroutine that works on jobs of others. To wake a core for a new
// one takes tens of microseconds, as long as a whole product may, and products
// often come one after the other. So a helper waits for a moment where it is, and
// can be given the next job at once.

// helpable is what a helper can help with.
type helpable interface {
	// help works until there is nothing left to do.
	help()
}

const (
	// A helper looks for the next job so often, and after some looks lets other
	// goroutines have its core. In all that takes about 100 µs on an Intel processor of
	// 2020. (No clock is read: in a bubble of testing/synctest it would stand still.)
	looks, rounds = 32, 40

	// waitingPlaces is how many helpers can wait at the same time; more end at once.
	waitingPlaces = 64
)

// place is where a helper waits.
type place struct {
	state atomic.Int32
	job   helpable // valid in state given
	_     [40]byte
}

// States of a place. From free on only a helper leads to waiting, from there
// either that helper back, or whoever has a job to taken and given; from given
// the helper back to free.
const (
	free int32 = iota
	waiting
	taken
	given
)

var (
	places  [waitingPlaces]place
	present atomic.Int32 // about how many wait, so that nobody looks in vain
)

// summon has up to n helpers help with j, first those that wait.
func summon(j helpable, n int) {
	for i := 0; i < len(places) && n > 0 && present.Load() > 0; i++ {
		if p := &places[i]; p.state.Load() == waiting && p.state.CompareAndSwap(waiting, taken) {
			p.job = j
			p.state.Store(given)
			n--
		}
	}
	for range n {
		go attend(j)
	}
}

// attend helps with j, and with what comes up next.
func attend(j helpable) {
	for j != nil {
		j.help()
		j = linger()
	}
}

// linger returns the next job that the calling helper is given, or nil if for a
// while there was none.
func linger() helpable {
	for i := range places {
		if p := &places[i]; p.state.Load() == free && p.state.CompareAndSwap(free, waiting) {
			present.Add(1)
			defer present.Add(-1)
			return p.wait()
		}
	}
	return nil
}

func (p *place) wait() helpable {
	for round := 0; ; round++ {
		for range looks {
			if p.state.Load() == given {
				j := p.job
				p.job = nil
				p.state.Store(free)
				return j
			}
			pause()
		}
		if round >= rounds && p.state.CompareAndSwap(waiting, free) {
			return nil
		}
		runtime.Gosched()
	}
}
