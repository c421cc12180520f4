//go:build linux

package gpurun_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
)

// metricsAt is where workers tell their metrics. Only their own hosts reach it.
const metricsAt = "127.0.0.1:9480"

// chaosWorker is a worker, and what it may hold when nobody is connected.
type chaosWorker struct {
	*lab.Process
	host    *lab.Host
	dir     string // of its temporary files and its cache
	metrics string // the address
	idle    map[string]int
}

// counted are the metrics of which a worker must have no more after a job than before.
var counted = []string{"go_goroutines", "gpurun_worker_leases", "gpurun_worker_jobs", "gpurun_worker_coordinators"}

// holds returns how much w has of what it must have no more of after a job than before,
// by name.
func (w *chaosWorker) holds() (map[string]int, error) {
	has := map[string]int{"descriptors": len(w.Descriptors()), "children": len(w.Children())}
	told, err := metricsOf(w.host, w.metrics)
	if err != nil {
		return has, err
	}
	for _, name := range counted {
		n, ok := told[name]
		if !ok {
			return has, fmt.Errorf("no metric %s", name)
		}
		has[name] = n
	}
	return has, nil
}

// leastOf returns the least that w holds in a few looks: a look has connections and
// goroutines of its own, and not always as many.
func (w *chaosWorker) leastOf(t *testing.T, looks int) map[string]int {
	t.Helper()
	var least map[string]int
	for range looks {
		now, err := w.holds()
		if err != nil {
			t.Fatalf("%s: %v: %s", w.Name(), err, w.Said())
		}
		if least == nil {
			least = now
		}
		for name, n := range now {
			least[name] = min(least[name], n)
		}
	}
	return least
}

// metricsOf returns what the metrics at an address of h say that have no labels.
func metricsOf(h *lab.Host, addr string) (map[string]int, error) {
	dial := func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = h.Do(func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	answer, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	told := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			told[name] = int(n)
		}
	}
	return told, nil
}

// settle waits until no worker holds more than an idle one, and checks that none has left
// a file.
func settle(t *testing.T, workers []*chaosWorker) {
	t.Helper()
	deadline := time.Now().Add(hangLimit)
	for _, w := range workers {
		for more := true; more; time.Sleep(20 * time.Millisecond) {
			now, err := w.holds()
			more = err != nil
			for name, n := range now {
				more = more || n > w.idle[name]
			}
			if more && time.Now().After(deadline) {
				t.Fatalf("%s held %v, and now holds %v (%v): %v; its goroutines were %v",
					w.Name(), w.idle, now, err, w.Descriptors(), origins(w.Goroutines()))
			}
		}
		if names, err := left(w.Dir(), w.dir); len(names) > 0 || err != nil {
			t.Fatalf("%s left %v (%v)", w.Name(), names, err)
		}
	}
}

// settle waits until all workers of c hold no more than idle ones.
func (c *chaosCluster) settle() {
	c.t.Helper()
	settle(c.t, slices.Collect(maps.Values(c.workers)))
}

// left returns the files below folders that a process should not have left: what is
// cached may stay.
func left(dirs ...string) (names []string, err error) {
	for _, dir := range dirs {
		all, err := lab.Left(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range all {
			if cached, _ := filepath.Match("cache/*.bin", name); !cached {
				names = append(names, filepath.Join(dir, name))
			}
		}
	}
	return names, nil
}

// origins counts goroutines by what created them.
func origins(stacks []string) map[string]int {
	count := map[string]int{}
	for _, s := range stacks {
		from := "started by the runtime"
		if i := strings.LastIndex(s, "created by "); i >= 0 {
			from, _, _ = strings.Cut(s[i:], " in goroutine")
		}
		count[from]++
	}
	return count
}
