//go:build linux

package network

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/kernels"
)

var (
	rounds     = flag.Int("rounds", 3, "how often to measure everything; the median counts")
	congestion = flag.String("congestion", "", "the hosts' congestion control, of tcp_allowed_congestion_control, if not the system's")
)

// Lines of hosts. A delay or a loss that is to be there once on the way between
// a worker and the coordinator is on the worker's line only.
var (
	lossy = lab.Line{Delay: 5 * time.Millisecond, Loss: 0.01}
	thin  = lab.Line{Rate: 100e6 / 8}
)

// cluster is a coordinator on host 0 of a lab, which is this process, and workers
// on the others.
type cluster struct {
	lab     *lab.Lab
	workers []*lab.Process
	remotes []*dist.RemoteHost
	bare    []net.Conn // one to each worker
}

// start starts a worker for each of seconds, which its settings have, and
// connects to them, all until t ends. line is that of each worker, and own the
// coordinator's.
func start(t testing.TB, seconds []float64, line, own lab.Line) *cluster {
	t.Helper()
	key := dist.NewKey()
	trust, err := dist.TrustKey(key)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{lab: lab.New(t, 1+len(seconds))}
	c.controlCongestion(t, 0)
	c.lab.Host(0).SetLine(own)
	for i, s := range seconds {
		h := c.lab.Host(1 + i)
		c.controlCongestion(t, 1+i)
		text, err := json.Marshal(settings{Key: key.Reveal(), IP: h.IP, Seconds: s})
		if err != nil {
			t.Fatal(err)
		}
		c.workers = append(c.workers, h.Start(t, []string{workerVariable + "=" + string(text)}, self))
		h.SetLine(line)
	}
	for i, w := range c.workers {
		w.WaitFor(ready)
		c.connect(t, c.lab.Host(1+i).IP, trust)
	}
	return c
}

// connect connects to the worker at ip.
func (c *cluster) connect(t testing.TB, ip string, trust *dist.Trust) {
	t.Helper()
	err := c.lab.Host(0).Do(func() error {
		remote, err := dist.Dial(context.Background(), net.JoinHostPort(ip, hostPort), "coordinator", trust)
		if err != nil {
			return err
		}
		t.Cleanup(func() { remote.Close() })
		c.remotes = append(c.remotes, remote)
		conn, err := net.Dial("tcp", net.JoinHostPort(ip, barePort))
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		c.bare = append(c.bare, conn)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// congestionFile is of the namespace of the thread that opens it.
const congestionFile = "/proc/sys/net/ipv4/tcp_congestion_control"

// controlCongestion sets the congestion control of a host, if the flag says so.
func (c *cluster) controlCongestion(t testing.TB, host int) {
	t.Helper()
	if *congestion == "" {
		return
	}
	if err := c.lab.Host(host).Do(func() error {
		return os.WriteFile(congestionFile, []byte(*congestion), 0)
	}); err != nil {
		t.Fatal(err)
	}
}

// congestionControl returns the congestion control of the hosts.
func (c *cluster) congestionControl(t testing.TB) string {
	t.Helper()
	var name []byte
	if err := c.lab.Host(0).Do(func() (err error) {
		name, err = os.ReadFile(congestionFile)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

func (c *cluster) devices() (all []dist.Device) {
	for _, r := range c.remotes {
		all = append(all, r.Devices()...)
	}
	return all
}

// results has the workers compute so many tiles of 1 MiB of noise, and returns
// the bytes a second.
func (c *cluster) results(t testing.TB, tiles int) float64 {
	t.Helper()
	const side = 512
	job := &kernels.Mandelbrot{T: kernels.Float64, CX: make([]float64, side), CY: make([]float64, side*tiles), MaxIter: 1, R2: 4}
	report, err := dist.Run(context.Background(), job, c.devices(), nowhere{}, dist.Options{Tiles: tiles})
	if err != nil {
		t.Fatal(err)
	}
	return float64(kernels.ResultBytes(job, job.Bounds())) / report.Makespan.Seconds()
}

// nowhere takes results and forgets them.
type nowhere struct{}

func (nowhere) Put(kernels.Tile, *kernels.Result) error { return nil }

// bytes has the workers send so many bytes over the bare connections together,
// and returns the bytes a second.
func (c *cluster) bytes(t testing.TB, size int) float64 {
	t.Helper()
	share := size / len(c.bare)
	errs := make([]error, len(c.bare))
	began := time.Now()
	var group sync.WaitGroup
	for i, conn := range c.bare {
		group.Go(func() {
			if _, errs[i] = conn.Write(binary.LittleEndian.AppendUint64(nil, uint64(share))); errs[i] == nil {
				_, errs[i] = io.CopyN(io.Discard, conn, int64(share))
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return float64(share*len(c.bare)) / time.Since(began).Seconds()
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// metrics reports medians, and not the time of the benchmark itself.
func metrics(b *testing.B, all map[string][]float64) {
	for name, values := range all {
		b.ReportMetric(median(values), name)
	}
	b.ReportMetric(0, "ns/op")
}
