//go:build linux

package hosts

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The cores that take part: the product without hosts has both, and so has the
// coordinator, which needs them beside the workers, of which each has one.
var workerCores = []string{"0", "1"}

const allCores = "0,1"

// contestant is a way to compute a product.
type contestant struct {
	name string
	args []string
	runs []run
}

// workers compares products on two workers of one core each with one on both cores,
// and returns the medians of the ratios.
func (p *program) workers(t testing.TB, over string, n, rounds int) map[string]float64 {
	t.Helper()
	f := p.write(t, n)
	listen := func(int) string { return "127.0.0.1:0" }
	if over == "unix" {
		listen = func(i int) string { return "unix:" + filepath.Join(p.folder, strconv.Itoa(i)) }
	}
	var workers []*process
	var addrs []string
	for i, core := range workerCores {
		w, addr := p.worker(t, place{cores: core, procs: 1, cache: "worker" + core}, listen(i), 0)
		defer w.stop()
		workers = append(workers, w)
		addrs = append(addrs, addr)
	}
	hosts := strings.Join(addrs, ",")
	all := []*contestant{{name: "local", args: f.matmul("")}, {name: "by value", args: f.matmul(hosts)}}
	if p.knows(t, "matmul", "--shared-fs") {
		all = append(all, &contestant{name: "shared-fs", args: f.matmul(hosts, "--shared-fs")})
	}
	want := ""
	for range rounds {
		for _, c := range all {
			at := place{cores: allCores, procs: len(workerCores), cache: c.name}
			r, sum := p.execute(t, at, workers, f.c, c.args...)
			if r.refused != "" {
				t.Fatalf("%s: %s", c.name, r.refused)
			}
			if want == "" {
				want = sum
			}
			same(t, c.name, sum, want)
			c.runs = append(c.runs, r)
		}
	}
	p.tellRounds(t, fmt.Sprintf("two workers of one core over %s, %d×%d by %d×%d in float32; the bits are the same; each run:", over, n, n, n, n), all)
	return p.tellRatios(t, all)
}

// tellRounds prints all runs, so that those show which others disturbed.
func (p *program) tellRounds(t testing.TB, title string, all []*contestant) {
	t.Helper()
	rows := []string{row("round", "", "wall, s", "report, s", "makespan, s", "CPU, s: coordinator", "worker 1", "worker 2",
		"busy 1", "busy 2", "share 1", "share 2", "tiles", "peak, MiB", disturbance)}
	for i := range all[0].runs {
		for _, c := range all {
			r := c.runs[i]
			rows = append(rows, row(i+1, c.name, r.wall, r.Seconds, r.Makespan, r.cpu, r.workers[0], r.workers[1],
				r.busy(0), r.busy(1), r.share(0), r.share(1), r.tiles(), mebibytes(float64(r.peak)), r.disturbed()))
		}
	}
	p.table(t, title, rows)
}

// tellRatios prints the medians, and the medians of the rounds' ratios to the first
// contestant, and returns those.
func (p *program) tellRatios(t testing.TB, all []*contestant) map[string]float64 {
	t.Helper()
	rows := []string{row("", "wall, s", "÷ local", "report, s", "÷ local", "CPU of all, s", "÷ local")}
	ratios := map[string]float64{}
	for _, c := range all {
		cells := []any{c.name}
		for _, m := range []struct {
			name  string
			value func(run) float64
		}{{"wall", func(r run) float64 { return r.wall }}, {"report", func(r run) float64 { return r.Seconds }}, {"cpu", run.total}} {
			var ratio []float64
			for i, r := range c.runs {
				ratio = append(ratio, m.value(r)/m.value(all[0].runs[i]))
			}
			cells = append(cells, medianOf(c.runs, m.value), fmt.Sprintf("%.3f", median(ratio)))
			if c != all[0] {
				ratios[strings.ReplaceAll(c.name, " ", "-")+"-"+m.name+"/local"] = median(ratio)
			}
		}
		rows = append(rows, row(cells...))
	}
	p.table(t, fmt.Sprintf("medians of %d rounds:", len(all[0].runs)), rows)
	return ratios
}
