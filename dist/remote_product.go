package dist

import (
	"math"

	"github.com/gpurun/gpurun/tiler"
)

// remoteProduct is the runner of a product.
type remoteProduct struct {
	*remoteRunner
	grid tiler.Grid
}

// Grid returns the steps of the host's device. The tiles are about square, as the host
// has to fetch less for them.
func (r *remoteProduct) Grid() tiler.Grid { return r.grid }

const (
	// The tiles where a device of a host names none: steps that are multiples of the
	// panels of all CPU kernels, and as high as what one packs of B serves.
	usualStepX, usualStepY, usualHigh = 96, 168, 2016

	// mostStep bounds what a host may call its steps, and mostStepArea both: no tile is
	// smaller than they are.
	mostStep, mostStepArea = 4096, 1 << 17

	// mostReading is the bytes of the largest tile for a device that reads panels: the
	// larger it is the less is read, and the more memory it takes of the coordinator.
	// One that is smaller than a first tile elsewhere is not heeded.
	mostReading = 64 << 20
)

// gridOf returns the grid that the host has named, for elements of so many bytes.
func gridOf(m beganMessage, element int) tiler.Grid {
	g := tiler.Grid{StepX: usualStepX, StepY: usualStepY, High: usualHigh}
	if m.StepX >= 1 && m.StepX <= mostStep && m.StepY >= 1 && m.StepY <= mostStep && m.StepX*m.StepY <= mostStepArea {
		g = tiler.Grid{StepX: m.StepX, StepY: m.StepY}
	}
	if m.MaxW >= 1 && m.MaxH >= 1 && (m.MaxW >= probeArea || m.MaxW*min(m.MaxH, probeArea) >= probeArea) {
		most := mostReading / element
		square := int(math.Sqrt(float64(most)))
		g.MaxW = min(m.MaxW, max(square, most/m.MaxH))
		g.MaxH = min(m.MaxH, most/g.MaxW)
	}
	return g
}
