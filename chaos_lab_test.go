//go:build linux

package gpurun_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/gpurun/gpurun/internal/lab"
)

var (
	chaosRounds = flag.Int("chaos.rounds", 4, "how many rounds TestChaos has")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "the seed of the only round that TestChaos has; 0 for as many as chaos.rounds says")
	chaosPlain  = flag.Bool("chaos.plain", true, "whether TestChaos also corrupts connections without a key")
)

// roundsOfCluster is for how many rounds a cluster lives.
const roundsOfCluster = 5

// TestChaos has jobs, hosts and what happens to them drawn from a seed, round by round.
// A job ends with exactly the right bits, or, where what happened allows for it, with an
// error that names what failed, and without an output. Nothing is left of it, anywhere.
func TestChaos(t *testing.T) {
	lab.New(t, 1) // where there can be no lab, nothing needs to be built
	p := buildProgram(t)
	var seeds []uint64
	if *chaosSeed != 0 {
		seeds = []uint64{*chaosSeed}
	} else {
		rng := randomSource(t)
		for range *chaosRounds {
			seeds = append(seeds, max(rng.Uint64(), 1))
		}
	}
	s := &chaosSummary{t: t}
	for len(seeds) > 0 {
		before := len(s.rounds)
		t.Run("cluster", func(t *testing.T) { s.cluster(t, p, seeds[:min(roundsOfCluster, len(seeds))]) })
		if len(s.rounds) == before {
			return // there can be no cluster
		}
		seeds = seeds[len(s.rounds)-before:]
	}
	s.print()
}

// chaosSummary keeps what came of rounds.
type chaosSummary struct {
	t      *testing.T
	rounds []*round
}

// cluster runs rounds on a cluster of their own, until one fails.
func (s *chaosSummary) cluster(t *testing.T, p *program, seeds []uint64) {
	c := newChaosCluster(t, p, seeds[0])
	for _, seed := range seeds {
		s.round(t, c, seed)
	}
	c.end()
}

// round runs a round, and prints a line of it.
func (s *chaosSummary) round(t *testing.T, c *chaosCluster, seed uint64) {
	r := c.newRound(t, drawPlan(seed, *chaosPlain))
	s.rounds = append(s.rounds, r)
	defer func() {
		s.t.Logf("%d: %v; %s; %s; %s, %.1f s", seed, r.job, r.hosts(), r.drawn(), r.exit, r.seconds)
		if t.Failed() {
			s.t.Logf("to replay: go test . -run '^TestChaos$' -v -chaos.plain=%t -chaos.seed %d", *chaosPlain, seed)
		}
	}()
	r.run(seed)
}

// drawn says what was to happen, and how much of that did before the job ended.
func (r *round) drawn() string {
	var parts []string
	for _, e := range r.events {
		parts = append(parts, e.String())
	}
	drawn := fmt.Sprintf("%s (%d of %d happened)", strings.Join(parts, ", "), len(r.happened), len(r.events))
	if len(r.ends) > 0 {
		drawn += fmt.Sprintf("; resumed after %s", strings.Join(r.ends, ", "))
	}
	return drawn
}

// print prints how rounds ended, by what happened in them.
func (s *chaosSummary) print() {
	counts, kinds, ends := map[string]map[string]int{}, []string{}, []string{}
	count := func(kind string, r *round) {
		if counts[kind] == nil {
			counts[kind] = map[string]int{}
			kinds = append(kinds, kind)
		}
		if !slices.Contains(ends, r.exit) {
			ends = append(ends, r.exit)
		}
		counts[kind][r.exit]++
	}
	for _, r := range s.rounds {
		count("all rounds", r)
	}
	for _, r := range s.rounds {
		of := map[string]bool{"  " + r.job.kind: true}
		for _, h := range r.happened {
			if h.host == 0 && !r.plain {
				of["coordinator: "+h.kind] = true
			} else {
				of[h.kind] = true
			}
		}
		if r.liar {
			of["lie"] = true
		}
		if r.kept {
			of["results kept"] = true
		}
		for kind := range of {
			count(kind, r)
		}
	}
	slices.Sort(kinds)
	slices.Sort(ends)
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "rounds with\t%s\t\n", strings.Join(ends, "\t"))
	for _, kind := range kinds {
		fmt.Fprintf(w, "%s\t", kind)
		for _, end := range ends {
			fmt.Fprintf(w, "%d\t", counts[kind][end])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	s.t.Logf("%d rounds\n%s", len(s.rounds), text.String())
	s.printResumed()
}

// printResumed prints how often other coordinators went on with jobs, and how those
// before had ended.
func (s *chaosSummary) printResumed() {
	ends, jobs := map[string]int{}, 0
	for _, r := range s.rounds {
		for _, end := range r.ends {
			ends[end]++
		}
		if len(r.ends) > 0 {
			jobs++
		}
	}
	s.t.Logf("%d jobs were resumed, after coordinators that ended so: %v", jobs, ends)
}
