//go:build linux

package launchers

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// measure runs all by turns, round by round, and prints the medians.
func (x *bench) measure(t testing.TB, all []*contestant, s setting, rounds int) {
	t.Helper()
	for _, c := range all {
		c.runs = nil
	}
	before := load()
	var alone []float64
	for range rounds {
		alone = append(alone, x.alone(t))
		for _, c := range all {
			c.runs = append(c.runs, x.undisturbed(t, c, s))
		}
	}
	kind := ""
	cores := float64(hosts)
	if s.slowed {
		rate := running.Seconds() / (running + standing).Seconds()
		kind = fmt.Sprintf(" of which one runs for %.0f %% of the time", 100*rate)
		cores = hosts - 1 + rate
	}
	fmt.Printf("\n%d processes%s; medians of %d rounds; load %s before and %s after:\n", s.processes, kind, rounds, before, load())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tchunks\tcompute\tmakespan, s\t÷ ideal of those\t÷ ideal of all\t÷ ideal of the cores\twall, s\t÷ gpurun\tCPU, s\tothers\t\n")
	best := bestOf(all)
	for _, c := range all {
		row := []string{c.name, c.chunkText(), fmt.Sprint(c.runs[0].computing)}
		for _, value := range []func(int, run) float64{
			func(_ int, r run) float64 { return r.makespan },
			func(_ int, r run) float64 { return r.makespan / (r.busy / float64(r.computing)) },
			func(_ int, r run) float64 { return r.makespan / (r.busy / float64(s.processes)) },
			func(i int, r run) float64 { return r.makespan / (alone[i] / cores) },
			func(_ int, r run) float64 { return r.wall },
			func(i int, r run) float64 { return r.wall / all[0].runs[i].wall },
			func(_ int, r run) float64 { return r.cpu },
			func(_ int, r run) float64 { return r.others },
		} {
			row = append(row, fmt.Sprintf("%.3f", c.median(value)))
		}
		mark := ""
		if slices.Contains(best, c) {
			mark = " best"
		}
		fmt.Fprintf(w, "%s\t%s\n", strings.Join(row, "\t"), mark)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// bestOf returns, of each program that is told a number of chunks, the one with the
// shortest makespan.
func bestOf(all []*contestant) (best []*contestant) {
	makespan := func(_ int, r run) float64 { return r.makespan }
	for _, c := range all {
		i := slices.IndexFunc(best, func(b *contestant) bool { return b.name == c.name })
		switch {
		case c.chunks == 0:
		case i < 0:
			best = append(best, c)
		case c.median(makespan) < best[i].median(makespan):
			best[i] = c
		}
	}
	return best
}

// alone returns the seconds in which one process computes the image by itself.
func (x *bench) alone(t testing.TB) float64 {
	t.Helper()
	one := &contestant{name: "gpurun alone", command: append([]string{x.gpurun}, append(x.mandel(), "--quiet", "--json")...)}
	return x.undisturbed(t, one, setting{processes: 1}).busy
}

// median returns the median of what value has of each round's run.
func (c *contestant) median(value func(round int, r run) float64) float64 {
	var all []float64
	for i, r := range c.runs {
		all = append(all, value(i, r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (c *contestant) chunkText() string {
	if c.chunks == 0 {
		return "auto"
	}
	return fmt.Sprint(c.chunks)
}

// tellLines prints how much users write.
func (x *bench) tellLines(all []*contestant) {
	fmt.Println("\nlines that the user writes, without blank ones, comments and the kernel:")
	told := map[string]bool{}
	for _, c := range all {
		if !told[c.name] {
			fmt.Printf("%4d  %s\n", c.lines, c.name)
		}
		told[c.name] = true
	}
}

// load returns how many processes have been running in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
