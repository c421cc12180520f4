//go:build linux

package hosts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// memoryWorkers is how many workers share the products whose coordinator's memory is
// looked at.
const memoryWorkers = 4

// memory measures the memory that coordinator and workers take for a product, beside
// what this machine takes for it by itself.
func (p *program) memory(t testing.TB, n int, memory int64, rounds int) {
	t.Helper()
	f := p.write(t, n)
	title := fmt.Sprintf("peak of resident memory, %d×%d by %d×%d in float32, %.2f GiB of matrices; memory of a host: %s",
		n, n, n, n, 3*float32Bytes*float64(n)*float64(n)/(1<<30), memoryName(memory))
	p.peaks(t, title, memory, rounds, f.c, f.matmul(""), func(c *cluster) []string { return p.matmul(f, c) })
}

// picture is memory for a picture of the Mandelbrot set.
func (p *program) picture(t testing.TB, size string, rounds int) {
	t.Helper()
	args := []string{"mandel", "--size", size}
	p.peaks(t, "peak of resident memory, a picture of "+size, 0, rounds, filepath.Join(p.folder, "x.png"),
		append(args, "--device", "cpu"),
		func(c *cluster) []string { return append(args, "--device", "none", "--hosts", c.hosts, "--key", p.key) })
}

// peaks runs the command with the arguments local and, on a cluster, with those of
// hosts, which write the same output, and prints what memory they took.
func (p *program) peaks(t testing.TB, title string, memory int64, rounds int, output string, local []string, hosts func(*cluster) []string) {
	t.Helper()
	c := p.cluster(t, memoryWorkers, memory)
	defer c.stop()
	rows := []string{row("round", "", "coordinator, MiB", "workers, MiB", "CPU, s: coordinator", "workers", "wall, s", disturbance)}
	add := func(round int, name string, r run, workers string) {
		rows = append(rows, row(round+1, name, mebibytes(float64(r.peak)), workers, r.cpu, r.total()-r.cpu, r.wall, r.disturbed()))
	}
	refused := ""
	for i := range rounds {
		r, want := p.execute(t, place{cache: "local"}, nil, output, local...)
		if want == "" {
			t.Fatal(r.refused)
		}
		add(i, "local", r, "–")
		r, sum := p.execute(t, c.at, c.workers, output, hosts(c)...)
		if r.refused != "" {
			refused = r.refused
		}
		if sum == "" {
			break
		}
		same(t, title, sum, want)
		var all []string
		for _, w := range c.workers { // the most so far, which one run after the other has
			all = append(all, mebibytes(float64(w.resident())))
		}
		add(i, fmt.Sprintf("%d hosts", memoryWorkers), r, strings.Join(all, " "))
	}
	p.table(t, fmt.Sprintf("%s; peaks of the command below %s MiB, which this process had, are not seen:", title, mebibytes(float64(peakOf(t, os.Getpid())))), rows)
	if refused != "" {
		fmt.Println("refused:", refused)
	}
}
