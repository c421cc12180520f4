package dist

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// simulated is a host's clock beside a coordinator's: at a time of the coordinator's it
// shows that time and the offset, which changes by drift, in parts of one.
type simulated struct {
	offset time.Duration
	drift  float64
	jump   time.Duration // at jumpAt
	jumpAt time.Duration
}

func (s simulated) at(t time.Duration) time.Duration {
	shows := t + s.offset + time.Duration(s.drift*float64(t))
	if s.jumpAt > 0 && t >= s.jumpAt {
		shows += s.jump
	}
	return shows
}

// delays draws what a message takes, in one direction.
type delays struct{ least, more time.Duration }

func (d delays) next(rng *rand.Rand) time.Duration {
	if rng.IntN(10) > 0 {
		return d.least + time.Duration(rng.Int64N(int64(d.more)/50+1))
	}
	return d.least + time.Duration(rng.Int64N(int64(d.more)+1))
}

// simulate has a host answer leases and send pings for a while, and calls look with what
// is made of each lease, and when its computing truly began.
func simulate(rng *rand.Rand, host simulated, to, back delays, look func(p placed, began time.Duration)) {
	var c hostClock
	for now := time.Duration(0); now < 5*time.Minute; {
		now += time.Duration(rng.Int64N(int64(5 * time.Second)))
		if rng.IntN(3) == 0 {
			c.heard(host.at(now), now+back.next(rng))
			continue
		}
		read := now + to.next(rng)
		began := read + time.Duration(rng.Int64N(int64(time.Second)))
		ended := began + time.Duration(rng.Int64N(int64(time.Second)))
		p := c.place(hostTimes{now, host.at(read), host.at(began) - host.at(read), host.at(ended) - host.at(began), ended + back.next(rng)})
		look(p, began)
	}
}

// TestHostClock checks that the time that is made of a host's is as near to the true one
// as is said, for delays of all kinds and clocks that drift apart; and that it is said to
// be near where the delays are short.
func TestHostClock(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ways := []delays{{0, 0}, {0, time.Microsecond}, {time.Millisecond, 200 * time.Millisecond}, {100 * time.Millisecond, 3 * time.Second}}
	for range 300 {
		host := simulated{offset: time.Duration(rng.Int64N(int64(20*time.Hour))) - 10*time.Minute, drift: (rng.Float64()*2 - 1) * 100e-6}
		if rng.IntN(3) == 0 {
			host.drift = []float64{-100e-6, 0, 100e-6}[rng.IntN(3)]
		}
		to, back := ways[rng.IntN(len(ways))], ways[rng.IntN(len(ways))]
		widest := time.Duration(0)
		simulate(rng, host, to, back, func(p placed, began time.Duration) {
			if off := (p.from - began).Abs(); off > p.within {
				t.Fatalf("%+v, delays %+v and %+v: it is off by %v, and said to be by %v at most", host, to, back, off, p.within)
			}
			widest = max(widest, p.within)
		})
		// A ping or a result every five seconds or so, and a lease of two.
		if limit := to.least + to.more + back.least + back.more + 5*time.Millisecond; widest > limit {
			t.Errorf("%+v, delays %+v and %+v: it is said to be within %v", host, to, back, widest)
		}
	}
}

// TestHostClockUneven has one direction take much longer than the other: the error covers
// it, where half the round trip would be far off.
func TestHostClockUneven(t *testing.T) {
	var c hostClock
	const slow = time.Second
	host := simulated{offset: -time.Hour}
	p := c.place(hostTimes{time.Hour, host.at(time.Hour + slow), 0, time.Millisecond, time.Hour + slow + time.Millisecond})
	if off := (p.from - time.Hour - slow).Abs(); off > p.within || p.within < slow/3 {
		t.Errorf("off by %v, within %v", off, p.within)
	}
	// A lease that comes quickly bounds the offset from the other side.
	host2 := host.at(2 * time.Hour)
	p = c.place(hostTimes{2 * time.Hour, host2, 0, time.Millisecond, 2*time.Hour + time.Millisecond})
	if off := (p.from - 2*time.Hour).Abs(); off > p.within || p.within > 2*time.Millisecond {
		t.Errorf("off by %v, within %v", off, p.within)
	}
}

// TestHostClockJumps has the host's clock jump, as that of a machine that slept: the first
// lease after it is placed rightly.
func TestHostClockJumps(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	way := delays{time.Millisecond, 5 * time.Millisecond}
	for range 100 {
		jump := time.Duration(rng.Int64N(int64(time.Hour))) - 30*time.Minute
		if jump.Abs() < 20*time.Millisecond { // shorter than a round trip
			continue
		}
		host := simulated{offset: time.Hour, jump: jump, jumpAt: 2 * time.Minute}
		simulate(rng, host, way, way, func(p placed, began time.Duration) {
			if began-2*time.Second < host.jumpAt && began+2*time.Second > host.jumpAt {
				return // it may have jumped within the lease
			}
			if off := (p.from - began).Abs(); off > p.within {
				t.Fatalf("a jump of %v: at %v off by %v, within %v", jump, began, off, p.within)
			}
		})
	}
}

// TestHostClockLies has a host say any numbers: what is made of them is within the lease,
// and when the host tells the truth again it is believed.
func TestHostClockLies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	any := func() time.Duration {
		odd := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64 / 2, math.MaxInt64/8 + 1, rng.Int64(), -rng.Int64(), rng.Int64N(1e12)}
		return time.Duration(odd[rng.IntN(len(odd))])
	}
	for range 2000 {
		var c hostClock
		now := time.Duration(rng.Int64N(int64(1000 * time.Hour)))
		for range rng.IntN(20) {
			sent := now
			now += time.Duration(rng.Int64N(int64(time.Second)))
			if rng.IntN(3) == 0 {
				c.heard(any(), now)
				continue
			}
			p := c.place(hostTimes{sent, any(), any(), any(), now})
			if p.from < sent || p.to < p.from || p.to > now || p.within < 0 || p.within > now-sent {
				t.Fatalf("a lease from %v to %v was computed from %v to %v, within %v", sent, now, p.from, p.to, p.within)
			}
		}
		host := simulated{offset: time.Duration(rng.Int64N(int64(time.Hour)))}
		p := c.place(hostTimes{now, host.at(now + 1000), 0, 1e6, now + 1000 + 1e6 + 1000})
		if off := (p.from - now - 1000).Abs(); off > p.within {
			t.Fatalf("after lies an honest lease is off by %v, within %v", off, p.within)
		}
	}
}
