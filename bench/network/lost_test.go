//go:build linux

package network

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/kernels"
)

var seed = flag.Uint64("seed", 0, "of the moments at which hosts are lost or stopped; 0 for another one each time")

// struck is a job of three hosts of the same rate, of which the first got a signal.
type struck struct {
	at       float64 // the part of the job that was done then
	signal   time.Time
	left     float64 // the cost of what was not done then
	last     time.Time
	report   *dist.Report
	lost     string // the device that was hit
	need     float64
	makespan float64 // these two in seconds
}

// strike runs a job, and sends the signal when the given part of it is done.
func strike(b *testing.B, c *cluster, image *pretend.Image, seconds []float64, signal syscall.Signal, at float64) *struck {
	b.Helper()
	s := &struck{at: at, lost: c.devices()[0].ID()}
	sink, once := &storing{meter: meter{checked: checked{image}}}, sync.Once{}
	report, err := dist.Run(context.Background(), image.Job, c.devices(), sink, dist.Options{
		Cost:  image.Sampled,
		Spans: true,
		Progress: func(done float64) {
			if done >= at {
				once.Do(func() {
					c.workers[0].Signal(signal)
					s.signal, s.left = time.Now(), sink.left()
				})
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	s.report, s.last = report, sink.stored
	s.need = s.left / image.Total / (1/seconds[1] + 1/seconds[2])
	s.makespan = report.Makespan.Seconds()
	return s
}

// storing is a meter that knows when the last result was stored, where a makespan ends.
type storing struct {
	meter
	stored time.Time // under meter.mu
}

func (m *storing) Put(t kernels.Tile, r *kernels.Result) error {
	err := m.meter.Put(t, r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = time.Now()
	return err
}

// wasted returns the cost of what the host had in flight when it was lost, and of
// what of that nobody got.
func (s *struck) wasted(image *pretend.Image) (inFlight, thrown float64) {
	moment := s.report.Makespan - s.last.Sub(s.signal) // since the first pull, as spans are
	for _, span := range s.report.Spans {
		if span.Device != s.lost || span.Granted > moment || span.Ended < moment {
			continue
		}
		cost := image.Exact.Cost(span.Tile)
		inFlight += cost
		if span.Outcome == dist.OutcomeLost {
			thrown += cost
		}
	}
	return inFlight, thrown
}

// moments calls f rounds times, with random parts of a job.
func moments(b *testing.B, f func(at float64)) {
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	b.Logf("seed %d", from)
	rng := rand.New(rand.NewPCG(from, 0))
	for b.Loop() {
		for range *rounds {
			f(0.05 + 0.9*rng.Float64())
		}
	}
}

// BenchmarkLostHost kills one of three hosts at random moments. It measures the work
// that is thrown away ÷ what the host had in flight, and the time from then on ÷ what
// the others alone need for all that was not done.
func BenchmarkLostHost(b *testing.B) {
	image, seconds := imageOfThree(b)
	all := map[string][]float64{}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "killed at\tin flight\tthrown away\t÷ in flight\trest, s\t÷ others alone\t")
	moments(b, func(at float64) {
		s := strike(b, start(b, seconds, lab.Line{}, lab.Line{}), image, seconds, syscall.SIGKILL, at)
		inFlight, thrown := s.wasted(image)
		rest := s.last.Sub(s.signal).Seconds()
		all["stretch"] = append(all["stretch"], rest/s.need)
		part := 0.0
		if inFlight > 0 {
			part = thrown / inFlight
			all["thrown"] = append(all["thrown"], part)
		}
		fmt.Fprintf(table, "%.2f\t%.2f %%\t%.2f %%\t%.3f\t%.2f\t%.3f\t\n", at, 100*inFlight/image.Total, 100*thrown/image.Total, part, rest, rest/s.need)
	})
	if len(all["thrown"]) == 0 {
		b.Error("no round found anything in flight: nothing was measured")
	}
	table.Flush()
	b.Logf("parts of the whole job's cost\n%s", text.String())
	metrics(b, all)
}

// BenchmarkStoppedHost stops one of three hosts at random moments. It measures the
// makespan ÷ what the other two alone take for the whole job, on a perfect schedule and
// in the same round.
func BenchmarkStoppedHost(b *testing.B) {
	image, seconds := imageOfThree(b)
	all := map[string][]float64{}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "stopped at\tmakespan, s\tothers alone, s\tmakespan ÷ others\t÷ perfect others\t")
	perfect := 1 / (1/seconds[1] + 1/seconds[2])
	moments(b, func(at float64) {
		c := start(b, seconds, lab.Line{}, lab.Line{})
		others, err := dist.Run(context.Background(), image.Job, c.devices()[1:], checked{image}, dist.Options{Cost: image.Sampled})
		if err != nil {
			b.Fatal(err)
		}
		alone := others.Makespan.Seconds()
		s := strike(b, c, image, seconds, syscall.SIGSTOP, at)
		all["of-others"] = append(all["of-others"], s.makespan/alone)
		all["of-perfect"] = append(all["of-perfect"], s.makespan/perfect)
		fmt.Fprintf(table, "%.2f\t%.2f\t%.2f\t%.3f\t%.3f\t\n", at, s.makespan, alone, s.makespan/alone, s.makespan/perfect)
	})
	table.Flush()
	b.Log("\n" + text.String())
	metrics(b, all)
}

// imageOfThree returns the image, and how long each of three hosts would take for it.
func imageOfThree(b *testing.B) (*pretend.Image, []float64) {
	b.Helper()
	image, err := pretend.Compute(view)
	if err != nil {
		b.Fatal(err)
	}
	return image, secondsOf([]float64{1, 1, 1}, perfect)
}
