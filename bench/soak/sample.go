//go:build linux

package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log"
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

// usage is what a process uses.
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

const (
	// mostIdle is for how many samples, a second each, no job may be done. Counting them,
	// and not time, it does not take a program that was itself stopped for a cluster that is.
	mostIdle = 120

	// answerLimit is no measure of anything: a worker that takes longer hangs.
	answerLimit = 30 * time.Second
)

// errStalled is the error of a cluster that does nothing.
var errStalled = errors.New("the cluster hangs")

// idle counts samples between which no job was done.
type idle struct {
	jobs    int64
	samples int
}

// see returns an error if there have been too many up to s.
func (i *idle) see(s sample) error {
	if s.Jobs != i.jobs {
		*i = idle{jobs: s.Jobs}
		return nil
	}
	if i.samples++; i.samples < mostIdle {
		return nil
	}
	return fmt.Errorf("%w: after %.0f s there are %d jobs, as %d samples before", errStalled, s.seconds, s.Jobs, i.samples)
}

// sample samples the coordinator and the worker that is left alone, each second until
// ctx is done, and writes that to a file as it goes. It fails if one of the two ends, or
// does not answer, or if no job is done any more.
func (c *cluster) sample(ctx context.Context, churn *churn, file string) (samples []sample, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	to := csv.NewWriter(f)
	defer func() {
		to.Flush()
		err = errors.Join(err, to.Error(), f.Close())
	}()
	header := []string{"seconds", "jobs", "wrong", "failed", "churn"}
	for _, s := range series {
		header = append(header, s.column)
	}
	to.Write(header) // errors are kept for Error
	var idle idle
	for tick := time.Tick(time.Second); ; {
		select {
		case <-ctx.Done():
			return samples, nil
		case <-tick:
		}
		s, err := c.look(ctx, churn)
		switch {
		case err != nil && ctx.Err() != nil:
			return samples, nil
		case err != nil:
			return samples, err
		}
		samples = append(samples, s)
		to.Write(s.row())
		if err := idle.see(s); err != nil {
			return samples, err
		}
		if len(samples)%60 == 0 {
			to.Flush()
			log.Printf("%d min: %d jobs, %d wrong, %d failed, %d events", len(samples)/60, s.Jobs, s.Wrong, s.Failed, s.events)
		}
	}
}

// look takes one sample.
func (c *cluster) look(ctx context.Context, churn *churn) (s sample, err error) {
	worker := c.workers[0]
	s = sample{seconds: time.Since(churn.began).Seconds(), status: c.status(), events: len(churn.happened())}
	if s.coordinator, err = usageOf(c.coordinator, "the coordinator"); err != nil {
		return s, err
	}
	s.coordinator.heap, s.coordinator.goroutines = float64(s.Heap)/(1<<20), float64(s.Goroutines)
	if s.worker, err = usageOf(worker.process, worker.name); err != nil {
		return s, err
	}
	m, err := metrics(ctx, worker.metrics, "go_memstats_heap_inuse_bytes", "go_goroutines")
	if err != nil {
		if _, gone := usageOf(worker.process, worker.name); gone != nil {
			return s, gone // which says more
		}
		return s, fmt.Errorf("metrics of %s: %w", worker.name, err)
	}
	s.worker.heap, s.worker.goroutines = m[0]/(1<<20), m[1]
	return s, nil
}

func (s sample) row() []string {
	row := []string{fmt.Sprintf("%.1f", s.seconds), fmt.Sprint(s.Jobs), fmt.Sprint(s.Wrong), fmt.Sprint(s.Failed), fmt.Sprint(s.events)}
	for _, of := range series {
		row = append(row, strconv.FormatFloat(of.of(s), 'f', -1, 64))
	}
	return row
}

// usageOf asks the system what p uses.
func usageOf(p *process, name string) (u usage, err error) {
	defer func() {
		if err == nil {
			return
		}
		select {
		case <-p.done:
			err = p.ended(name)
		case <-time.After(time.Second): // by then it is known how it ended, if it did
			err = fmt.Errorf("%s: %w", name, err)
		}
	}()
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

// metrics asks a worker for its metrics and returns those of some names, which have no
// labels.
func metrics(ctx context.Context, addr string, names ...string) (values []float64, err error) {
	text, err := get(ctx, "http://"+addr+"/metrics")
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), " "); found {
			if x, err := strconv.ParseFloat(value, 64); err == nil {
				all[name] = x
			}
		}
	}
	for _, name := range names {
		x, found := all[name]
		if !found {
			return nil, fmt.Errorf("there is no %s", name)
		}
		values = append(values, x)
	}
	return values, nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
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
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}
