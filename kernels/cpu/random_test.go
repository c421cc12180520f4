package cpu

import (
	"math/rand/v2"
	"testing"
	"time"
)

// randomSource returns a source whose seed the test's log has.
func randomSource(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
