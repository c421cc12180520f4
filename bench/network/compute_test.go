//go:build linux

package network

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/kernels"
)

// perfect is how long a perfect schedule of a job takes, in seconds.
const perfect = 2.5

// BenchmarkCompute measures the utilisation of devices of different rates: what
// a perfect schedule takes ÷ the makespan. Beside it stands that of the same
// devices in this process, which is what the queue reaches without a network.
func BenchmarkCompute(b *testing.B) {
	b.Run("lossy", func(b *testing.B) { compute(b, lossy, lab.Line{}) })
	b.Run("100Mbit", func(b *testing.B) { compute(b, thin, thin) })
}

func compute(b *testing.B, line, own lab.Line) {
	seconds := secondsOf([]float64{1, 1, 2, 4}, perfect)
	c := start(b, seconds, line, own)
	image, err := pretend.Compute(view)
	if err != nil {
		b.Fatal(err)
	}
	measures := []struct {
		name    string
		devices []dist.Device
	}{{"utilisation", c.devices()}, {"local-utilisation", nil}}
	for i, s := range seconds {
		device := &pretend.Sleeper{Name: strconv.Itoa(i), Image: image, Rate: image.Total / s}
		measures[1].devices = append(measures[1].devices, device)
	}
	all := map[string][]float64{}
	for b.Loop() {
		for range *rounds {
			for _, m := range measures {
				report, err := dist.Run(context.Background(), image.Job, m.devices, checked{image}, dist.Options{Cost: image.Sampled})
				if err != nil {
					b.Fatal(err)
				}
				all[m.name] = append(all[m.name], perfect/report.Makespan.Seconds())
			}
		}
	}
	b.Logf("4 workers, %+v, %s: utilisation %.3f (median of %.3f), without a network %.3f",
		line, c.congestionControl(b), median(all["utilisation"]), all["utilisation"], median(all["local-utilisation"]))
	metrics(b, all)
}

// secondsOf returns how long devices of the given rates each take for a job for
// which they take so many seconds together.
func secondsOf(rates []float64, together float64) (seconds []float64) {
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	for _, r := range rates {
		seconds = append(seconds, together*sum/r)
	}
	return seconds
}

// checked is a sink that keeps nothing, and takes only what is right.
type checked struct{ image *pretend.Image }

func (c checked) Put(t kernels.Tile, r *kernels.Result) error {
	want := kernels.NewResult(c.image.Job, t)
	c.image.Result(t, want)
	for i, plane := range want.Planes {
		if !bytes.Equal(plane, r.Planes[i]) {
			return fmt.Errorf("plane %d differs", i)
		}
	}
	return nil
}
