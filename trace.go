package gpurun

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gpurun/gpurun/dist"
)

// aside is that a device was set aside, or has gone: its state says which.
type aside struct {
	device, why string
	state       dist.State
	at          time.Duration // from the first pull on
}

// asidesOf returns which of devices were set aside, or have gone.
func asidesOf(devices []dist.DeviceReport) []aside {
	var asides []aside
	for _, d := range devices {
		if d.SetAside != nil {
			asides = append(asides, aside{d.ID, d.SetAside.Error(), d.State, d.SetAsideAt})
		}
	}
	return asides
}

// traceEvent is an event of the Chrome trace format: "Trace Event Format",
// the Chromium project. Times are in microseconds, with three digits behind the point.
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Time     json.Number    `json:"ts"`
	Dur      json.Number    `json:"dur,omitempty"`
	PID      int            `json:"pid"`
	TID      int            `json:"tid"`
	Scope    string         `json:"s,omitempty"`
	Color    string         `json:"cname,omitempty"`
	Args     map[string]any `json:"args,omitempty"`
}

// The phases of events, the scopes of instants, and the names of colours, of that
// format.
const (
	phaseComplete, phaseInstant, phaseMetadata = "X", "i", "M"

	scopeProcess, scopeThread = "p", "t"

	// Green, grey, orange and red. What was computed is of a stronger green than its lease.
	colorGood, colorGoodLease        = "good", "thread_state_running"
	colorUnused, colorLost, colorBad = "grey", "bad", "terrible"
)

// traceColors shows how a lease ended.
var traceColors = map[dist.Outcome]string{
	dist.OutcomeDone: colorGood, dist.OutcomeBeaten: colorUnused, dist.OutcomeStopped: colorUnused,
	dist.OutcomeLost: colorLost, dist.OutcomeFailed: colorBad, dist.OutcomeWrong: colorBad,
}

// WriteTrace writes what each device did when, in the Chrome trace format, which Perfetto
// and chrome://tracing open. The job must have run with Config.Trace: without it the
// trace has the devices and nothing that they did.
//
// There is one process a device, those of this machine first, with one thread for each
// puller. A slice "lease" lasts from when the tile was given out until its result was
// stored. One that ended otherwise is called by its outcome, such as "lost", instead.
// Within it a slice "tile" is the computing. The colour says the outcome too. Times of
// other hosts are on this machine's time line; how far they may be off is among the
// arguments of the slice. Instant events say when and why a device was set aside, or
// its host had gone, and when a result came late, for a tile that had been lost.
func (r *Report) WriteTrace(w io.Writer) error {
	t := newTracer(w)
	for _, here := range []bool{true, false} {
		for _, d := range r.Devices {
			if (d.Host == "") == here {
				t.addDevice(d)
			}
		}
	}
	for _, s := range r.spans {
		t.addSpan(s)
	}
	for _, a := range r.asides {
		color := colorBad
		if a.state == dist.StateGone {
			color = colorLost
		}
		t.add(traceEvent{
			Name: string(a.state), Category: "device", Phase: phaseInstant, Time: microseconds(a.at), PID: t.processes[a.device],
			TID: 1, Scope: scopeProcess, Color: color, Args: map[string]any{"why": a.why},
		})
	}
	return t.end()
}

// tracer writes a trace event by event: there may be millions.
type tracer struct {
	w         *bufio.Writer
	err       error
	events    int
	processes map[string]int                // of devices
	ends      map[traceThread]time.Duration // of the last lease
}

type traceThread struct{ process, thread int }

func newTracer(w io.Writer) *tracer {
	t := &tracer{w: bufio.NewWriter(w), processes: map[string]int{}, ends: map[traceThread]time.Duration{}}
	t.write(`{"displayTimeUnit":"ms","traceEvents":[`)
	return t
}

func (t *tracer) write(text string) {
	if t.err == nil {
		_, t.err = t.w.WriteString(text)
	}
}

func (t *tracer) add(e traceEvent) {
	data, err := json.Marshal(e)
	if err != nil && t.err == nil {
		t.err = err
	}
	if t.events++; t.events > 1 {
		t.write(",")
	}
	t.write("\n" + string(data))
}

func (t *tracer) end() error {
	t.write("\n]}\n")
	if t.err == nil {
		t.err = t.w.Flush()
	}
	return t.err
}

// addDevice names the process of d.
func (t *tracer) addDevice(d DeviceReport) {
	process := len(t.processes) + 1
	t.processes[d.fullID()] = process
	t.addMetadata("process_name", traceThread{process, 0}, "name", strings.TrimSpace(d.fullID()+" "+d.Name))
	t.addMetadata("process_sort_index", traceThread{process, 0}, "sort_index", process)
}

// addMetadata adds what a viewer is to know of a thread or its process.
func (t *tracer) addMetadata(what string, of traceThread, key string, value any) {
	t.add(traceEvent{Name: what, Phase: phaseMetadata, Time: microseconds(0), PID: of.process, TID: of.thread, Args: map[string]any{key: value}})
}

// addSpan adds the slices of a lease.
func (t *tracer) addSpan(s dist.Span) {
	at := t.thread(s)
	slice := func(name, category, color string, from, to time.Duration, args map[string]any) {
		t.add(traceEvent{
			Name: name + " " + s.Tile.String(), Category: category + "," + string(s.Outcome), Phase: phaseComplete,
			Time: microseconds(from), Dur: microseconds(to - from), PID: at.process, TID: at.thread, Color: color, Args: args,
		})
	}
	args := map[string]any{"outcome": s.Outcome, "elements": s.Tile.Area()}
	// Perfetto takes the colour from the name.
	name, color := "lease", colorGoodLease
	if s.Outcome != dist.OutcomeDone {
		name, color = string(s.Outcome), traceColors[s.Outcome]
	}
	slice(name, "lease", color, s.Granted, s.Ended, args)
	if s.Late > 0 {
		t.add(traceEvent{
			Name: "late " + s.Tile.String(), Category: "late", Phase: phaseInstant, Time: microseconds(s.Late),
			PID: at.process, TID: at.thread, Scope: scopeThread, Color: colorLost,
		})
	}
	if s.End == s.Start {
		return
	}
	if s.Within > 0 {
		args["waited_ms"], args["clock_error_ms"] = milliseconds(s.Waited), milliseconds(s.Within)
	}
	slice("tile", "computing", traceColors[s.Outcome], s.Start, s.End, args)
}

// thread returns that of the puller of s. Where a host came back before the leases of
// its last session had ended, two have the same number; then it is another, since what is
// on a thread must be nested.
func (t *tracer) thread(s dist.Span) traceThread {
	const apart = 1000 // more than a device has pullers
	at := traceThread{t.processes[s.Device], s.Slot + 1}
	for t.ends[at] > s.Granted {
		at.thread += apart
	}
	if _, named := t.ends[at]; !named {
		name, sessions := fmt.Sprintf("puller %d", s.Slot+1), at.thread/apart
		if sessions > 0 {
			name += ", of a new session"
		}
		t.addMetadata("thread_name", at, "name", name)
		t.addMetadata("thread_sort_index", at, "sort_index", apart*(s.Slot+1)+sessions)
	}
	t.ends[at] = s.Ended
	return at
}

// microseconds returns d as the format has it, to the nanosecond.
func microseconds(d time.Duration) json.Number {
	return json.Number(fmt.Sprintf("%d.%03d", d/time.Microsecond, d%time.Microsecond))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
