//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	m := metrics(t.Context(), strings.TrimPrefix(server.URL, "http://"))
	if got := m("go_goroutines"); got != 17 {
		t.Errorf("go_goroutines is %g", got)
	}
	if got := m("go_memstats_heap_inuse_bytes"); got != 2.5e6 {
		t.Errorf("go_memstats_heap_inuse_bytes is %g", got)
	}
	if got := m("process_open_fds"); !math.IsNaN(got) {
		t.Errorf("what is not there is %g", got)
	}
}

// TestPlots plots samples without what only metrics tell.
func TestPlots(t *testing.T) {
	folder, none := t.TempDir(), math.NaN()
	var samples []sample
	for i := range 1000 {
		s := sample{seconds: float64(i + 1), coordinator: usage{80, 40, 12, 8, 30}, worker: usage{25, none, 11, 9, none}}
		s.Jobs = int64(20 * i)
		samples = append(samples, s)
	}
	if err := plotAll(folder, samples, []event{{3, 5, "worker 2", killed}}); err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string]string{"soak.png": "\x89PNG", "soak.svg": "<?xml"} {
		if data, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !bytes.HasPrefix(data, []byte(head)) {
			t.Errorf("%s: %v, begins with %q", name, err, data[:min(5, len(data))])
		}
	}
}
