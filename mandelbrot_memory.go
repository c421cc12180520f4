package gpurun

import (
	"fmt"
	"math/big"

	"github.com/dustin/go-humanize"

	"github.com/gpurun/gpurun/device"
)

// What an image takes in this process: for each pixel a count, and unless only
// counts are wanted a magnitude and the colour made of the two; for each column
// and row a coordinate, here and in the type and place that a device wants it.
const (
	bytesPerCount      = 4
	bytesPerPixel      = 12
	bytesPerCoordinate = 3 * 8
)

// memoryShare is the part of this machine's memory that an image may take.
const memoryShare = 0.8

const (
	// bandsMemory is what two bands and the colours of both take at most, unless a row
	// takes more. Larger bands would not be computed sooner: one is some tenths of a second
	// of work for a processor, and many tiles for each of several.
	bandsMemory = 192 << 20

	// leastBandsMemory is as little as Config.Memory can make of it. Below it, a job
	// for every row or two would take longer to begin than to run.
	leastBandsMemory = 64 << 10
)

// perPixel returns what a pixel of v takes: a float64, as sums and products of it cannot
// overflow.
func (v View) perPixel() float64 {
	if v.CountsOnly {
		return bytesPerCount
	}
	return bytesPerPixel
}

// checkMemory returns an error if v does not fit into this machine's memory.
func checkMemory(v View) error {
	limit := memoryShare * float64(device.TotalMemory())
	need := float64(v.Width)*float64(v.Height)*v.perPixel() + (float64(v.Width)+float64(v.Height))*bytesPerCoordinate
	if need <= limit {
		return nil
	}
	return fmt.Errorf("%w: an image of %d×%d pixels takes %s, and 80 %% of this machine's memory is %s: ask for fewer pixels",
		ErrTooLarge, v.Width, v.Height, bytesText(need), bytesText(limit))
}

// bandRows returns how many rows a band of v has, at least 1, where total is this
// machine's memory and memory, if it is not 0, what Config allows.
func bandRows(v View, total, memory int64) (int, error) {
	held, limit := float64(bandsMemory), memoryShare*float64(total)
	whose := "80 % of this machine's memory"
	if memory > 0 && float64(memory) < limit {
		limit, whose = float64(max(memory, leastBandsMemory)), "the memory to use"
	}
	columns := float64(v.Width) * bytesPerCoordinate
	// Two bands are there at a time: one that is computed, and one that is put.
	row := 2 * (float64(v.Width)*v.perPixel() + bytesPerCoordinate)
	if columns+row > limit {
		return 0, fmt.Errorf("%w: the rows of an image of %d×%d pixels take %s each, and %s is %s: ask for fewer pixels",
			ErrTooLarge, v.Width, v.Height, bytesText(columns+row), whose, bytesText(limit))
	}
	rows := (min(held, limit) - columns) / row
	return int(min(max(rows, 1), float64(v.Height))), nil
}

func bytesText(n float64) string {
	whole, _ := big.NewFloat(n).Int(nil)
	return humanize.BigIBytes(whole)
}
