package device

import (
	"sync"
	"time"
)

// launchTime is how long one launch should take: short enough that a job can
// be stopped and that no driver's watchdog bites, long enough that launching
// costs nothing.
const launchTime = 25 * time.Millisecond

// speedometer estimates the steps that a device does in a second when all of
// it is busy. It may be used by several goroutines at once.
type speedometer struct {
	mu    sync.Mutex
	least float64
	rate  float64
}

// newSpeedometer starts with a careful guess: launches that turn out short
// correct it.
func newSpeedometer(kind Kind, units, megahertz int) speedometer {
	perClock := 8.0 // a GPU's unit has 64 lanes or more, and a step takes 4 operations and waits
	if kind == CPU {
		perClock = 0.05
	}
	if megahertz == 0 {
		megahertz = 1000
	}
	guess := float64(max(units, 1)) * float64(megahertz) * 1e6 * perClock
	return speedometer{least: guess, rate: guess}
}

// record learns from steps done in elapsed. Where there was little to do, time
// went to other things than steps, so a low rate counts for less than a high
// one.
func (s *speedometer) record(steps int64, elapsed time.Duration) {
	if elapsed <= 0 {
		return
	}
	measured := float64(steps) / elapsed.Seconds()
	s.mu.Lock()
	defer s.mu.Unlock()
	if measured < s.rate {
		measured = 0.9*s.rate + 0.1*measured
	}
	s.rate = max(measured, s.least)
}

// stepsPerLaunch returns the steps that take launchTime.
func (s *speedometer) stepsPerLaunch() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate * launchTime.Seconds()
}

// planLaunch returns how many of n pixels, and how many of maxIter steps of
// each, one launch should do so that it takes no longer than budget steps do on
// a busy device, which has full work-items. Fewer pixels than that are not done
// faster, so only then are their steps cut.
func planLaunch(n, maxIter, full int, budget float64) (pixels, steps int) {
	const leastSteps = 512 // below that, saving the orbits costs more than they do
	if n < full {
		budget *= float64(n) / float64(full)
		full = n
	}
	pixels = n
	if budget < float64(n)*float64(maxIter) {
		pixels = min(max(int(budget/float64(maxIter)), full), n)
	}
	steps = maxIter
	if float64(pixels)*float64(maxIter) > budget {
		steps = min(max(int(budget/float64(pixels)), leastSteps), maxIter)
	}
	return pixels, steps
}
