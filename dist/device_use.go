package dist

import (
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/tiler"
)

// deviceUse is what the queue knows of a device that the job uses.
type deviceUse struct {
	id      string
	key     string // as in Convicted
	slots   int
	grid    *tiler.Grid // nil if its tiles may be of any shape
	began   bool        // it has pulled, or could have
	serving bool        // its Runner, or its Begin, has not returned for good
	aside   *DeviceError
	asideAt time.Time // when that was set last
	left    bool      // aside because it left in peace: its leases are still answered
	setback int       // answers without a result since the last one with
	work    work
	out     int     // leases, those revoked not among them
	rates   rateSum // of its pullers
	faults  faults
	late    int          // results, for leases that were lost
	lines   operandLines // if it has a grid

	// If results are verified: what it has answered, and whether one was wrong.
	answered []*piece
	wrong    bool

	learning int       // its pullers that are
	cameOn   time.Time // when it last said that a tile came some way; see noteMoved
	moved    atomic.Bool

	// Beside a puller for each slot there may be spare ones, up to most pullers
	// together; resting are those that are not needed now. See enlist.
	most, spare int
	resting     []*puller
}

func (d *deviceUse) inUse() bool { return d.aside == nil }

// move notes that the device has come some way, for noteMoved.
func (d *deviceUse) move() {
	if !d.moved.Load() { // a store has a price
		d.moved.Store(true)
	}
}

// noteMoved has the device have come on now if it has since this was last called. q.mu is
// held.
func (d *deviceUse) noteMoved(now time.Time) {
	if d.moved.Swap(false) {
		d.cameOn = now
	}
}

// putAside notes why d is not in use any more.
func (d *deviceUse) putAside(cause *DeviceError) { d.aside, d.asideAt = cause, time.Now() }

// reads reports whether tiles of the device have a largest size.
func (d *deviceUse) reads() bool { return d.grid != nil && d.grid.MaxW > 0 }

// keeps reports whether the device keeps the operands of its tiles for others that need
// them. One that reads them keeps none.
func (d *deviceUse) keeps() bool { return d.grid != nil && !d.reads() }

// puller is what the queue knows of the loop that pulls for one slot of a
// device.
type puller struct {
	q        *queue
	device   *deviceUse
	slot     int
	rate     rate
	onDevice rate          // likewise, but of the time that tiles were on the device or waited there
	learning bool          // its rate is not known yet
	expected float64       // what it may be then, or 0
	givenUp  int           // leases, in that time, for silence
	overhead time.Duration // of a tile, besides computing; smoothed
	tile     time.Duration // computing, of a tile; smoothed
}

func (p *puller) spare() bool { return p.slot >= p.device.slots }
