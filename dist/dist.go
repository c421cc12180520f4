// Package dist shares one job out among devices. A queue holds the tiles
// still to do; for each slot of each device a puller pulls a tile, has it
// computed and reports back. The queue cuts tiles by predicted cost at the
// time of the pull, so that all devices finish together, whatever their
// speeds.
//
// The queue has one mutex. Of the code that a caller brings, only Cost runs
// under it; Sink, Device, Runner and Progress never do.
package dist

import (
	"context"
	"log/slog"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Device is something that computes tiles, such as the CPU or an OpenCL
// device.
type Device interface {
	// ID names the device in reports and errors.
	ID() string

	// Slots returns how many tiles the device likes to have at once: 1, or 2
	// where copies of one tile can overlap the computing of another. Below 1
	// counts as 1.
	Slots() int

	// Begin readies the device for job, which may take as long as a compiler
	// needs, and returns the Runner for it. It returns within 100 ms of the
	// end of ctx. ctx ends when the job does: what outlives Begin is released
	// by the Runner's Close, not by ctx.
	Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error)
}

// Gridded is a Runner of a job whose tiles are better of some sizes than of others.
// One whose Grid has a largest tile has room for a single one.
//
// The runner of a product reads no more of A and B than the rows and columns of its tile
// and, where it has a Grid, those that fill up the steps in which they lie: on a host
// the others may not have come yet.
type Gridded interface {
	kernels.Runner
	Grid() tiler.Grid
}

// Sink takes the results of a job, tile by tile.
type Sink interface {
	// Put stores the planes of r, the result of t. Every element of the job
	// is put exactly once, but where Options.Verify finds out a device: then what
	// it computed is put again. The tiles are those of the queue and come in any
	// order, several at a time from different goroutines. r is only valid
	// until Put returns. An error ends the job.
	Put(t kernels.Tile, r *kernels.Result) error
}

// Retracter is a Sink that wants to know what does not count any more. Retract is
// called with tiles, or parts of them, that were put by a device which was then found to be
// wrong, and before any of them is computed again. An error ends the job.
type Retracter interface {
	Sink
	Retract(tiles []kernels.Tile) error
}

// DefaultMaxResultBytes is the largest result of a tile, unless
// Options.MaxResultBytes says otherwise.
const DefaultMaxResultBytes = 16 << 20

// Options adjust a Run; the zero value is good.
type Options struct {
	// Cost predicts the work of a tile. Where it is nil, or does not give the
	// whole job a positive, finite cost, every element costs 1.
	Cost tiler.Cost

	// Tiles, if positive, cuts the job beforehand into this number of tiles
	// of equal area, which are handed out whole, costliest first.
	Tiles int

	// Todo, if not nil, is what there is to compute of the job, in tiles that do not
	// overlap: the sink has the rest from a run before.
	Todo []kernels.Tile

	// Longest, if positive, is how long a tile is predicted to take at most, where a
	// device would read less with larger ones. Others take a second.
	Longest time.Duration

	// Rates are the costs a second that devices, by their IDs, had in a run like this one. The
	// first tiles of those that are there are of some milliseconds, and of others a small part of
	// the job.
	Rates map[string]float64

	// MaxResultBytes bounds the size of a tile's result; 0 or less means
	// DefaultMaxResultBytes. It does not bind Tiles: a device computes a tile
	// of any size.
	MaxResultBytes int

	// Verify, if not nil, looks at each result before it is put, several at a time
	// from different goroutines. If its error matches ErrWrong the device is set
	// aside, also when it comes again by Join, and everything that it has computed
	// for the job is computed again by others; any other error ends the job.
	Verify func(ctx context.Context, t kernels.Tile, r *kernels.Result) error

	// Convicted are devices that take no part, neither from the start nor by Join:
	// those that earlier runs, whose Report.Convicted this is, have found to be wrong.
	Convicted Convicted

	// Join, if not nil, brings devices that come while the job runs. Those that
	// come when it has ended stay in the channel.
	Join <-chan Device

	// Absent, if not nil, says of hosts whose devices might come by Join why they are not there.
	// It may be called by any goroutine.
	Absent func() []error

	// Wait is how long the job waits for a device from Join when it has none
	// left.
	Wait time.Duration

	// Spans asks for Report.Spans, which take some hundred bytes for every lease.
	Spans bool

	// Progress, if not nil, is called with the part of the job's cost that is
	// done, from 0 to 1: never twice at once, never with less than before, at
	// most every 50 ms, and with 1 when the job is done. It is not called
	// after Run has returned.
	Progress func(done float64)

	// Live, if not nil, shows the Run to others while it runs.
	Live *Live

	// Log, if not nil, is told of tiles that fail, are lost or come back wrong, and of
	// devices that are set aside or go. It is not called after Run has returned.
	Log *slog.Logger
}
