//go:build linux

package hosts

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/tiler"
)

// cluster is a coordinator on host 0 of a lab, and workers on the others.
type cluster struct {
	lab     *lab.Lab
	at      place // of the coordinator
	workers []*process
	hosts   string
}

// cluster starts so many workers with so much memory each, which share the cores.
// The caller calls stop.
func (p *program) cluster(t testing.TB, workers int, memory int64) *cluster {
	t.Helper()
	c := &cluster{lab: lab.New(t, 1+workers)}
	c.at = place{host: c.lab.Host(0), cache: "coordinator"}
	var addrs []string
	for i := range workers {
		h := c.lab.Host(1 + i)
		w, addr := p.worker(t, place{host: h, procs: 1, cache: "worker" + strconv.Itoa(i)}, h.IP+":9473", memory)
		c.workers = append(c.workers, w)
		addrs = append(addrs, addr)
	}
	c.hosts = strings.Join(addrs, ",")
	return c
}

func (c *cluster) stop() {
	for _, w := range c.workers {
		w.stop()
	}
}

// matmul returns the arguments of the command for a product on the cluster.
func (p *program) matmul(f files, c *cluster) []string {
	return append(f.matmul(c.hosts), "--key", p.key)
}

// counted returns the bytes that a host has sent and received so far: frames, with
// all their headers, as its own system counts them.
func counted(t testing.TB, h *lab.Host) (sent, received float64) {
	t.Helper()
	err := h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		_, rest, found := strings.Cut(string(text), "eth0:")
		fields := strings.Fields(rest)
		const receivedBytes, sentBytes = 0, 8
		if !found || len(fields) <= sentBytes {
			return fmt.Errorf("no eth0 in %s", text)
		}
		if received, err = strconv.ParseFloat(fields[receivedBytes], 64); err != nil {
			return err
		}
		sent, err = strconv.ParseFloat(fields[sentBytes], 64)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sent, received
}

// wire counts what a product on two hosts takes on the wire, for hosts with each of
// memories.
func (p *program) wire(t testing.TB, n int, memories []int64, rounds int) {
	t.Helper()
	const workers = 2
	f := p.write(t, n)
	_, want := p.execute(t, place{cache: "local"}, nil, f.c, f.matmul("")...)
	rows := []string{row("memory", "sent, MiB", "received, MiB", "both ÷ once", "both ÷ bound", "report's, MiB", "wall, s", "tiles", "share 1", "share 2", "worker's peak, MiB", disturbance)}
	var refusals []string
	for _, memory := range memories {
		name := memoryName(memory)
		r, peak, refused := p.measureWire(t, f, workers, memory, rounds, want)
		if refused != "" {
			refusals = append(refusals, "refused with "+name+": "+refused)
		}
		if r == nil {
			rows = append(rows, name+"\t"+strings.Repeat("–\t", strings.Count(rows[0], "\t")-1)) // or the columns would end
			continue
		}
		both := r.sent + r.received
		rows = append(rows, row(name, mebibytes(r.sent), mebibytes(r.received),
			fmt.Sprintf("%.3f", both/once(n, workers)), fmt.Sprintf("%.3f", both/bound(n, workers, memory)),
			mebibytes(float64(r.BytesMoved)), r.wall, r.tiles(), r.share(0), r.share(1), mebibytes(float64(peak)), r.disturbed()))
	}
	p.table(t, fmt.Sprintf("bytes at the coordinator's interface, %d hosts, %d×%d by %d×%d in float32, the run of median time of %d; once: A and B to each host, and C, %s MiB:",
		workers, n, n, n, n, rounds, mebibytes(once(n, workers))), rows)
	for _, text := range refusals {
		fmt.Println(text)
	}
}

// measureWire computes the product on new workers with so much memory, and counts. It
// returns the run of median time, or nil if there was none, the most memory that a worker
// had, and why hosts refused if any did.
func (p *program) measureWire(t testing.TB, f files, workers int, memory int64, rounds int, want string) (middle *run, peak int64, refused string) {
	t.Helper()
	c := p.cluster(t, workers, memory)
	defer c.stop()
	var runs []run
	for range rounds {
		sent, received := counted(t, c.at.host)
		r, sum := p.execute(t, c.at, c.workers, f.c, p.matmul(f, c)...)
		s, g := counted(t, c.at.host)
		r.sent, r.received = s-sent, g-received
		if r.refused != "" {
			refused = r.refused
		}
		if sum == "" {
			return nil, 0, refused
		}
		same(t, "memory of "+memoryName(memory), sum, want)
		runs = append(runs, r)
	}
	for _, w := range c.workers {
		peak = max(peak, w.resident())
	}
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.wall, b.wall) })
	return &runs[len(runs)/2], peak, refused
}

// once is the bytes of an n×n product in float32 of which each element of A and B goes
// to each host once, and each of C comes from one.
func once(n, hosts int) float64 {
	return float32Bytes * float64(n) * float64(n) * float64(2*hosts+1)
}

// bound is the bytes that hosts move which share the rows of an n×n product, each
// through so much memory, see tiler.MovedBound.
func bound(n, hosts int, memory int64) float64 {
	if memory == 0 {
		memory = device.TotalMemory() / 2 // the default of gpurun worker
	}
	share := tiler.Product{M: (n + hosts - 1) / hosts, N: n, K: n}
	return float32Bytes * float64(hosts) * tiler.MovedBound(share, float64(memory)/float32Bytes)
}
