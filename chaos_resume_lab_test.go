//go:build linux

package gpurun_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gpurun/gpurun"
)

// stateFolder is the name of the folder in which results are kept, beside the output.
const stateFolder = "state"

// mostEnds is after how many coordinators no other follows: more than there are events.
const mostEnds = 30

// folder returns the folder of the output, as this process sees it.
func (r *round) folder() string {
	if r.disk != nil {
		return r.disk.Dir()
	}
	return filepath.Dir(r.name)
}

// resume checks how a coordinator ended whose results are kept, mends what ended it, and
// starts the same command again.
func (r *round) resume(right func([]byte) bool) {
	r.t.Helper()
	end := r.check(right)
	r.ends = append(r.ends, end)
	if len(r.ends) > mostEnds {
		r.t.Fatalf("coordinators ended again and again: %v", r.ends)
	}
	switch end {
	case "full disk":
		if err := os.Remove(filepath.Join(r.folder(), filler)); err != nil {
			r.t.Fatal(err)
		}
		r.full = false
	case "no host left":
		for _, h := range r.happened {
			h.end()
		}
	}
	before := r.done
	s, err := gpurun.ReadState(filepath.Join(r.folder(), stateFolder))
	switch {
	case err == nil && !s.Finished:
		r.done = s.Done
	case err == nil || errors.Is(err, fs.ErrNotExist):
		r.done, before = 0, 0 // the next one begins anew
	default:
		r.t.Fatal(err)
	}
	// What a device did that lies is taken back.
	if r.done < before-roundOff && !r.liar {
		r.t.Fatalf("%g of the job was kept, and then %g", before, r.done)
	}
	r.start()
}

// roundOff is more than the parts of a job are off that say the same.
const roundOff = 1e-9

// checkLeft checks that a round has left its output and, where results are kept, what there
// has to be of that when it is done; no element was put twice.
func (r *round) checkLeft() {
	r.t.Helper()
	dirs := []string{r.folder(), r.temporary}
	for _, c := range r.started {
		dirs = append(dirs, c.Dir())
	}
	names, err := left(dirs...)
	may := []string{filepath.Base(r.name), filler}
	if r.kept {
		may = append(may, filepath.Join(stateFolder, "gpurun.journal"), filepath.Join(stateFolder, "gpurun.lock"))
	}
	if err != nil || slices.ContainsFunc(names, func(name string) bool {
		rest, ok := strings.CutPrefix(name, r.folder()+"/")
		return !ok || !slices.Contains(may, rest)
	}) {
		r.t.Fatalf("there are left %v (%v)", names, err)
	}
	if !r.kept {
		return
	}
	s, err := gpurun.ReadState(filepath.Join(r.folder(), stateFolder))
	if err != nil || !s.Finished || s.Done != 1 || s.Holder != "" {
		r.t.Fatalf("the state is %+v (%v)", s, err)
	}
	if resumed := r.report().Resumed; (resumed > 0) != (r.done > 0) {
		r.t.Fatalf("%g of the job was kept, and %g was resumed", r.done, resumed)
	}
	elements := 0
	for _, tile := range readKept(r.t, filepath.Join(r.folder(), stateFolder)).tiles {
		elements += tile.W * tile.H
	}
	if elements != r.job.size[0]*r.job.size[1] && !r.liar {
		r.t.Fatalf("%d elements were put, of %d", elements, r.job.size[0]*r.job.size[1])
	}
}
