package cpu

import (
	"testing"
	"testing/synctest"
)

// TestRelaxInBubble has a helper still wait when its bubble ends, as it may where other
// processes take the processors.
func TestRelaxInBubble(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		const waited = 1 << 20
		go relax(waited)
	})
}
