//go:build linux

package gpurun_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// stages are what a coordinator may be doing when it is killed: it has not begun to keep
// results, not all are kept, the output is written, or nothing but its exit is left.
var stages = []string{"starting", "computing", "writing", "after the end"}

// kill is a coordinator that was killed.
type kill struct {
	job    *keptJob
	stage  string        // of stages
	redone time.Duration // of the workers' time what was lost with it
}

// stageOf returns what a process did that was killed, from what it has left in the folder
// state, if it had begun to work there.
func stageOf(t *testing.T, state string, begun bool) string {
	t.Helper()
	s, err := gpurun.ReadState(state)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !begun:
		return stages[0]
	case err != nil:
		t.Fatal(err)
	case s.Finished:
		return stages[3]
	case s.Done == 1:
		return stages[2]
	}
	return stages[1]
}

// keptTiles is what a journal says.
type keptTiles struct {
	id    [8]byte // none if there is no journal
	tiles []kernels.Tile
	runs  int
}

// readKept reads the journal of the folder state. dist/journal says how that is written.
func readKept(t *testing.T, state string) (k keptTiles) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(state, "gpurun.journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return k
	}
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n"))
	header := text[8 : 8+binary.LittleEndian.Uint32(text)]
	var named struct {
		ID uint64 `json:"id"`
	}
	if err := json.Unmarshal(header, &named); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(k.id[:], named.ID)
	const record, run, done = 56, 1, 2
	for rest := text[8+len(header):]; len(rest) >= record; rest = rest[record:] {
		at := func(i int) int { return int(binary.LittleEndian.Uint64(rest[8+8*i:])) }
		switch binary.LittleEndian.Uint32(rest) {
		case run:
			k.runs++
		case done:
			k.tiles = append(k.tiles, kernels.Tile{X: at(0), Y: at(1), W: at(2), H: at(3)})
		}
	}
	return k
}

// costs is what part of a job's work is before each of its elements, row by row.
type costs struct {
	width int
	sums  []float64 // one more than there are elements
}

func newCosts(width, height int, cost func(i int) float64) costs {
	c := costs{width, make([]float64, width*height+1)}
	for i := range width * height {
		c.sums[i+1] = c.sums[i] + cost(i)
	}
	for i := range c.sums {
		c.sums[i] /= c.sums[width*height]
	}
	return c
}

// evenCosts is of a job all of whose elements take as long.
func evenCosts(width, height int) costs {
	return newCosts(width, height, func(int) float64 { return 1 })
}

// viewCosts is of labView, from its counts.
func viewCosts(t *testing.T, file []byte) costs {
	t.Helper()
	const width, height, most = 300, 200, 600000
	head := npy.Header{Type: npy.Uint32, Rows: height, Cols: width}.Append(nil)
	if !bytes.HasPrefix(file, head) {
		t.Fatal("the right result is not of labView")
	}
	return newCosts(width, height, func(i int) float64 {
		if n := binary.LittleEndian.Uint32(file[len(head)+4*i:]); n > 0 {
			return float64(n)
		}
		return most
	})
}

// of returns what part of the job tiles are, which do not overlap, from 0 to 1.
func (c costs) of(tiles []kernels.Tile) (sum float64) {
	for _, t := range tiles {
		for y := t.Y; y < t.Y+t.H; y++ {
			first := y*c.width + t.X
			sum += c.sums[first+t.W] - c.sums[first]
		}
	}
	return sum
}

// readComputing returns what part of the job the longest tile of a trace was, and how many
// were computed at a time, at most.
func (c costs) readComputing(t *testing.T, name string) (longest float64, together int) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct {
			Cat, Name string
			TS, Dur   float64
		}
	}
	if err := json.Unmarshal(text, &trace); err != nil {
		t.Fatal(err)
	}
	type change struct {
		at float64
		by int
	}
	var changes []change
	for _, e := range trace.TraceEvents {
		if strings.HasPrefix(e.Cat, "computing") {
			var tile kernels.Tile
			if _, err := fmt.Sscanf(e.Name, "tile %d×%d+%d+%d", &tile.W, &tile.H, &tile.X, &tile.Y); err != nil {
				t.Fatalf("%q: %v", e.Name, err)
			}
			longest = max(longest, c.of([]kernels.Tile{tile}))
			changes = append(changes, change{e.TS, 1}, change{e.TS + e.Dur, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		if a.at != b.at {
			return map[bool]int{true: -1, false: 1}[a.at < b.at]
		}
		return a.by - b.by
	})
	now := 0
	for _, c := range changes {
		now += c.by
		together = max(together, now)
	}
	return longest, together
}

// killTable is a table of what was redone for kills, and, beside that, what can have been in
// flight.
func killTable(jobs []*keptJob, all []kill) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "job\tkills\t%s\tredone: mean\tmedian\tlargest\tlongest tile\tat a time\tin flight\tof\t\n", strings.Join(stages, "\t"))
	row := func(name string, of []kill) {
		if len(of) == 0 {
			return
		}
		count, redone, sum := map[string]int{}, []float64{}, 0.
		for _, k := range of {
			count[k.stage]++
			redone = append(redone, k.redone.Seconds())
			sum += k.redone.Seconds()
		}
		slices.Sort(redone)
		fmt.Fprintf(w, "%s\t%d\t", name, len(of))
		for _, stage := range stages {
			fmt.Fprintf(w, "%d\t", count[stage])
		}
		fmt.Fprintf(w, "%.2f s\t%.2f s\t%.2f s\t", sum/float64(len(of)), redone[len(of)/2], redone[len(of)-1])
	}
	for _, j := range jobs {
		row(j.name, slices.DeleteFunc(slices.Clone(all), func(k kill) bool { return k.job != j }))
		fmt.Fprintf(w, "%.2f s\t%d\t%.2f s\t%.2f s\t\n", j.longest.Seconds(), j.together, (time.Duration(j.together) * j.longest).Seconds(), j.alone.Seconds())
	}
	row("all", all)
	fmt.Fprintln(w, "\t\t\t\t")
	w.Flush()
	return text.String()
}
