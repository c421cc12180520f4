package dist

import (
	"math"
	"time"
)

// What bounds the predicted time of a tile.
const (
	// leastGrain is the shortest time worth a tile of its own.
	leastGrain = 2 * time.Millisecond

	// overheadGrain times the overhead of a tile is the other lower bound: it
	// keeps the overhead below a tenth.
	overheadGrain = 10

	// overheadDrift: the overhead is found to be larger by that part of the
	// difference, and at once to be smaller.
	overheadDrift = 16

	// ceiling is the longest: what is lost with a device, and how long a
	// device that has become slow goes unnoticed, stay small.
	ceiling = time.Second

	// factor: the pullers together take 1/factor of what remains at their
	// current rates, so tiles shrink as the end nears. S. Hummel,
	// E. Schonberg, L. Flynn, "Factoring: a method for scheduling parallel
	// loops", 1992. They have 2 for times that are random; costs that come from
	// samples can be wrong by more.
	factor = 3

	// growth times what a puller's recent tiles took together, which memory
	// makes five times the mean where they are alike, bounds what the next is
	// predicted to take: a rate measured on small tiles may be far off for a
	// large one.
	growth = 0.5

	// crowdedGrowth takes its place, of the time on the device, where results wait for long, as
	// each step does.
	crowdedGrowth = 4

	// memory is how much a tile weighs in the rate against the one after it.
	memory = 0.8
)

// The size of a puller's first tiles, while its rate is unknown: of each,
// the elements at most, and the part of the remaining cost at most that all
// pullers' first tiles take together.
const (
	probeArea  = 4096
	probeShare = 64
)

// expectedGrain is the longest time that a first tile is expected to take by the rate of an earlier
// run: it may have been of other data, which cost less.
const expectedGrain = 5 * leastGrain

// rate is a puller's measured speed: cost over time, where each earlier tile
// weighs less than the one after it. As cost and time are smoothed
// apart, a large tile outweighs a small one, and a rate that was far off is
// put right by one tile, whether it was too high or too low.
type rate struct {
	cost, busy float64 // the decayed sums; busy in seconds
}

func (r *rate) add(cost float64, busy time.Duration) {
	if cost > 0 {
		r.cost = r.cost*memory + cost
		r.busy = r.busy*memory + max(busy, time.Microsecond).Seconds()
	}
}

// perSecond returns the cost a second, 0 while it is unknown.
func (r *rate) perSecond() float64 {
	if r.busy == 0 {
		return 0
	}
	return r.cost / r.busy
}

// predict returns the time that cost takes; the ceiling while the rate is
// unknown, as no tile is meant to take longer.
func (r *rate) predict(cost float64) time.Duration {
	if r.busy == 0 {
		return ceiling
	}
	return duration(cost / r.perSecond())
}

// duration converts seconds, of any size, leaving room for sums.
func duration(seconds float64) time.Duration {
	return time.Duration(min(seconds*1e9, math.MaxInt64/16))
}

// setRate sets p's rate. p neither waits nor is it busy with a duplicate. q.mu is held.
func (p *puller) setRate(r rate) {
	sums := []*rateSum{&p.device.rates, &p.q.rates}
	if !p.device.inUse() {
		sums = sums[:1]
	}
	for _, s := range sums {
		s.remove(p)
	}
	p.rate = r
	for _, s := range sums {
		s.add(p)
	}
}

// learn takes in what a tile of p took, and how much of it on the device. It is as setRate
// is.
func (p *puller) learn(cost float64, busy, device time.Duration) {
	r := p.rate
	r.add(cost, busy)
	p.onDevice.add(cost, device)
	p.setRate(r)
	if p.learning && p.rate.perSecond() > 0 {
		p.learning = false
		p.device.learning--
	}
}

// noteOverhead takes in what a tile took besides computing. The part that all
// tiles have is looked for, which the quickest show: others are larger, and
// their results take longer on the way, or something got lost there.
func (p *puller) noteOverhead(took time.Duration) {
	took = max(took, 0)
	if p.overhead == 0 || took < p.overhead {
		p.overhead = took
	} else {
		p.overhead += (took - p.overhead) / overheadDrift
	}
}

// grain returns the shortest time worth a tile for p.
func (p *puller) grain() time.Duration {
	return min(max(leastGrain, overheadGrain*p.overhead), ceiling)
}

// want returns the cost and the greatest area of the tile that p should take
// from a pool of work that pullers of the given rates, added up, share.
func (q *queue) want(p *puller, pool, rates float64) (cost float64, maxArea int) {
	if p.device.reads() {
		most := q.mostToRead(p)
		return q.wantToRead(p, pool, rates, most, time.Now()), most
	}
	if p.device.grid != nil {
		return q.wantOfProduct(p, pool, rates), q.maxArea
	}
	r := p.rate.perSecond()
	switch slots := float64(q.slotsInUse()); {
	case r == 0 && p.expected > 0:
		part := min(pool/(factor*slots), expectedGrain.Seconds()*p.expected)
		return max(part, leastGrain.Seconds()*p.expected, pool/(probeShare*slots)), q.maxArea
	case r == 0:
		return pool / (probeShare * slots), min(q.maxArea, probeArea)
	}
	// The grain is of time on the device. Were the time counted that results wait, where there
	// are more than the coordinator can take, tiles would become ever smaller, and ever more.
	// A stall on the line is no reason to take much more at once.
	grain := p.grain()
	there := min(grain.Seconds(), crowdedGrowth*p.onDevice.busy) * p.onDevice.perSecond()
	seconds := min(pool/(factor*rates), ceiling.Seconds(), growth*p.rate.busy)
	return max(seconds*r, grain.Seconds()*r, there), q.maxArea
}

const (
	// productFactor is the factor where all elements cost the same.
	productFactor = 2

	// probeFlops is how many operations the first tiles of a product have at most: a
	// second of work for the slowest, and so much that it takes longer than to fetch
	// what they read.
	probeFlops = 1 << 33
)

// wantOfProduct is want for a device with a grid. As its costs are known, a first tile
// tells its rate.
func (q *queue) wantOfProduct(p *puller, pool, rates float64) float64 {
	r := p.rate.perSecond()
	if r == 0 {
		return min(pool*readingProbe/float64(q.slotsInUse()), q.firstOfProduct())
	}
	return r * max(min(pool/(productFactor*rates), ceiling.Seconds()), p.grain().Seconds())
}

const (
	// readingGrain is the part of the largest tile of a device that reads operands
	// which is worth a tile: it reads several times as much for each element.
	readingGrain = 1. / 16

	// readingProbe is the part of the job that the first tiles of all such devices take
	// together.
	readingProbe = 1. / 8
)

// wantToRead is want for a device that reads operands, and the more of them the smaller
// its tiles are. Its costs are known, so that it takes, in one tile if there is room,
// what it does until all are done if they keep to their rates.
func (q *queue) wantToRead(p *puller, pool, rates float64, most int, now time.Time) float64 {
	r := p.rate.perSecond()
	alone := q.slotsInUse() == 1 && !q.joinable
	if alone && (q.longest == 0 || r > 0) {
		return math.Inf(1)
	}
	g := p.device.grid
	largest := min(float64(g.MaxW)*float64(g.MaxH), float64(most))
	least := readingGrain * largest * q.total / float64(q.job.Bounds().Area())
	if r == 0 {
		want := max(least, pool*readingProbe/float64(q.slotsInUse()))
		if q.longest > 0 {
			want = min(want, q.firstOfProduct())
		}
		return want
	}
	for _, l := range q.live {
		part := 1.
		if l.rated {
			part = min(l.left(now)/max(l.predicted.Seconds(), 1e-9), 1)
		}
		pool += part * l.cost
	}
	return max(least, r*pool/rates, r*p.grain().Seconds())
}

// mostToRead returns the elements of the largest tile of p, which reads operands: its
// device's share of the job and, if it is known to take longer, what it does in
// Options.Longest.
func (q *queue) mostToRead(p *puller) int {
	most := q.fairShare()
	if r := p.rate.perSecond(); q.longest > 0 && r > 0 {
		inTime := r * q.longest.Seconds() / q.total * float64(q.job.Bounds().Area())
		most = max(1, int(min(float64(most), inTime)))
	}
	return most
}

// firstOfProduct returns the cost of a first tile, by which a rate can be told.
func (q *queue) firstOfProduct() float64 {
	if job, ok := q.job.(interface{ Flops() float64 }); ok {
		return q.total * probeFlops / max(job.Flops(), 1)
	}
	return math.Inf(1)
}

// fairShare returns the elements of the job for each device in use, whatever their rates:
// blocks have to suit the slow ones too.
func (q *queue) fairShare() int {
	n := 0
	for _, d := range q.devices {
		if d.inUse() {
			n++
		}
	}
	return q.job.Bounds().Area() / max(1, n)
}

// slotsInUse counts the pullers that there are and will be.
func (q *queue) slotsInUse() int { return max(1, q.slots) }

// totalRate returns the rates of all pullers added up, taking an unknown one
// for the mean of the others. It is 0 if none is known.
func (q *queue) totalRate() float64 {
	if q.rates.known == 0 {
		return 0
	}
	return q.rates.sum / float64(q.rates.known) * float64(q.rates.all)
}

// rateSum is the rates of some pullers added up. Nobody adds them up anew: there may be
// tens of thousands, and a pull is to take microseconds.
type rateSum struct {
	sum        float64
	known, all int // those of which the rate is known, and all
}

func (s *rateSum) add(p *puller) {
	s.all++
	if r := p.rate.perSecond(); r > 0 {
		s.sum, s.known = s.sum+r, s.known+1
	}
}

func (s *rateSum) remove(p *puller) {
	one := rateSum{}
	one.add(p)
	s.subtract(one)
}

// subtract takes out those of o.
func (s *rateSum) subtract(o rateSum) {
	s.all -= o.all
	s.sum, s.known = max(s.sum-o.sum, 0), s.known-o.known
	if s.known == 0 {
		s.sum = 0 // what is left are rounding errors
	}
}
