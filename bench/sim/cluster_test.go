package sim

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/dist"
)

// setup says what a cluster is like.
type setup struct {
	devices, hosts int
	seed           uint64
	seconds        float64       // that the job takes if all devices compute all the time, and none is lost
	spread         float64       // the fastest device ÷ the slowest, where speeds are log-uniform
	swing          float64       // the part by which the speed of one device in five goes up and down
	failure        time.Duration // mean time to the failure of a device; 0: none fails
	coordinator    coordinator
	alike          bool // no latency and no overhead either: for what is known in closed form
}

// cluster is the devices of one job, and the coordinator that they share.
type cluster struct {
	field       *field
	devices     []*device // those that join later too, in the order in which they come
	atFirst     int       // how many are there from the start
	coordinator coordinator
	overhead    time.Duration // of a tile on its device
	step        time.Duration // from one of a device's instants to the next
	began       time.Time
}

// What is drawn. The latency is that of a round trip over loopback (bench/transport) and
// of ten times that.
const (
	leastLatency  = 25 * time.Microsecond
	mostLatency   = 250 * time.Microsecond
	tileOverhead  = 100 * time.Microsecond
	hostFailures  = 0.5 // the part of all failures of devices in which their host fails
	vanishing     = 0.5 // the part of the failures that are noticed late
	silence       = 10 * time.Second
	meanAbsence   = time.Minute
	longestPeriod = 10 * time.Minute
	beginsWithin  = 20 * time.Millisecond
)

// newCluster draws a cluster from its seed.
func newCluster(f *field, s setup) *cluster {
	rng := rand.New(rand.NewPCG(s.seed, 1))
	c := &cluster{field: f, coordinator: s.coordinator, overhead: tileOverhead, began: time.Now()}
	c.coordinator.mu = new(sync.Mutex)
	horizon := time.Duration(s.seconds * 4e9)
	if s.alike {
		c.overhead = 0
	}
	for number := range s.hosts {
		first, last := number*s.devices/s.hosts, (number+1)*s.devices/s.hosts
		h := &host{rows: map[int]bool{}, columns: map[int]bool{}}
		latency := logUniform(rng, leastLatency.Seconds(), mostLatency.Seconds())
		var fails []failure
		if s.failure > 0 {
			fails = drawFailures(rng, time.Duration(float64(s.failure)/hostFailures), horizon)
		}
		for i := first; i < last; i++ {
			d := nature{speed: logUniform(rng, 1, s.spread), period: time.Minute, latency: time.Duration(latency * 1e9)}
			if rng.IntN(5) == 0 {
				d.swing, d.phase = s.swing, rng.Float64()
				d.period = time.Duration((0.1 + 0.9*rng.Float64()) * float64(longestPeriod))
			}
			if s.alike {
				d.swing, d.latency = 0, 0
			}
			own := fails
			if s.failure > 0 {
				own = slices.Concat(fails, drawFailures(rng, time.Duration(float64(s.failure)/(1-hostFailures)), horizon))
			}
			c.addLives(fmt.Sprintf("host%d/%d", number, i-first), h, d, own, rng, s.alike)
		}
	}
	slices.SortStableFunc(c.devices, func(a, b *device) int { return int(a.begins - b.begins) })
	sum := 0.0
	for i, d := range c.devices {
		d.number = i
		if d.begins <= beginsWithin {
			sum, c.atFirst = sum+d.speed, c.atFirst+1
		}
	}
	for _, d := range c.devices {
		d.speed *= f.total / s.seconds / sum
	}
	c.step = 1 << bits.Len(uint(len(c.devices)*instants))
	return c
}

// failure is when something fails, when the coordinator notices, and when it is back.
type failure struct{ at, noticed, back time.Duration }

func drawFailures(rng *rand.Rand, mean, until time.Duration) (all []failure) {
	for t := time.Duration(0); ; {
		t += time.Duration(rng.ExpFloat64() * float64(mean))
		if t > until {
			return all
		}
		f := failure{at: t, noticed: t + time.Millisecond}
		if rng.Float64() < vanishing {
			f.noticed = t + silence + time.Duration(rng.Float64()*float64(heartbeat))
		}
		f.back = f.noticed + time.Duration(rng.ExpFloat64()*float64(meanAbsence))
		all = append(all, f)
		t = f.back
	}
}

// addLives adds a device like d for each time between two failures.
func (c *cluster) addLives(id string, h *host, n nature, failures []failure, rng *rand.Rand, atOnce bool) {
	slices.SortFunc(failures, func(a, b failure) int { return int(a.at - b.at) })
	begins := time.Duration(rng.Float64() * float64(beginsWithin))
	if atOnce {
		begins = 0
	}
	for life, f := range append(failures, failure{}) {
		if f.at > 0 && f.at < begins {
			continue // it was not there
		}
		d := &device{nature: n, id: id, cluster: c, host: h, begins: begins, lost: f.at, noticed: f.noticed}
		if life > 0 {
			d.id = fmt.Sprintf("%s#%d", id, life)
		}
		c.devices = append(c.devices, d)
		begins = f.back
	}
}

func logUniform(rng *rand.Rand, low, spread float64) float64 {
	if spread > low {
		return low * math.Exp(rng.Float64()*math.Log(spread/low))
	}
	return low
}

func (c *cluster) now() time.Duration { return time.Since(c.began) }

// sleep sleeps until a time, or until ctx is done.
func (c *cluster) sleep(ctx context.Context, until time.Duration) {
	timer := time.NewTimer(until - c.now())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// joining sends the devices that come later, each when it comes.
func (c *cluster) joining(ctx context.Context) <-chan dist.Device {
	join := make(chan dist.Device)
	go func() {
		for _, d := range c.devices[c.atFirst:] {
			c.sleep(ctx, d.at(d.begins, 0))
			select {
			case join <- d:
			case <-ctx.Done():
				return
			}
		}
	}()
	return join
}

// ideal returns when the job would be done if every device computed all the time that it
// is there, which takes one who knows all speeds, all losses and all costs beforehand.
func (c *cluster) ideal() time.Duration {
	low, high := time.Duration(0), time.Duration(math.MaxInt64/8)
	for high-low > time.Microsecond {
		middle := low + (high-low)/2
		sum := 0.0
		for _, d := range c.devices {
			if d.begins < middle {
				sum += d.done(d.there(middle)) - d.done(d.begins)
			}
		}
		if sum < c.field.total {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// coordinator is what all results have to pass, one after the other: its line, and then
// the queue's mutex. The zero value takes no time.
type coordinator struct {
	line float64       // bytes a second
	tile time.Duration // of the processor, with the mutex

	mu             *sync.Mutex
	lineAt, tileAt time.Duration // when they are free
	sentAt         time.Duration // likewise, the other way of the line
	taken, sent    int64         // bytes
}

// take returns when a result that arrives at a time has been taken.
func (c *coordinator) take(at time.Duration, bytes int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken += int64(bytes)
	if c.line > 0 {
		at = max(at, c.lineAt) + time.Duration(float64(bytes)/c.line*1e9)
		c.lineAt = at
	}
	if c.tile > 0 {
		at = max(at, c.tileAt) + c.tile
		c.tileAt = at
	}
	return at
}

// send returns when so many bytes of operands, which go at a time, have come.
func (c *coordinator) send(at time.Duration, bytes int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += int64(bytes)
	if c.line > 0 {
		at = max(at, c.sentAt) + time.Duration(float64(bytes)/c.line*1e9)
		c.sentAt = at
	}
	return at
}
