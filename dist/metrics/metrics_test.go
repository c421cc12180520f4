package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/dist"
)

// TestMain looks for goroutines that are left, but those in which net/http gives a client
// that asked for too much half a second to read why it is refused.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func stats() dist.HostStats {
	return dist.HostStats{
		Coordinators: 1, Jobs: 2, Leases: 3, Draining: true, Sessions: 4, OperandBytes: 5,
		Refused: map[dist.Refusal]int64{dist.RefusedUntrusted: 6},
		Devices: []dist.HostDeviceStats{{ID: "ocl:0.0", Done: 7, Failed: 8, Lost: 9, Elements: 10, Busy: 1500 * time.Millisecond, BytesIn: 11, BytesOut: 12}},
	}
}

// TestLint has the names and the help checked by Prometheus's own rules.
func TestLint(t *testing.T) {
	c := NewCoordinator(func() int { return 1 }, func() float64 { return 0.5 })
	c.Add(&dist.Report{Lost: 1, Devices: []dist.DeviceReport{{ID: "a:1/cpu", Tiles: 1}}})
	c.Job("matmul", true)
	problems, err := testutil.GatherAndLint(gatherer(Worker(stats), c))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestWorker compares what a worker's collector emits with the stats.
func TestWorker(t *testing.T) {
	const want = `
# HELP gpurun_worker_busy_seconds_total Time in which the device computed.
# TYPE gpurun_worker_busy_seconds_total counter
gpurun_worker_busy_seconds_total{device="ocl:0.0"} 1.5
# HELP gpurun_worker_bytes_total Bytes to (in) and from (out) the memory of the device.
# TYPE gpurun_worker_bytes_total counter
gpurun_worker_bytes_total{device="ocl:0.0",direction="in"} 11
gpurun_worker_bytes_total{device="ocl:0.0",direction="out"} 12
# HELP gpurun_worker_coordinators Coordinators that are served.
# TYPE gpurun_worker_coordinators gauge
gpurun_worker_coordinators 1
# HELP gpurun_worker_draining 1 while the worker takes no more leases, since it is to end.
# TYPE gpurun_worker_draining gauge
gpurun_worker_draining 1
# HELP gpurun_worker_elements_total Elements of the tiles that were computed.
# TYPE gpurun_worker_elements_total counter
gpurun_worker_elements_total{device="ocl:0.0"} 10
# HELP gpurun_worker_jobs Jobs that devices have begun, each device counted.
# TYPE gpurun_worker_jobs gauge
gpurun_worker_jobs 2
# HELP gpurun_worker_leases Leases whose answers have not been sent.
# TYPE gpurun_worker_leases gauge
gpurun_worker_leases 3
# HELP gpurun_worker_operand_bytes Memory that matrices take.
# TYPE gpurun_worker_operand_bytes gauge
gpurun_worker_operand_bytes 5
# HELP gpurun_worker_refused_total Peers that were turned away, by why.
# TYPE gpurun_worker_refused_total counter
gpurun_worker_refused_total{reason="untrusted"} 6
# HELP gpurun_worker_sessions_total Sessions with coordinators that began.
# TYPE gpurun_worker_sessions_total counter
gpurun_worker_sessions_total 4
# HELP gpurun_worker_tiles_total Tiles that ended: done, failed, or lost, which nobody waited for any more.
# TYPE gpurun_worker_tiles_total counter
gpurun_worker_tiles_total{device="ocl:0.0",outcome="done"} 7
gpurun_worker_tiles_total{device="ocl:0.0",outcome="failed"} 8
gpurun_worker_tiles_total{device="ocl:0.0",outcome="lost"} 9
`
	if err := testutil.CollectAndCompare(Worker(stats), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// tilesOf returns the values of gpurun_tiles_total, by host and device.
func tilesOf(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "gpurun_tiles_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			values[m.GetLabel()[1].GetValue()+"/"+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return values
}

// TestCountersOnlyGrow has a job take back what a device did, another begin from nothing,
// and a host come back within one.
func TestCountersOnlyGrow(t *testing.T) {
	c := NewCoordinator(func() int { return 0 }, func() float64 { return 0 })
	tiles := func(id string, n int) dist.DeviceReport { return dist.DeviceReport{ID: id, Tiles: n} }
	run := seen{}
	for i, step := range []struct {
		devices []dist.DeviceReport
		fresh   bool // of another run
		want    map[string]float64
	}{
		{[]dist.DeviceReport{tiles("a:1/cpu", 5), tiles("cpu", 2)}, true, map[string]float64{"a:1/cpu": 5, "/cpu": 2}},
		{[]dist.DeviceReport{tiles("a:1/cpu", 0), tiles("cpu", 3)}, false, map[string]float64{"a:1/cpu": 5, "/cpu": 3}},
		{[]dist.DeviceReport{tiles("a:1/cpu", 0), tiles("cpu", 9)}, false, map[string]float64{"a:1/cpu": 5, "/cpu": 9}},
		{[]dist.DeviceReport{tiles("a:1/cpu", 1)}, true, map[string]float64{"a:1/cpu": 6, "/cpu": 9}},
		{[]dist.DeviceReport{tiles("a:1/cpu", 1), tiles("a:1/cpu", 2)}, false, map[string]float64{"a:1/cpu": 8, "/cpu": 9}},
	} {
		if step.fresh {
			run = seen{}
		}
		c.count(&dist.Report{Devices: step.devices}, &run)
		got := tilesOf(t, c)
		if fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// TestLate has results come late in two runs, of which one is looked at twice.
func TestLate(t *testing.T) {
	c := NewCoordinator(func() int { return 0 }, func() float64 { return 0 })
	report := func(n int) *dist.Report {
		return &dist.Report{Late: n, Devices: []dist.DeviceReport{{ID: "node1#2/cpu", Late: n}}}
	}
	run := seen{}
	c.count(report(1), &run)
	c.count(report(3), &run)
	c.Add(report(4))
	const want = `
# HELP gpurun_late_total Results that came, or began to, for leases that had been lost, and were refused.
# TYPE gpurun_late_total counter
gpurun_late_total{device="cpu",host="node1#2"} 7
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "gpurun_late_total"); err != nil {
		t.Error(err)
	}
}

// TestCardinality has more hosts come than are told apart. What they did is counted all
// the same.
func TestCardinality(t *testing.T) {
	c := NewCoordinator(func() int { return 0 }, func() float64 { return 0 })
	const n = maxSeries + 500
	for i := range n {
		c.Add(&dist.Report{Devices: []dist.DeviceReport{{ID: fmt.Sprintf("host%d\xff/cpu", i), Tiles: 1}}})
	}
	got := tilesOf(t, c)
	sum := 0.0
	for _, x := range got {
		sum += x
	}
	if len(got) != maxSeries+1 || sum != n || got["other/other"] != 500 {
		t.Errorf("%d series of %g tiles, %g of others", len(got), sum, got["other/other"])
	}
}

// TestServer asks for what there is and for what there is not.
func TestServer(t *testing.T) {
	var healthy atomic.Bool
	healthy.Store(true)
	log := slog.New(slog.DiscardHandler)
	s, err := Listen(t.Context(), "127.0.0.1:0", log, healthy.Load, Worker(stats))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path string, header http.Header) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for _, test := range []struct {
		method, path string
		header       http.Header
		code         int
		says         string
	}{
		{"GET", "/metrics", nil, 200, "gpurun_worker_leases 3\n"},
		{"GET", "/metrics", nil, 200, "gpurun_build_info{"},
		{"GET", "/metrics", nil, 200, "go_goroutines "},
		{"GET", "/healthz", nil, 200, "ok\n"},
		{"POST", "/metrics", nil, 405, ""},
		{"DELETE", "/healthz", nil, 405, ""},
		{"GET", "/", nil, 404, ""},
		{"GET", "/debug/pprof/", nil, 404, ""},
		{"GET", "/metrics", http.Header{"X": {strings.Repeat("x", 64<<10)}}, 431, ""},
	} {
		if code, body := ask(test.method, test.path, test.header); code != test.code || !strings.Contains(body, test.says) {
			t.Errorf("%s %s: %d, want %d with %q: %.300s", test.method, test.path, code, test.code, test.says, body)
		}
	}
	healthy.Store(false)
	if code, _ := ask("GET", "/healthz", nil); code != 503 {
		t.Errorf("while it drains: %d", code)
	}
	if s.http.ReadHeaderTimeout <= 0 || s.http.ReadTimeout <= 0 || s.http.WriteTimeout <= 0 || s.http.IdleTimeout <= 0 {
		t.Error("a client may take its time")
	}
	if _, err := Listen(t.Context(), s.Addr().String(), log, healthy.Load); err == nil || !strings.Contains(err.Error(), "serve metrics at") {
		t.Errorf("listening where somebody does: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if none, err := Listen(ctx, "", log, healthy.Load); none != nil || err != nil || none.Addr() != nil {
		t.Errorf("without an address: %v, %v", none, err)
	}
	s.Close()
	if _, err := client.Get("http://" + s.Addr().String() + "/healthz"); err == nil || errors.Is(err, context.Canceled) {
		t.Error("it answers after Close")
	}
}
