//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// sample is what was seen at one moment.
type sample struct {
	seconds float64 // since the start
	status
	events              int
	coordinator, worker usage
}

// usage is what a process uses. What cannot be had is NaN.
type usage struct {
	resident, heap                   float64 // MiB
	descriptors, threads, goroutines float64
}

// series are the columns that should be flat.
var series = []struct {
	name, column string
	of           func(sample) float64
}{
	{"coordinator, resident, MiB", "coordinator_resident_mib", func(s sample) float64 { return s.coordinator.resident }},
	{"coordinator, heap in use, MiB", "coordinator_heap_mib", func(s sample) float64 { return s.coordinator.heap }},
	{"coordinator, descriptors", "coordinator_descriptors", func(s sample) float64 { return s.coordinator.descriptors }},
	{"coordinator, threads", "coordinator_threads", func(s sample) float64 { return s.coordinator.threads }},
	{"coordinator, goroutines", "coordinator_goroutines", func(s sample) float64 { return s.coordinator.goroutines }},
	{"worker, resident, MiB", "worker_resident_mib", func(s sample) float64 { return s.worker.resident }},
	{"worker, heap in use, MiB", "worker_heap_mib", func(s sample) float64 { return s.worker.heap }},
	{"worker, descriptors", "worker_descriptors", func(s sample) float64 { return s.worker.descriptors }},
	{"worker, threads", "worker_threads", func(s sample) float64 { return s.worker.threads }},
	{"worker, goroutines", "worker_goroutines", func(s sample) float64 { return s.worker.goroutines }},
}

// sample samples the coordinator and the worker that is left alone, each second until
// ctx is done, and writes that to a file as it goes. It fails if one of the two ends.
func (c *cluster) sample(ctx context.Context, churn *churn, file string) (samples []sample, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	to := csv.NewWriter(f)
	header := []string{"seconds", "jobs", "wrong", "failed", "churn"}
	for _, s := range series {
		header = append(header, s.column)
	}
	to.Write(header) // errors are kept for Error
	worker := c.workers[0]
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			to.Flush()
			return samples, to.Error()
		case <-tick.C:
		}
		s := sample{seconds: time.Since(churn.began).Seconds(), status: c.status(), events: len(churn.happened())}
		if s.coordinator, err = usageOf(c.coordinator); err != nil {
			return samples, fmt.Errorf("the coordinator: %w", err)
		}
		s.coordinator.heap, s.coordinator.goroutines = float64(s.Heap)/(1<<20), float64(s.Goroutines)
		if s.worker, err = usageOf(worker.process); err != nil {
			return samples, fmt.Errorf("%s: %w", worker.name, err)
		}
		if worker.metrics != "" {
			m := metrics(ctx, worker.metrics)
			s.worker.heap, s.worker.goroutines = m("go_memstats_heap_inuse_bytes")/(1<<20), m("go_goroutines")
		}
		samples = append(samples, s)
		to.Write(s.row())
		if len(samples)%60 == 0 {
			to.Flush()
			log.Printf("%d min: %d jobs, %d wrong, %d failed, %d events", len(samples)/60, s.Jobs, s.Wrong, s.Failed, s.events)
		}
	}
}

func (s sample) row() []string {
	row := []string{fmt.Sprintf("%.1f", s.seconds), fmt.Sprint(s.Jobs), fmt.Sprint(s.Wrong), fmt.Sprint(s.Failed), fmt.Sprint(s.events)}
	for _, of := range series {
		cell := ""
		if x := of.of(s); !math.IsNaN(x) {
			cell = strconv.FormatFloat(x, 'f', -1, 64)
		}
		row = append(row, cell)
	}
	return row
}

// usageOf asks the system what p uses.
func usageOf(p *process) (u usage, err error) {
	u.heap, u.goroutines = math.NaN(), math.NaN()
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	text, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			u.resident = n / 1024
		case "Threads":
			u.threads = n
		}
	}
	if u.threads == 0 || u.resident == 0 {
		return u, fmt.Errorf("process %d has ended", p.cmd.Process.Pid)
	}
	open, err := os.ReadDir(proc + "fd")
	u.descriptors = float64(len(open))
	return u, err
}

// metrics asks a worker for its metrics, of which it returns those without labels by
// their names, and NaN for those that there are not.
func metrics(ctx context.Context, addr string) func(name string) float64 {
	values := map[string]float64{}
	if text, err := get(ctx, "http://"+addr+"/metrics"); err == nil {
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			if name, value, found := strings.Cut(lines.Text(), " "); found {
				if x, err := strconv.ParseFloat(value, 64); err == nil {
					values[name] = x
				}
			}
		}
	}
	return func(name string) float64 {
		if x, found := values[name]; found {
			return x
		}
		return math.NaN()
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}
