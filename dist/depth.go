package dist

import "time"

// A device of another host has the next tile there when one is done, so that
// it need not wait for a round trip; but if its tiles are much quicker than the
// round trip it has to have many. Where the queue cuts the tiles it makes them
// long enough. Where the tiles are given, spare pullers join those of the
// slots for as long as they are needed.

// spareBytes is what the results of spare pullers may take together: more fill
// the memory of both sides, and bring nothing, since results of this size keep a
// connection busy by themselves.
const spareBytes = 1 << 20

// depth returns how many tiles p's device should have at a time: for each slot
// one, and as many as it computes in the time that p's tiles spent on the way.
// No device has so many that the others would have none in the end. q.mu is
// held.
func (q *queue) depth(p *puller) int {
	d := p.device
	spare := int(p.overhead / max(p.tile, time.Microsecond))
	return d.slots + min(spare, d.most-d.slots, (q.pending.Len()+len(q.given))/(2*len(q.devices)))
}

// enlist returns a puller that is to work beside p, or nil if p's device has
// enough of them.
func (q *queue) enlist(p *puller) *puller {
	d := p.device
	if d.most <= d.slots { // never changes while pullers work
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over || !d.inUse() || d.slots+d.spare >= q.depth(p) {
		return nil
	}
	d.spare++
	var more *puller
	if last := len(d.resting) - 1; last >= 0 {
		more, d.resting = d.resting[last], d.resting[:last]
	} else {
		more = &puller{q: q, device: d, slot: d.slots + d.spare - 1}
		q.addPuller(more)
	}
	more.onDevice, more.overhead, more.tile = p.onDevice, p.overhead, p.tile
	more.setRate(p.rate)
	return more
}

// rest sends p to rest, and reports so, if it is a spare puller that is not
// needed. q.mu is held.
func (q *queue) rest(p *puller) bool {
	if !p.spare() || p.device.slots+p.device.spare <= q.depth(p) {
		return false
	}
	q.sendToRest(p)
	return true
}

func (q *queue) sendToRest(p *puller) {
	p.device.spare--
	p.device.resting = append(p.device.resting, p)
}
