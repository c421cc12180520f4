package dist

import "sync/atomic"

// watch notices that something has stopped that should move on. What moves it
// says so; the session looks, once a heartbeat. So no byte that comes or goes
// has to set a timer.
type watch struct {
	due   atomic.Bool // it should move
	moved atomic.Bool // it has, since the last look
	still int         // looks running that found it where it was
}

// begin says that it should move from now on. A nil watch watches nothing.
func (w *watch) begin() {
	if w != nil {
		w.moved.Store(true)
		w.due.Store(true)
	}
}

// end says that it need not move any more.
func (w *watch) end() {
	if w != nil {
		w.due.Store(false)
	}
}

// move says that it has moved.
func (w *watch) move() {
	if w != nil && !w.moved.Load() { // a look is rare, and a store has a price
		w.moved.Store(true)
	}
}

// stalled reports whether it should have moved and has not, in so many whole
// times between two looks.
func (w *watch) stalled(looks int) bool {
	if w.moved.Swap(false) || !w.due.Load() {
		w.still = 0
		return false
	}
	w.still++
	return w.still >= looks
}
