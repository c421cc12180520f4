package dist

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/gpurun/gpurun/kernels"
)

// Convicted says of devices that were found to be wrong by Options.Verify why they
// were. The key is what a device is known by from one session to the next: its ID,
// but of a host that joined by itself, which has another port each time, the
// machine's address and name instead of the port.
type Convicted map[string]*DeviceError

// causes returns why the devices are left out, in the order of their keys.
func (c Convicted) causes() []*DeviceError {
	var causes []*DeviceError
	for _, key := range slices.Sorted(maps.Keys(c)) {
		e := c[key]
		causes = append(causes, &DeviceError{Device: e.Device, Op: "set aside because of what it did before, " + e.Op, Err: e.Err})
	}
	return causes
}

// take takes d into the job, or returns nil if it has been convicted or cannot compute it: of one that
// cannot, and that nothing else of its host makes up for, declined says so.
func (q *queue) take(d Device) (use *deviceUse, declined bool) {
	id, slots := d.ID(), d.Slots()
	key := id
	if known, ok := d.(interface{ key() string }); ok {
		key = known.key()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.convicted[key] != nil {
		return nil, false
	}
	use = &deviceUse{id: id, key: key, slots: slots}
	if choosy, ok := d.(interface {
		declines(kernels.Job) (bool, error)
	}); ok {
		if no, why := choosy.declines(q.job); no {
			if why != nil {
				// The job does not end for want of devices while some are still to be taken.
				q.add(use).serving = false
				q.withdraw(use, &DeviceError{Device: id, Op: "taking the kernel", Err: why})
				q.say("device "+string(use.state()), "device", id, "err", why)
			}
			return nil, why != nil
		}
	}
	return q.add(use), false
}

// convict sets d aside, which was found to be wrong as cause says. Nothing that it has
// computed counts any more, unless the job has just ended; no job that is told of it
// takes it again. A device whose host went and came back is here once for each of its
// sessions, and what it did in any of them counts no more: that is returned, for takeBack.
// q.mu is held.
func (q *queue) convict(d *deviceUse, cause *DeviceError) (taken []*piece) {
	q.convicted[d.key] = cause
	for _, use := range slices.Clone(q.devices) {
		if use.key != d.key {
			continue
		}
		if !use.wrong && !q.completed() {
			use.work.discard()
			for _, x := range use.answered {
				q.areaDone -= x.tile.Area()
				q.costDone -= x.cost
			}
			taken = append(taken, use.answered...)
			use.answered = nil
		}
		use.wrong = true
		if use.inUse() && !q.over {
			q.setAside(use, cause)
		} else {
			use.putAside(cause) // which is worse than that it leaves, for one
			q.lookForDevices()
		}
	}
	return taken
}

// takeBack makes pending what was put by a device that is wrong, once the sink has been
// told; also of a job that has ended without being done, of which the sink may be kept. q.mu
// is held, but not all the time, and the caller has q.putting, for which Run waits.
func (q *queue) takeBack(pieces []*piece) {
	if len(pieces) == 0 || q.completed() {
		return
	}
	if sink, ok := q.sink.(Retracter); ok {
		tiles := make([]kernels.Tile, len(pieces))
		for i, x := range pieces {
			tiles[i] = x.tile
		}
		q.mu.Unlock()
		err := sink.Retract(tiles)
		q.mu.Lock()
		if err != nil {
			err = fmt.Errorf("taking back the results of a device that is wrong: %w", err)
			q.end(err)
			q.err = errors.Join(q.err, err)
			return
		}
	}
	if q.over {
		return
	}
	q.counts.retries += q.giveBack(pieces)
	q.checkFailures(pieces)
	q.lookForDevices()
	q.dispatch()
}

// completed reports whether the job has ended with all that there was to do. q.mu is held.
func (q *queue) completed() bool { return q.over && q.err == nil }

// key is what d is known by from one session to the next.
func (d *remoteDevice) key() string {
	if d.host.dialled {
		return d.ID()
	}
	machine, _, err := net.SplitHostPort(d.host.addr)
	if err != nil {
		machine = d.host.addr // a unix socket, which has no port
	}
	return machine + " " + d.host.Name() + "/" + d.info.ID
}
