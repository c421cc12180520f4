package gpurun

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// readEvent is an event of a trace, as a viewer reads it.
type readEvent struct {
	Name, Cat, Ph, S, Cname string
	Ts, Dur                 float64
	Pid, Tid                int
	Args                    map[string]any
}

// from and to are its times in nanoseconds.
func (e readEvent) from() int64 { return int64(math.Round(e.Ts * 1e3)) }
func (e readEvent) to() int64   { return e.from() + int64(math.Round(e.Dur*1e3)) }

// readTrace reads the trace of r, and fails the test unless the slices of each thread
// are nested, and each computing in its lease.
func readTrace(t *testing.T, r *Report) []readEvent {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteTrace(&b); err != nil {
		t.Fatal(err)
	}
	var trace struct{ TraceEvents []readEvent }
	if err := json.Unmarshal(b.Bytes(), &trace); err != nil {
		t.Fatal(err)
	}
	threads := map[[2]int][]readEvent{}
	named := map[[2]int]bool{}
	for _, e := range trace.TraceEvents {
		if e.Pid < 1 || e.Tid < 0 || e.Ts < 0 || e.Dur < 0 {
			t.Errorf("implausible event %+v", e)
		}
		at := [2]int{e.Pid, e.Tid}
		switch {
		case e.Name == "thread_name":
			named[at] = true
		case e.Ph == "X":
			threads[at] = append(threads[at], e)
		}
	}
	for at, events := range threads {
		if !named[at] {
			t.Errorf("thread %v has no name", at)
		}
		slices.SortStableFunc(events, func(a, b readEvent) int {
			return cmp.Or(cmp.Compare(a.from(), b.from()), cmp.Compare(b.to(), a.to()))
		})
		var open []readEvent
		for _, e := range events {
			for len(open) > 0 && open[len(open)-1].to() <= e.from() {
				open = open[:len(open)-1]
			}
			if len(open) > 0 && open[len(open)-1].to() < e.to() {
				t.Errorf("thread %v: %+v ends after %+v", at, e, open[len(open)-1])
			}
			if tile, ok := strings.CutPrefix(e.Name, "tile "); ok {
				if len(open) != 1 || !strings.HasPrefix(open[0].Cat, "lease,") || !strings.HasSuffix(open[0].Name, " "+tile) {
					t.Errorf("thread %v: %+v is not in its lease: %+v", at, e, open)
				}
			} else if len(open) != 0 {
				t.Errorf("thread %v: %+v is in %+v", at, e, open)
			}
			open = append(open, e)
		}
	}
	return trace.TraceEvents
}

// find returns the event of that name, of which there is one.
func find(t *testing.T, events []readEvent, name string) readEvent {
	t.Helper()
	found := slices.Collect(func(yield func(readEvent) bool) {
		for _, e := range events {
			if e.Name == name && !yield(e) {
				return
			}
		}
	})
	if len(found) != 1 {
		t.Fatalf("%d events are called %q", len(found), name)
	}
	return found[0]
}

// TestTrace writes a trace of leases with every outcome, of a device here, and of one of
// a host that came back before its lost lease had ended.
func TestTrace(t *testing.T) {
	tile := func(y int) kernels.Tile { return kernels.Tile{Y: y, W: 10, H: 1} }
	const ms = time.Millisecond
	why := errors.New("host:1/cpu: computing tile: the cable fell out")
	report := newReport(&kernels.Mandelbrot{}, &dist.Report{
		Devices: []dist.DeviceReport{{ID: "cpu", Tiles: 1}, {ID: "host:1/cpu", State: dist.StateGone, SetAside: why, SetAsideAt: 7 * ms}, {ID: "host:1/cpu", Tiles: 1}},
		Spans: []dist.Span{
			{Device: "cpu", Slot: 0, Tile: tile(0), Outcome: dist.OutcomeDone, Start: 1, End: 5*ms + 333, Ended: 6 * ms},
			{Device: "host:1/cpu", Slot: 2, Tile: tile(1), Outcome: dist.OutcomeLost, Granted: 1 * ms, Start: 1 * ms, End: 1 * ms, Ended: 8 * ms, Late: 11 * ms},
			{Device: "host:1/cpu", Slot: 2, Tile: tile(2), Outcome: dist.OutcomeDone, Granted: 7 * ms, Start: 8 * ms, End: 9 * ms, Ended: 10 * ms, Waited: 500 * time.Microsecond, Within: 20 * time.Microsecond},
			{Device: "cpu", Slot: 0, Tile: tile(3), Outcome: dist.OutcomeWrong, Granted: 7 * ms, Start: 7 * ms, End: 9 * ms, Ended: 9 * ms},
			{Device: "cpu", Slot: 0, Tile: tile(4), Outcome: dist.OutcomeFailed, Granted: 10 * ms, Start: 10 * ms, End: 10 * ms, Ended: 11 * ms},
			{Device: "cpu", Slot: 0, Tile: tile(5), Outcome: dist.OutcomeBeaten, Granted: 11 * ms, Start: 11 * ms, End: 11 * ms, Ended: 12 * ms},
			{Device: "cpu", Slot: 1, Tile: tile(6), Outcome: dist.OutcomeStopped, Granted: 11 * ms, Start: 11 * ms, End: 11 * ms, Ended: 12 * ms},
		},
	}, nil, nil)
	events := readTrace(t, report)
	for y, want := range []struct {
		name, outcome, color string
		computing            string // its colour, or empty
	}{
		{"lease", "done", "thread_state_running", "good"}, {"lost", "lost", "bad", ""}, {"lease", "done", "thread_state_running", "good"},
		{"wrong", "wrong", "terrible", "terrible"}, {"failed", "failed", "terrible", ""}, {"beaten", "beaten", "grey", ""}, {"stopped", "stopped", "grey", ""},
	} {
		lease := find(t, events, fmt.Sprintf("%s %v", want.name, tile(y)))
		if lease.Cname != want.color || lease.Cat != "lease,"+want.outcome || lease.Args["outcome"] != want.outcome || lease.Args["elements"] != 10.0 {
			t.Errorf("the lease is %+v, want %+v", lease, want)
		}
		computing := ""
		for _, e := range events {
			if e.Name == fmt.Sprintf("tile %v", tile(y)) {
				computing = e.Cname
			}
		}
		if computing != want.computing {
			t.Errorf("the computing of %v is %q, want %q", tile(y), computing, want.computing)
		}
	}
	late, lost := find(t, events, "late 10×1+0+1"), find(t, events, "lost 10×1+0+1")
	if late.Ph != "i" || late.S != "t" || late.from() != int64(11*ms) || late.Pid != lost.Pid || late.Tid != lost.Tid {
		t.Errorf("what was late is %+v, of %+v", late, lost)
	}
	first := find(t, events, "tile 10×1+0+0")
	if first.from() != 1 || first.to() != int64(5*ms+333) || first.Pid != 1 || first.Tid != 1 || first.Args["clock_error_ms"] != nil || first.Args["waited_ms"] != nil {
		t.Errorf("the first tile is %+v", first)
	}
	far := find(t, events, "tile 10×1+0+2")
	if far.from() != int64(8*ms) || far.Pid != 2 || far.Args["waited_ms"] != 0.5 || far.Args["clock_error_ms"] != 0.02 {
		t.Errorf("the tile of the host is %+v", far)
	}
	if lost := find(t, events, "lost 10×1+0+1"); lost.Tid != 3 || far.Tid == lost.Tid {
		t.Errorf("the lost lease is %+v", lost)
	}
	if aside := find(t, events, "gone"); aside.Cname != "bad" || aside.Ph != "i" || aside.S != "p" || aside.Pid != 2 || aside.from() != int64(7*ms) || aside.Args["why"] != why.Error() {
		t.Errorf("that it was set aside is %+v", aside)
	}
}

// TestTraceRows has hosts come before the devices of this machine, and checks what rows are
// called and how they are sorted.
func TestTraceRows(t *testing.T) {
	tile := func(y int) kernels.Tile { return kernels.Tile{Y: y, W: 10, H: 1} }
	report := newReport(&kernels.Mandelbrot{}, &dist.Report{
		Devices: []dist.DeviceReport{{ID: "b:1/cpu"}, {ID: "a:1/cpu"}, {ID: "cpu"}},
		Spans: []dist.Span{
			{Device: "b:1/cpu", Slot: 1, Tile: tile(0), Outcome: dist.OutcomeLost, Ended: 8},
			{Device: "b:1/cpu", Slot: 0, Tile: tile(1), Outcome: dist.OutcomeDone, Granted: 1, Start: 1, End: 2, Ended: 3},
			{Device: "b:1/cpu", Slot: 1, Tile: tile(2), Outcome: dist.OutcomeDone, Granted: 4, Start: 5, End: 6, Ended: 7},
			{Device: "cpu", Slot: 0, Tile: tile(3), Outcome: dist.OutcomeDone, Granted: 4, Start: 5, End: 6, Ended: 7},
		},
	}, nil, []Device{{ID: "cpu", Name: "a processor"}})
	type row struct {
		sort float64
		name string
	}
	processes, threads := map[int]row{}, map[[2]int]row{}
	for _, e := range readTrace(t, report) {
		at := [2]int{e.Pid, e.Tid}
		process, thread := processes[e.Pid], threads[at]
		switch e.Name {
		case "process_name":
			process.name = e.Args["name"].(string)
		case "process_sort_index":
			process.sort = e.Args["sort_index"].(float64)
		case "thread_name":
			thread.name = e.Args["name"].(string)
		case "thread_sort_index":
			thread.sort = e.Args["sort_index"].(float64)
		default:
			continue
		}
		processes[e.Pid] = process
		if thread != (row{}) {
			threads[at] = thread
		}
	}
	var names []string
	for _, p := range slices.Sorted(maps.Keys(processes)) {
		var of []row
		for at, thread := range threads {
			if at[0] == p {
				of = append(of, thread)
			}
		}
		slices.SortFunc(of, func(a, b row) int { return cmp.Compare(a.sort, b.sort) })
		if processes[p].sort != float64(p) {
			t.Errorf("process %d is %+v", p, processes[p])
		}
		names = append(names, processes[p].name)
		for _, thread := range of {
			names = append(names, thread.name)
		}
	}
	want := []string{"cpu a processor", "puller 1", "b:1/cpu", "puller 1", "puller 2", "puller 2, of a new session", "a:1/cpu"}
	if !slices.Equal(names, want) {
		t.Errorf("the rows are %q, want %q", names, want)
	}
}

// TestTraceOfARun checks the trace of images computed here, of one band and of several,
// and that there is none where it was not asked for.
func TestTraceOfARun(t *testing.T) {
	for _, memory := range []int64{0, 1 << 16} {
		for _, kept := range []bool{true, false} {
			eng, err := Open(t.Context(), &Config{Devices: []string{"cpu"}, Memory: memory, Tiles: 30, Trace: kept})
			if err != nil {
				t.Fatal(err)
			}
			defer eng.Close()
			v := View{Center: -0.5, Span: 3, Width: 200, Height: 150, MaxIter: 500}
			if err := eng.MandelbrotBands(t.Context(), v, func(*Field) error { return nil }); err != nil {
				t.Fatal(err)
			}
			pixels := 0.0
			for _, e := range readTrace(t, eng.Report()) {
				if strings.HasPrefix(e.Name, "tile ") {
					pixels += e.Args["elements"].(float64)
				}
			}
			if want := map[bool]float64{true: 200 * 150}[kept]; pixels != want {
				t.Errorf("memory %d, kept %v: the trace has %v pixels", memory, kept, pixels)
			}
		}
	}
}

// TestTraceOfBands checks that times, rows and reasons of a band are those of the image.
func TestTraceOfBands(t *testing.T) {
	band := func() *Report {
		return newReport(&kernels.Mandelbrot{}, &dist.Report{
			Devices: []dist.DeviceReport{{ID: "cpu", State: dist.StateSetAside, SetAside: errors.New("no"), SetAsideAt: 2 * time.Second}},
			Spans:   []dist.Span{{Device: "cpu", Tile: kernels.Tile{W: 5, H: 2}, Outcome: dist.OutcomeDone, Granted: 1e9, Start: 2e9, End: 3e9, Ended: 4e9}},
		}, nil, nil)
	}
	var sum reportSum
	sum.add(band(), time.Second, 0, 10, 1)
	sum.add(band(), 11*time.Second, 2, 10, 1)
	events := readTrace(t, sum.report)
	lease, tile := find(t, events, "lease 5×2+0+2"), find(t, events, "tile 5×2+0+2")
	if lease.from() != 11e9 || lease.to() != 14e9 || tile.from() != 12e9 || tile.to() != 13e9 {
		t.Errorf("the second band's are %+v and %+v", lease, tile)
	}
	var asides []readEvent
	for _, e := range events {
		if e.Ph == "i" && e.Name == "set aside" && e.Cname == "terrible" {
			asides = append(asides, e)
		}
	}
	if len(asides) != 2 || asides[0].from() != 2e9 || asides[1].from() != 12e9 || asides[1].Args["why"] != "in the band from row 2 on: no" {
		t.Errorf("it was set aside: %+v", asides)
	}
}

// TestTraceTimes checks times to the nanosecond, of jobs of days too.
func TestTraceTimes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		d := time.Duration(rng.Int64N(1 << (1 + rng.IntN(51))))
		x, err := microseconds(d).Float64()
		if back := time.Duration(math.Round(x * 1e3)); err != nil || back != d {
			t.Fatalf("%d ns is %v, and back %d (%v)", d, microseconds(d), back, err)
		}
	}
}

// TestTraceError checks that it is said when a trace cannot be written.
func TestTraceError(t *testing.T) {
	r := &Report{spans: make([]dist.Span, 1000)}
	in, out := io.Pipe()
	full := errors.New("no space")
	in.CloseWithError(full)
	if err := r.WriteTrace(out); !errors.Is(err, full) {
		t.Errorf("the error is %v", err)
	}
}
