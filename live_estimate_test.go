package gpurun

import (
	"math"
	"testing"
)

// TestEstimate checks that the work of a device, estimated while a job goes on, does not
// change by what others do, nor by what is on its way to the sink, also where a fifth
// was done in an earlier run.
func TestEstimate(t *testing.T) {
	for _, job := range []string{"mandelbrot", "matmul"} {
		for _, before := range []float64{0, 0.2} {
			for _, other := range []float64{0, 0.1, 0.5} {
				for _, stored := range []float64{0.5, 1} {
					done := before + stored*(0.25+other)*(1-before)
					r := &Report{Job: job, Done: done, Resumed: before / done, Devices: []DeviceReport{
						{ID: "a", Share: 0.25, BusySeconds: 2}, {ID: "b", Share: other, BusySeconds: 3},
					}}
					const work = 1e12
					r.estimate(work)
					a, b := r.Devices[0].Rate*2, r.Devices[1].Rate*3
					if want := 0.25 * (1 - before) * work; math.Abs(a-want) > 1e-6*want {
						t.Errorf("%s, %g before, %g by the other: %g, want %g", job, before, other, a, want)
					}
					if want := other * (1 - before) * work; math.Abs(b-want) > 1e-6*max(want, 1) {
						t.Errorf("%s, %g before, %g by the other: it has %g, want %g", job, before, other, b, want)
					}
				}
			}
		}
	}
}
