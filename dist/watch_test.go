package dist

import "testing"

func TestWatch(t *testing.T) {
	var w watch
	looks := func(want ...bool) {
		t.Helper()
		for i, stalled := range want {
			if got := w.stalled(2); got != stalled {
				t.Errorf("look %d says %v", i, got)
			}
		}
	}
	looks(false, false, false, false) // nothing is due
	w.begin()
	looks(false, false, true, true)
	w.move()
	looks(false, false, true)
	w.end()
	looks(false, false, false, false)
	w.begin()
	for range 10 {
		looks(false)
		w.move()
	}
	looks(false, false, true)

	var none *watch
	none.begin()
	none.move()
	none.end()
}
