//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTrend looks at how often the true slope is within two deviations, where noise is
// like the one before: in 95 of 100 cases, if the deviation is right.
func TestTrend(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const slope, runs = 3.0, 400
	within := 0
	for range runs {
		var x, y []float64
		noise := 0.0
		for i := range 600 {
			noise = 0.8*noise + random.NormFloat64()
			x = append(x, float64(i)/600)
			y = append(y, 50+slope*x[i]+noise)
		}
		if got, deviation := trend(x, y); math.Abs(got-slope) < 2*deviation {
			within++
		}
	}
	if part := float64(within) / runs; part < 0.9 || part > 0.99 {
		t.Errorf("the slope is within two deviations in %.2f of all cases", part)
	}
	if got, deviation := trend([]float64{0, 1, 2, 3}, []float64{5, 5, 5, 5}); got != 0 || deviation != 0 {
		t.Errorf("a constant has the slope %g ± %g", got, deviation)
	}
}

// TestMetrics reads the text of Prometheus.
func TestMetrics(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE go_goroutines gauge\ngo_goroutines 17\ngo_memstats_heap_inuse_bytes 2.5e+06\nx{a=\"b c\"} 1\n")
	}))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	m, err := metrics(t.Context(), addr, "go_goroutines", "go_memstats_heap_inuse_bytes")
	if err != nil || !slices.Equal(m, []float64{17, 2.5e6}) {
		t.Errorf("the metrics are %g, %v", m, err)
	}
	if m, err := metrics(t.Context(), addr, "go_goroutines", "process_open_fds"); err == nil || !strings.Contains(err.Error(), "process_open_fds") {
		t.Errorf("with what is not there they are %g, %v", m, err)
	}
	wrong := httptest.NewServer(http.NotFoundHandler())
	defer wrong.Close()
	if m, err := metrics(t.Context(), strings.TrimPrefix(wrong.URL, "http://")); err == nil {
		t.Errorf("of who has none they are %g", m)
	}
}

// TestIdle tells clusters that hang from those that do little.
func TestIdle(t *testing.T) {
	var all idle
	see := func(i int, jobs int64) error {
		s := sample{seconds: float64(i)}
		s.Jobs = jobs
		return all.see(s)
	}
	i := 0
	for ; i < 10*mostIdle; i++ {
		if err := see(i, int64(i/(mostIdle-1))); err != nil {
			t.Fatalf("at %d: %v", i, err)
		}
	}
	for jobs, from := all.jobs+1, i; ; i++ {
		if err := see(i, jobs); err == nil {
			continue
		} else if !errors.Is(err, errStalled) || i != from+mostIdle {
			t.Errorf("after %d samples without a job: %v", i-from, err)
		}
		break
	}
}

// TestSummary looks at what series are said to be.
func TestSummary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var samples []sample
	for i := range 3600 {
		x := float64(i) / 3600
		samples = append(samples, sample{
			seconds:     float64(i),
			coordinator: usage{80 + random.NormFloat64(), 40 + 8*x + random.NormFloat64(), 12, 8, 30},
			worker:      usage{30 - 6*x + random.NormFloat64(), 1 + 5*random.NormFloat64(), 11, 9, 31},
		})
	}
	want := map[string]string{
		"coordinator, resident, MiB": flat, "coordinator, heap in use, MiB": grows, "coordinator, threads": flat,
		"worker, resident, MiB": falls, "worker, heap in use, MiB": unclear, "worker, goroutines": flat,
	}
	var out strings.Builder
	summarize(&out, "the title", samples, nil, 0)
	if !strings.HasPrefix(out.String(), "the title\n") {
		t.Error("it does not begin with the title")
	}
	for line := range strings.Lines(out.String()) {
		for name, is := range want {
			if fields := strings.Fields(line); strings.HasPrefix(strings.TrimSpace(line), name) {
				delete(want, name)
				if last := fields[len(fields)-1]; last != is {
					t.Errorf("%s is %s, and not %s", name, last, is)
				}
			}
		}
	}
	if len(want) > 0 || t.Failed() {
		t.Errorf("it has no %v:\n%s", want, out.String())
	}
}

// TestVerdict looks at what fails a run.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		status
		fails bool
	}{{status{Jobs: 1}, false}, {status{}, true}, {status{Jobs: 1, Wrong: 1}, true}, {status{Jobs: 1, Failed: 1}, true}} {
		if err := verdict([]sample{{status: c.status}}); (err != nil) != c.fails {
			t.Errorf("%+v: %v", c.status, err)
		}
	}
}

// TestPlots plots many samples, and one in which nothing was done.
func TestPlots(t *testing.T) {
	var samples []sample
	for i := range 1000 {
		s := sample{seconds: float64(i + 1), coordinator: usage{80, 40, 12, 8, 30}, worker: usage{25, 10, 11, 9, 31}}
		s.Jobs = int64(20 * i)
		samples = append(samples, s)
	}
	for _, part := range [][]sample{samples, samples[:1]} {
		checkPlots(t, part)
	}
}

func checkPlots(t *testing.T, samples []sample) {
	t.Helper()
	folder := t.TempDir()
	if err := plotAll(folder, samples, []event{{3, 5, "worker 2", killed}}); err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string]string{"soak.png": "\x89PNG", "soak.svg": "<?xml"} {
		if data, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !bytes.HasPrefix(data, []byte(head)) {
			t.Errorf("%s: %v, begins with %q", name, err, data[:min(5, len(data))])
		}
	}
}
