//go:build linux

package gpurun_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
)

// plan is a round as it was drawn.
type plan struct {
	job     chaosJob
	plain   bool  // without a key: two workers on the coordinator's loopback, one behind a relay
	listens []int // the workers that the coordinator dials, by their hosts
	joins   []int // those that dial the coordinator
	relayed []int // those of listens that it dials by way of a relay
	liar    bool  // another worker lies, and all is verified
	own     bool  // the coordinator computes too
	kept    bool  // what is done is kept, and a coordinator that ends is followed by another
	tiles   string
	wait    time.Duration
	events  []event
}

// before is the moment of an event that happens before the job begins.
const before = -1

// event is something that happens to a host, 0 being the coordinator's, and may be
// undone. It happens when the processes have used so much of the processors' time, or
// when nothing can be expected of them any more, or, if at is before, as the job begins.
type event struct {
	kind string
	host int
	at   time.Duration
	undo time.Duration // after it has happened; 0 if never

	line       lab.Line
	jump       time.Duration
	run, pause time.Duration
	rate       float64
	seed       uint64
}

// loses reports whether e may cost a coordinator a worker. Silence does if it lasts about as
// long as a session, or a handshake, waits: 10 s. A slow process or a bad line never does.
func (e *event) loses() bool {
	switch e.kind {
	case "kill", "terminate", "corrupt", "late":
		return true
	case "stop", "unplug", "cut", "cut off":
		return e.undo == 0 || e.undo >= 8*time.Second
	}
	return false
}

// drawPlan draws a round. plain allows for connections without a key that are corrupted.
func drawPlan(seed uint64, plain bool) *plan {
	rng := rand.New(rand.NewPCG(seed, 0))
	p := &plan{}
	var work time.Duration
	p.job, work = drawJob(rng)
	p.plain = rng.IntN(6) == 0 && plain
	p.drawHosts(rng)
	p.own = rng.IntN(3) == 0
	if rng.IntN(3) == 0 {
		p.tiles = "60"
	}
	// Nobody may have joined yet when the job begins.
	if rng.IntN(2) == 0 || len(p.joins) > 0 && len(p.listens) == 0 && !p.own {
		p.wait = 100 * time.Second
	}
	for range 1 + rng.IntN(6) {
		kind, host := p.drawKind(rng)
		p.drawEvent(rng, kind, host, work)
	}
	if p.kept = rng.IntN(5) < 2; p.kept {
		p.drawEnds(rng, work)
	}
	slices.SortStableFunc(p.events, func(a, b event) int { return int(a.at - b.at) })
	return p
}

func (p *plan) drawHosts(rng *rand.Rand) {
	if p.plain {
		p.relayed = []int{0}
		return
	}
	subset := func(of []int, least int) []int {
		of = slices.Clone(of)
		rng.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
		return slices.Sorted(slices.Values(of[:least+rng.IntN(len(of)-least+1)]))
	}
	switch rng.IntN(4) {
	case 0:
		p.joins = subset(joiners, 1)
	case 1:
		p.listens, p.joins = subset(listeners[:2], 1), subset(joiners, 1)
	default:
		p.listens = subset(listeners, 1)
	}
	for _, h := range p.listens {
		if rng.IntN(4) == 0 {
			p.relayed = append(p.relayed, h)
		}
	}
	p.liar = len(p.listens) > 0 && rng.IntN(5) == 0
}

// drawEnds draws what ends coordinators, and what may befall those that come after.
func (p *plan) drawEnds(rng *rand.Rand, work time.Duration) {
	for range 1 + rng.IntN(5) {
		of := []string{"kill", "kill", "kill", "interrupt", "full disk", "stop", "clock"}
		p.drawEvent(rng, of[rng.IntN(len(of))], 0, work)
	}
	if p.has("full disk") {
		// Their records take several pages: all but the last of a file is full.
		p.tiles = "300"
	}
}

// drawKind draws of what kind an event is, and to which host it happens.
func (p *plan) drawKind(rng *rand.Rand) (kind string, host int) {
	hosts := append(slices.Clone(p.listens), p.joins...)
	kinds := []string{"kill", "kill", "terminate", "stop", "stop", "unplug", "unplug", "cut", "cut off", "line", "slow", "late", "late", "clock", "coordinator", "coordinator", "coordinator"}
	kind = kinds[rng.IntN(len(kinds))]
	if len(hosts) > 0 {
		host = hosts[rng.IntN(len(hosts))]
	}
	switch {
	case len(p.relayed) > 0 && rng.IntN(2) == 0:
		return "corrupt", p.relayed[rng.IntN(len(p.relayed))]
	case kind == "coordinator" || p.plain:
		of := []string{"interrupt", "full disk", "stop", "clock", "line", "unplug"}
		return of[rng.IntN(len(of))], 0
	case kind == "late" && !slices.Contains(joiners, host):
		return "kill", host
	}
	return kind, host
}

// drawEvent draws the rest of an event. Each kind comes once to each host, and what is about
// the process, or the line, only if nothing else of that sort is; but coordinators may end
// as often as others follow them.
func (p *plan) drawEvent(rng *rand.Rand, kind string, host int, work time.Duration) {
	e := event{kind: kind, host: host, at: time.Duration(rng.Int64N(int64(work))), seed: rng.Uint64()}
	ms := func(low, high int) time.Duration {
		return time.Duration(low+rng.IntN(high-low+1)) * time.Millisecond
	}
	// Short absences are not noticed, long ones are, after 10 to 12 s.
	e.undo = []time.Duration{0, ms(50, 2000), ms(50, 2000), ms(13000, 16000)}[rng.IntN(4)]
	if e.undo == 0 && (host == 0 || p.wait > 0) {
		e.undo = ms(50, 2000)
	}
	switch kind {
	case "line":
		e.line = []lab.Line{{Delay: ms(1, 30), Jitter: ms(1, 20)}, {Delay: ms(1, 10), Loss: 0.05 * rng.Float64()}, {Rate: 4<<20 + rng.IntN(8<<20)}}[rng.IntN(3)]
	case "clock":
		e.jump = time.Duration(rng.IntN(48*3600)-24*3600) * time.Second
		e.undo = 0
	case "slow":
		e.run, e.pause = ms(5, 50), ms(5, 200)
	case "corrupt":
		e.rate = []float64{1e-6, 1e-5, 1e-4}[rng.IntN(3)]
	case "late":
		e.at, e.undo = before, ms(200, 3000)
	case "interrupt":
		e.undo = 0
	case "kill":
		if host == 0 {
			e.undo = 0
		}
	case "full disk":
		// The room for an output may be reserved beforehand.
		if e.undo = 0; rng.IntN(2) == 0 {
			e.at = before
		}
	}
	ends := host == 0 && p.kept && (kind == "kill" || kind == "interrupt")
	if ends || !slices.ContainsFunc(p.events, func(other event) bool {
		return other.host == e.host && (other.kind == e.kind || about(other.kind) == about(e.kind))
	}) {
		p.events = append(p.events, e)
	}
}

// about says what of a host an event is about. Two about the same would undo each other.
func about(kind string) string {
	switch kind {
	case "kill", "terminate", "stop", "slow":
		return "process"
	case "unplug", "line", "late", "cut", "cut off":
		return "line"
	}
	return kind
}

// has reports whether an event of this kind is in the plan.
func (p *plan) has(kind string) bool {
	return slices.ContainsFunc(p.events, func(e event) bool { return e.kind == kind })
}

// hosts says who takes part.
func (p *plan) hosts() string {
	var parts []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(p.own, "own device")
	add(p.plain, "plain")
	add(len(p.listens) > 0, "dials %v", p.listens)
	add(len(p.relayed) > 0, "by relay %v", p.relayed)
	add(len(p.joins) > 0, "joined by %v", p.joins)
	add(p.liar, "a liar")
	add(p.kept, "kept")
	add(p.tiles != "", "%s tiles", p.tiles)
	add(p.wait > 0, "waits")
	return strings.Join(parts, ", ")
}

func (e event) String() string {
	s := fmt.Sprintf("%s %d at %v", e.kind, e.host, e.at.Round(time.Millisecond))
	if e.at == before {
		s = fmt.Sprintf("%s %d from the beginning", e.kind, e.host)
	}
	switch e.kind {
	case "line":
		s += fmt.Sprintf(" %+v", e.line)
	case "clock":
		s += fmt.Sprintf(" by %v", e.jump)
	case "slow":
		s += fmt.Sprintf(" %v of %v", e.run, e.run+e.pause)
	case "corrupt":
		s += fmt.Sprintf(" %g", e.rate)
	}
	if e.undo > 0 {
		s += fmt.Sprintf(", undone after %v", e.undo)
	}
	return s
}
