package device

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestPlanLaunch checks, over random jobs, that a launch makes progress, stays
// within its budget where it can, and cuts steps only when it has to.
func TestPlanLaunch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 100000 {
		n := 1 + rng.IntN(1<<rng.IntN(23))
		maxIter := 1 + rng.IntN(1<<(1+rng.IntN(30)))
		full := 1 + rng.IntN(1<<rng.IntN(18))
		budget := rng.Float64() * float64(int64(1)<<rng.IntN(45))
		pixels, steps := planLaunch(n, maxIter, full, budget)
		if pixels < 1 || pixels > n || steps < 1 || steps > maxIter {
			t.Fatalf("planLaunch(%d, %d, %d, %g) = %d, %d: out of range", n, maxIter, full, budget, pixels, steps)
		}
		// A device that is not full is as much slower.
		budget *= min(1, float64(n)/float64(full))
		if work := float64(pixels) * float64(steps); work > budget && pixels > min(full, n) {
			t.Fatalf("planLaunch(%d, %d, %d, %g) = %d, %d: over the budget with more than %d pixels", n, maxIter, full, budget, pixels, steps, full)
		}
		if steps < maxIter && pixels > min(full, n) {
			t.Fatalf("planLaunch(%d, %d, %d, %g) = %d, %d: steps cut before pixels", n, maxIter, full, budget, pixels, steps)
		}
		if steps < maxIter && steps > 512 && float64(pixels)*float64(steps) > budget {
			t.Fatalf("planLaunch(%d, %d, %d, %g) = %d, %d: over the budget", n, maxIter, full, budget, pixels, steps)
		}
	}
}

func TestSpeedometer(t *testing.T) {
	s := newSpeedometer(GPU, 10, 1000)
	guess := s.stepsPerLaunch()
	if guess <= 0 {
		t.Fatalf("the first guess is %g", guess)
	}
	s.record(1e12, time.Second)
	if got, want := s.stepsPerLaunch(), 1e12*launchTime.Seconds(); got != want {
		t.Errorf("after a fast launch %g, want %g", got, want)
	}
	s.record(0, time.Second)
	if got := s.stepsPerLaunch(); got >= 1e12*launchTime.Seconds() || got < 0.8e12*launchTime.Seconds() {
		t.Errorf("one idle launch brought it to %g", got)
	}
	for range 1000 {
		s.record(0, time.Second)
	}
	if got := s.stepsPerLaunch(); got != guess {
		t.Errorf("idle launches brought it to %g, want the first guess %g", got, guess)
	}
	s.record(1, 0)
	if got := s.stepsPerLaunch(); got != guess {
		t.Errorf("a launch of no time brought it to %g", got)
	}
}
