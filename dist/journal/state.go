package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// State is what a folder keeps, as its journal says.
type State struct {
	Job  Job
	Runs int // processes that have worked on it

	// Began is when the job was begun, RunBegan when the last of the runs was, and
	// Last when the journal has last grown.
	Began, RunBegan, Last time.Time

	Tiles    int     // that are done
	Done     float64 // the part of the job's elements that are, from 0 to 1
	RunDone  float64 // likewise, in the last run alone
	Finished bool    // the result is safe elsewhere
	Holder   string  // who works on it now; empty if nobody does
}

// Read returns what the folder dir keeps. It changes nothing, and does not look at the
// output. The error matches fs.ErrNotExist if dir keeps no job, or ErrDamaged.
func Read(dir string) (*State, error) {
	l, err := readLog(filepath.Join(dir, journalFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s keeps no job: %w: name a folder that was given to --state", dir, fs.ErrNotExist)
	case err != nil:
		return nil, err
	}
	s := &State{
		Job: l.header.Job, Runs: l.runs, Began: l.header.Began, RunBegan: l.began, Last: l.last,
		Tiles: len(l.done), Finished: l.finished, Holder: holder(dir),
	}
	s.Done = l.header.Job.part(tilesOf(l.done))
	s.RunDone = l.header.Job.part(tilesOf(l.done[l.before:]))
	return s, nil
}

// tilesOf returns the tiles of done.
func tilesOf(done []doneTile) []kernels.Tile {
	tiles := make([]kernels.Tile, len(done))
	for i, d := range done {
		tiles[i] = d.tile
	}
	return tiles
}

// part returns the part of the elements of job that tiles have.
func (job Job) part(tiles []kernels.Tile) float64 {
	left := 0.
	for _, t := range tiler.Subtract(job.bounds(), tiles) {
		left += float64(t.W) * float64(t.H)
	}
	return 1 - left/float64(job.Width)/float64(job.Height)
}
