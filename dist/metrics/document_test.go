package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpurun/gpurun/dist"
)

// documented is a metric as docs/operations.md has it: in backquotes, with its labels.
var documented = regexp.MustCompile("`(gpurun_[a-z_]+)(?:\\{([a-z,]*)\\})?`")

// TestDocument compares the metrics that docs/operations.md names, and their labels, with
// those that workers and coordinators serve.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]string{}
	for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
		labels := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
		slices.Sort(labels)
		named[m[1]] = strings.Join(labels, ",")
	}

	c := NewCoordinator(func() int { return 1 }, func() float64 { return 0.5 })
	c.Add(&dist.Report{Lost: 1, Devices: []dist.DeviceReport{{ID: "a:1/cpu", Tiles: 1}}})
	c.Job("matmul", true)
	registry := gatherer(Worker(stats), c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "gpurun_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		served[f.GetName()] = strings.Join(labels, ",")
	}
	// Of a job that runs only.
	described := make(chan *prometheus.Desc, 100)
	c.Describe(described)
	Worker(stats).Describe(described)
	close(described)
	fields := regexp.MustCompile(`fqName: "([a-z_]+)".*variableLabels: \{([a-z,]*)\}`)
	for d := range described {
		m := fields.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%v is not understood", d)
		}
		labels := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
		slices.Sort(labels)
		if was, twice := served[m[1]]; twice && was != strings.Join(labels, ",") {
			t.Errorf("%s is served with %s, and described with %s", m[1], was, m[2])
		}
		served[m[1]] = strings.Join(labels, ",")
	}
	for name, labels := range served {
		if in, ok := named[name]; !ok || in != labels {
			t.Errorf("%s{%s} is served, and docs/operations.md has it: %v, with {%s}", name, labels, ok, in)
		}
	}
	for name := range named {
		if _, ok := served[name]; !ok {
			t.Errorf("docs/operations.md names %s, which nobody serves", name)
		}
	}
	if len(served) < 20 {
		t.Errorf("only %d metrics were seen", len(served))
	}
}
