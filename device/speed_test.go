package device

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// TestRoundsPerLaunch checks, over random devices and kernels, that a launch makes
// progress and stays within its time where it can.
func TestRoundsPerLaunch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 100000 {
		s := &speedometer{rate: rng.Float64() * float64(int64(1)<<rng.IntN(50))}
		full, orbits := 1+rng.IntN(1<<rng.IntN(13)), 1<<rng.IntN(8)
		each := 16 << rng.IntN(3) // steps of an orbit in a round
		rounds := s.roundsPerLaunch(full, orbits*each, orbits)
		seconds := float64(rounds) * float64(full*orbits*each) / s.rate
		if rounds < 1 || rounds*each > 512 && seconds > 1.001*launchTime.Seconds() {
			t.Fatalf("at %g steps/s, %d groups do %d rounds of %d steps of %d orbits, which takes %g s", s.rate, full, rounds, each, orbits, seconds)
		}
		if int64(rounds)*int64(full)*openCLSlots > math.MaxUint32 || int64(rounds)*int64(orbits*each) > math.MaxUint32 {
			t.Fatalf("%d rounds of %d groups of %d orbits cannot be counted", rounds, full, orbits)
		}
	}
}

func TestSpeedometer(t *testing.T) {
	s := newSpeedometer(GPU, 10, 1000, kernels.Float32)
	if slow := newSpeedometer(GPU, 10, 1000, kernels.Float64); slow.rate >= s.rate {
		t.Errorf("the first guess in f64 is %g, not below %g", slow.rate, s.rate)
	}
	record := func(steps int64, occupancy float64, launches ...time.Duration) float64 {
		var times launchTimes
		for _, d := range launches {
			times.add(d)
		}
		s.record(steps, occupancy, times)
		return s.rate
	}
	const ms = time.Millisecond
	for _, test := range []struct {
		what string
		got  float64
		want float64
	}{
		{"a fast launch", record(1e12, 1, 1000*ms), 1e12},
		{"short launches with little to do", record(1000, 1, 10*ms, 10*ms), 1e12},
		{"no time", record(1, 1), 1e12},
		{"a launch that was too long", record(1e9, 1, 100*ms), 1e10},
		{"several, one too long", record(1e9, 1, 10*ms, 190*ms), 5e9},
		{"a device half used", record(1e9, 0.5, 100*ms), 2e10},
		{"a launch of nothing", record(0, 1, 100*ms), 2e10},
	} {
		if math.Abs(test.got/test.want-1) > 1e-9 {
			t.Errorf("after %s the rate is %g, want %g", test.what, test.got, test.want)
		}
	}
}

// TestLaunchClock has launches that are alone, that queue up behind one another,
// and that run beside one another: each does what takes 10 ms.
func TestLaunchClock(t *testing.T) {
	const ms = time.Millisecond
	for what, launches := range map[string][][2]time.Duration{
		"alone":      {{0, 10 * ms}, {15 * ms, 25 * ms}, {25 * ms, 35 * ms}},
		"queued":     {{0, 10 * ms}, {0, 20 * ms}, {10 * ms, 30 * ms}, {25 * ms, 40 * ms}},
		"concurrent": {{100 * ms, 120 * ms}, {100 * ms, 120 * ms}, {120 * ms, 140 * ms}, {120 * ms, 140 * ms}},
	} {
		var c launchClock
		zero := time.Now()
		for i, l := range launches {
			took := c.took(zero.Add(l[0]), zero.Add(l[1]))
			if first := what == "concurrent" && i%2 == 0; !first && took != 10*ms || first && took != 20*ms {
				t.Errorf("%s: launch %d took %v", what, i, took)
			}
		}
	}
}

// TestLaunchesStayShort has a device far slower than the first guess, and one
// that turns slow: after one launch that is too long the next are not.
func TestLaunchesStayShort(t *testing.T) {
	for _, rate := range []float64{1e6, 1e9, 1e12} {
		s := newSpeedometer(GPU, 28, 1777, kernels.Float32)
		for i := range 20 {
			if i == 10 {
				rate /= 100
			}
			const groups, orbits, round = 28 * 16, 64, 64 * 64
			steps := int64(s.roundsPerLaunch(groups, round, orbits)) * groups * round
			var times launchTimes
			times.add(time.Duration(float64(steps) / rate * 1e9))
			s.record(steps, 1, times)
			least := time.Duration(groups * orbits * 512 / rate * 1e9) // a launch that is not cut further
			if i%10 > 0 && times.longest > max(2*launchTime, least) {
				t.Errorf("rate %g: launch %d takes %v", rate, i, times.longest)
			}
		}
	}
}
