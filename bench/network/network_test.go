//go:build linux

package network

import (
	"context"
	"testing"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/lab"
)

// TestWorkers has workers do little of all that the benchmarks have them do, over
// the worst lines. Nothing is measured.
func TestWorkers(t *testing.T) {
	c := start(t, []float64{0, 0}, lab.Line{Delay: lossy.Delay, Loss: lossy.Loss, Rate: thin.Rate}, thin)
	c.results(t, 4)
	c.bytes(t, 1<<20)

	image, err := pretend.Compute(view)
	if err != nil {
		t.Fatal(err)
	}
	c = start(t, []float64{0.2, 0.4}, lossy, lab.Line{})
	sink := &meter{checked: checked{image}}
	if _, err := dist.Run(context.Background(), image.Job, c.devices(), sink, dist.Options{Cost: image.Sampled}); err != nil {
		t.Fatal(err)
	}
	if left := sink.left(); left > image.Total/1e6 {
		t.Errorf("of a cost of %g %g is missing", image.Total, left)
	}
}
