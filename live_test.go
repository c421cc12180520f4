package gpurun_test

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
)

// scrape returns the metrics at addr that begin with gpurun_, by name with labels.
func scrape(t *testing.T, addr net.Addr) map[string]float64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + addr.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		i := strings.LastIndex(line, " ")
		if !strings.HasPrefix(line, "gpurun_") {
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		if err != nil {
			t.Fatal(line, err)
		}
		values[line[:i]] = x
	}
	return values
}

// TestMetrics computes two images on two workers and compares the counters of all three
// with the reports.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	var workers []*gpurun.Worker
	var addrs []string
	for _, name := range []string{"a", "b"} {
		addr := "unix:" + filepath.Join(dir, name)
		w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}, Listen: addr, Metrics: "127.0.0.1:0"}, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- w.Serve(t.Context()) }()
		defer func() {
			w.Drain()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}()
		workers, addrs = append(workers, w), append(addrs, addr)
	}
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs, Tiles: 20, Metrics: "127.0.0.1:0"})
	v := smallView()
	want := map[string]float64{"gpurun_jobs_total{kernel=\"mandelbrot\",outcome=\"done\"}": 2, "gpurun_hosts": 2, "gpurun_leases": 0, "gpurun_job_done_ratio": 0}
	duplicates := 0
	for range 2 {
		if _, err := eng.Mandelbrot(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		r := eng.Report()
		duplicates += r.Duplicates
		for _, d := range r.Devices {
			labels := fmt.Sprintf("{device=%q,host=%q}", d.ID, d.Host)
			want["gpurun_tiles_total"+labels] += float64(d.Tiles)
			want["gpurun_busy_seconds_total"+labels] += d.BusySeconds
			want["gpurun_failures_total"+labels] += float64(d.Failures)
			want["gpurun_late_total"+labels] += float64(d.Late)
			want[fmt.Sprintf("gpurun_bytes_total{device=%q,direction=\"out\",host=%q}", d.ID, d.Host)] += float64(d.BytesOut)
		}
		want["gpurun_lost_total"] += float64(r.Lost)
		want["gpurun_retries_total"] += float64(r.Retries)
		want["gpurun_duplicates_total"] += float64(r.Duplicates)
	}
	got := scrape(t, eng.MetricsAddr())
	for name, value := range want {
		if x, ok := got[name]; !ok || math.Abs(x-value) > 1e-9*value {
			t.Errorf("%s is %g, and the reports have %g", name, x, value)
		}
	}
	elements, tiles := 0.0, 0.0
	for _, w := range workers {
		counted := scrape(t, w.MetricsAddr())
		elements += counted[`gpurun_worker_elements_total{device="cpu"}`]
		tiles += counted[`gpurun_worker_tiles_total{device="cpu",outcome="done"}`]
		if counted["gpurun_worker_sessions_total"] != 1 || counted["gpurun_worker_coordinators"] != 1 {
			t.Errorf("a worker of one coordinator says %v", counted)
		}
	}
	// What was duplicated may have been computed twice.
	if all := float64(2 * v.Width * v.Height); elements < all || duplicates == 0 && elements != all || tiles < 40 {
		t.Errorf("the workers computed %g elements in %g tiles, of %g in 40, with %d duplicates", elements, tiles, all, duplicates)
	}
}

// TestMetricsInPlace multiplies on the CPU, without tiles: that is counted too.
func TestMetricsInPlace(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Metrics: "127.0.0.1:0"})
	var dst mat.Dense
	if err := eng.MatMul(t.Context(), &dst, mat.NewDense(3, 4, nil), mat.NewDense(4, 5, nil)); err != nil {
		t.Fatal(err)
	}
	got := scrape(t, eng.MetricsAddr())
	if got[`gpurun_jobs_total{kernel="matmul",outcome="done"}`] != 1 || got[`gpurun_tiles_total{device="cpu",host=""}`] != 1 {
		t.Errorf("after a product: %v", got)
	}
	if eng.Live() != nil {
		t.Error("a job is shown that does not run")
	}
}

// TestLive looks at an image in bands, and at a product, each time some of it is done.
func TestLive(t *testing.T) {
	var eng *gpurun.Engine
	var seen []*gpurun.Report
	eng = open(t, &gpurun.Config{
		Devices: []string{"cpu"}, Memory: 64 << 10, Tiles: 40, Verify: 0.01, // of products, so that they are jobs
		Progress: func(float64) {
			if r := eng.Live(); r != nil {
				seen = append(seen, r)
			}
		},
	})
	if eng.Live() != nil {
		t.Error("a job is shown before the first")
	}
	check := func(t *testing.T, kernel string, work func(*gpurun.Report) int64) {
		t.Helper()
		if len(seen) == 0 {
			t.Fatal("nothing was seen")
		}
		before := &gpurun.Report{}
		for _, r := range seen {
			share := 0.0
			for _, d := range r.Devices {
				share += d.Share
			}
			if r.Job != kernel || r.Done < before.Done || r.Done <= 0 || r.Done > 1 || len(r.Devices) != 1 || math.Abs(share-1) > 1e-9 {
				t.Errorf("of %s %g is done, after %g, in shares of %g", r.Job, r.Done, before.Done, share)
			}
			if d := r.Devices[0]; d.State != "working" && d.State != "idle" || d.Tiles == 0 || d.Kind != "cpu" {
				t.Errorf("the device: %+v", d)
			}
			before = r
		}
		last, final := seen[len(seen)-1], eng.Report()
		if final.Done != 1 || final.Devices[0].Tiles < last.Devices[0].Tiles || work(last) <= 0 {
			t.Errorf("last seen: %+v, at the end: %+v", last, final)
		}
		if eng.Live() != nil {
			t.Error("a job is shown that has ended")
		}
		seen = nil
	}
	// Long enough for Progress to be called in the middle.
	v := gpurun.View{Span: 3, Width: 300, Height: 200, MaxIter: 60000, Precision: gpurun.Float64, Julia: &siegelDisc}
	bands := 0
	if err := eng.MandelbrotBands(t.Context(), v, func(*gpurun.Field) error { bands++; return nil }); err != nil {
		t.Fatal(err)
	}
	if bands < 2 {
		t.Fatalf("%d bands", bands)
	}
	check(t, "mandelbrot", func(r *gpurun.Report) int64 { return r.Iterations })
	var dst mat.Dense
	if err := eng.MatMul(t.Context(), &dst, mat.NewDense(900, 900, nil), mat.NewDense(900, 900, nil)); err != nil {
		t.Fatal(err)
	}
	check(t, "matmul", func(r *gpurun.Report) int64 { return r.Flops })
}

// TestEngineLog has a host come, one be refused, and the first go.
func TestEngineLog(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := gpurun.WriteKeyFile(key); err != nil {
		t.Fatal(err)
	}
	var said journal
	head := filepath.Join(dir, "head")
	open(t, &gpurun.Config{Devices: []string{"cpu"}, Listen: "unix:" + head, KeyFile: key, Log: slog.New(slog.NewTextHandler(&said, nil))})
	join := func(keyFile string) (leave func()) {
		w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}, KeyFile: keyFile}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- w.Join(t.Context(), "unix:"+head) }()
		return func() { w.Drain(); <-ended }
	}
	wait := func(line string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(said.text(), line); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log lacks %s:\n%s", line, said.text())
			}
		}
	}
	leave := join(key)
	wait(`level=INFO msg="host connected" host=`)
	join("")()
	wait(`level=WARN msg="host turned away" addr=`)
	leave()
	wait(`level=WARN msg="host gone" host=`)
}
