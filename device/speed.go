package device

import (
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// launchTime is how long one launch should take: short enough that a job can
// be stopped and that no driver's watchdog bites, long enough that launching
// costs nothing.
const launchTime = 25 * time.Millisecond

// speedometer estimates the steps in one type that a device does in a second
// when all of it is busy. It may be used by several goroutines at once.
type speedometer struct {
	mu       sync.Mutex
	rate     float64
	measured bool // rate is more than a guess
}

// newSpeedometer starts with a careful guess: launches that turn out short
// correct it.
func newSpeedometer(kind Kind, units, megahertz int, t kernels.DType) *speedometer {
	perClock := 0.05
	if kind != CPU {
		// A unit has 64 lanes or more, and a step is four operations with their
		// latencies. In float64 many GPUs are 64 times slower.
		perClock = 8
		if t == kernels.Float64 {
			perClock = 0.125
		}
	}
	if megahertz == 0 {
		megahertz = 1000
	}
	return &speedometer{rate: float64(max(units, 1)) * float64(megahertz) * 1e6 * perClock}
}

// launchTimes sums what some launches took.
type launchTimes struct {
	total, longest time.Duration
}

func (t *launchTimes) add(d time.Duration) {
	t.total += d
	t.longest = max(t.longest, d)
}

// launchClock tells what launches took of a device that the slots of a job share:
// one may have waited until the other's was done, or had half of the device. It may
// be used by several goroutines at once.
type launchClock struct {
	mu   sync.Mutex
	last time.Time // the end of the launch that ended last
}

// took returns what a launch took by itself that was enqueued at start and is done
// at end.
func (c *launchClock) took(start, end time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := start
	if c.last.After(start) {
		began = c.last
	}
	if end.After(c.last) {
		c.last = end
	}
	return max(end.Sub(began), end.Sub(start)/openCLSlots)
}

// record learns from launches that did steps, with a part of the device that
// is in (0, 1]. Short launches with few steps are slow for other reasons than
// the device's speed, so a low rate counts only where launches were long.
func (s *speedometer) record(steps int64, occupancy float64, times launchTimes) {
	if times.total <= 0 || steps <= 0 {
		return
	}
	measured := float64(steps) / times.total.Seconds() / occupancy
	s.mu.Lock()
	defer s.mu.Unlock()
	if measured > s.rate || times.longest > launchTime {
		s.rate = measured
		s.measured = true
	}
}

// now returns the steps a second, and whether that has been measured.
func (s *speedometer) now() (rate float64, measured bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate, s.measured
}

// set makes rate the one that was measured.
func (s *speedometer) set(rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate, s.measured = rate, true
}

// stepsPerLaunch returns the steps that take launchTime.
func (s *speedometer) stepsPerLaunch() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate * launchTime.Seconds()
}

// roundsPerLaunch returns how many rounds each work-group of a Mandelbrot launch should
// do, if full groups keep the device busy and a round is so many steps of so many orbits.
// Fewer groups than full do not do theirs faster in proportion, so they get no more.
func (s *speedometer) roundsPerLaunch(full, roundSteps, orbits int) int {
	const (
		leastSteps = 512     // of an orbit: below that, launching costs more than they do
		mostRounds = 1 << 18 // so that the sum over all groups can be counted in 32 bits
	)
	least := max(leastSteps*orbits/roundSteps, 1)
	rounds := s.stepsPerLaunch() / float64(full) / float64(roundSteps)
	return max(int(min(rounds, mostRounds)), least)
}
