package gpurun

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"sync"

	"github.com/gpurun/gpurun/kernels"
)

// kernelRates are the elements a second that devices had when they last ran a kernel: with them the
// next run of it begins with tiles that are worth the way. Its methods may be called by several
// goroutines.
type kernelRates struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]map[string]float64 // by kernelID, and the devices' IDs
}

// mostRated bounds the kernels whose rates are kept. All are forgotten when there would be more.
const mostRated = 256

// leastBusy is how many times as fast as over the whole of a run a device may have been while it
// was busy.
const leastBusy = 16

// kernelID stands for what job makes an element of: its function, and what that has whole, of which
// it may take all for each. It is zero if that has no name.
func kernelID(job *kernels.Custom) (id [sha256.Size]byte) {
	if job.Name == "" && job.Source == "" {
		return id
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", job.Name, job.Entry, job.Source)
	for _, a := range job.Args {
		if a.Role == kernels.Whole {
			fmt.Fprintf(h, " %d×%d", a.W, a.H)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// known returns those of the kernel id, by the devices' IDs.
func (k *kernelRates) known(id [sha256.Size]byte) map[string]float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.of[id])
}

// learn takes in those of a run of the kernel id.
func (k *kernelRates) learn(id [sha256.Size]byte, r *Report) {
	if id == [sha256.Size]byte{} || r.Makespan == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || k.of[id] == nil && len(k.of) == mostRated {
		k.of = map[[sha256.Size]byte]map[string]float64{}
	}
	if k.of[id] == nil {
		k.of[id] = map[string]float64{}
	}
	for _, d := range r.Devices {
		// The time is the host's word. By this clock it was not much less than all.
		if rate := min(d.Rate, leastBusy*d.Share*(1-r.Resumed)*float64(r.Elements)/r.Makespan); rate > 0 {
			k.of[id][d.fullID()] = rate
		}
	}
}
