package dist

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// HostStats is what a Host does now, and has done since it was made.
type HostStats struct {
	Coordinators int  // that are served now
	Jobs         int  // that its devices have begun for them; one on two devices counts twice
	Leases       int  // of which the answers have not been sent
	Draining     bool // it takes no more leases

	Sessions     int64             // with coordinators, all that began
	Refused      map[Refusal]int64 // peers with which none did
	OperandBytes int64             // of memory that matrices take now

	Devices []HostDeviceStats
}

// HostDeviceStats is what a device of a Host has done, for all coordinators.
type HostDeviceStats struct {
	ID string

	// Done counts the tiles that were computed, Failed those that were not since the
	// device or the job had an error, and Lost those that were stopped, because nobody
	// waited for them any more or the session ended, or that never began.
	Done, Failed, Lost int64

	Elements          int64         // of the tiles that were computed
	Busy              time.Duration // in which it computed, one tile or several
	BytesIn, BytesOut int64         // to and from its memory, of the tiles that were computed
}

// Refusal says in a word why a peer was turned away.
type Refusal string

// Why a Host turns a peer away.
const (
	RefusedUntrusted Refusal = "untrusted" // another key or certificate, or none
	RefusedVersion   Refusal = "version"   // another gpurun
	RefusedProtocol  Refusal = "protocol"  // it does not speak the protocol
	RefusedOther     Refusal = "other"     // the connection broke, or nothing came in time
)

var refusals = []Refusal{RefusedUntrusted, RefusedVersion, RefusedProtocol, RefusedOther}

// refusalOf returns why err kept a session from beginning.
func refusalOf(err error) Refusal {
	switch {
	case errors.Is(err, ErrVersion):
		return RefusedVersion
	case errors.Is(err, ErrProtocol), errors.Is(err, errProtocol):
		return RefusedProtocol
	case errors.Is(err, ErrUntrusted):
		return RefusedUntrusted
	}
	return RefusedOther
}

// hostCounts are a Host's entries for its stats.
type hostCounts struct {
	coordinators, jobs, leases atomic.Int64
	sessions                   atomic.Int64

	mu      sync.Mutex
	refused map[Refusal]int64
}

func (c *hostCounts) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[Refusal]int64{}
	}
	c.refused[refusalOf(err)]++
}

// Stats returns what the host does and has done. It costs about as little as a tile does
// to count.
func (h *Host) Stats() HostStats {
	s := HostStats{
		Coordinators: int(h.counts.coordinators.Load()), Jobs: int(h.counts.jobs.Load()), Leases: int(h.counts.leases.Load()),
		Draining: h.Draining(), Sessions: h.counts.sessions.Load(), Refused: map[Refusal]int64{},
		OperandBytes: h.operands.taken.Load(),
	}
	h.counts.mu.Lock()
	for _, r := range refusals {
		s.Refused[r] = h.counts.refused[r]
	}
	h.counts.mu.Unlock()
	for i := range h.devices {
		s.Devices = append(s.Devices, h.devices[i].counts.stats(h.devices[i].info.ID))
	}
	return s
}

// deviceCounts are a device's entries for the stats of its host.
type deviceCounts struct {
	mu      sync.Mutex
	running int       // tiles
	since   time.Time // when the first of those that overlap began
	sum     HostDeviceStats
}

func (c *deviceCounts) stats(id string) HostDeviceStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sum
	s.ID = id
	if c.running > 0 {
		s.Busy += max(0, time.Since(c.since))
	}
	return s
}

// begin notes that the device begins a tile.
func (c *deviceCounts) begin(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running++; c.running == 1 {
		c.since = now
	}
}

// end notes that it has come to the end of one that begin has noted, computed or not.
func (c *deviceCounts) end(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running--; c.running == 0 {
		c.sum.Busy += max(0, now.Sub(c.since))
	}
}

// done notes that t was computed, with the result r.
func (c *deviceCounts) done(t kernels.Tile, r *kernels.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Done++
	c.sum.Elements += int64(t.Area())
	c.sum.BytesIn += r.BytesIn
	c.sum.BytesOut += r.BytesOut
}

// failed notes that a tile was not computed: failed, or lost.
func (c *deviceCounts) failed(lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lost {
		c.sum.Lost++
	} else {
		c.sum.Failed++
	}
}
