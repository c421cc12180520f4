package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/gpurun/gpurun"
)

func liveReport() *gpurun.Report {
	return &gpurun.Report{Job: "mandelbrot", Devices: []gpurun.DeviceReport{
		{ID: "cpu", State: "working", Tiles: 120, InFlight: 2, Share: 0.5},
		{ID: "ocl:0.0", Host: "gpu1:9473", State: "set aside", Tiles: 7, Share: 0.125, BytesIn: 1 << 20, BytesOut: 3 << 30, SetAside: "gpu1:9473/ocl:0.0: computing tile 8×8+0+0: out\nof\x1b[2J memory"},
		{ID: "cpu", Host: "計算機:1", State: "idle", Tiles: 1000, Share: 0.375, BytesOut: 10, LastError: "計算機:1/cpu: computing tile 8×8+8+0: no answer came in time"},
	}}
}

var liveRates = map[string]float64{"cpu": 1.234e9, "計算機:1/cpu": 999.96e6}

// TestLiveLines compares tables, on terminals of several sizes, with what they should be.
func TestLiveLines(t *testing.T) {
	for name, test := range map[string]struct {
		width, height int
		want          string
	}{
		"wide": {200, 24, `
device             state      tiles  leases          rate  share       in      out  last error
cpu                working      120       2  1.23 Giter/s   50 %      0 B      0 B
gpu1:9473/ocl:0.0  set aside      7       0   0.00 iter/s   12 %  1.0 MiB  3.0 GiB  computing tile 8×8+0+0: out of[2J memory
計算機:1/cpu       idle        1000       0  1.00 Giter/s   38 %      0 B     10 B  computing tile 8×8+8+0: no answer came in time
`},
		"narrow": {100, 24, `
device             state      tiles  leases          rate  share       in      out  last error
cpu                working      120       2  1.23 Giter/s   50 %      0 B      0 B
gpu1:9473/ocl:0.0  set aside      7       0   0.00 iter/s   12 %  1.0 MiB  3.0 GiB  computing tile…
計算機:1/cpu       idle        1000       0  1.00 Giter/s   38 %      0 B     10 B  computing tile…
`},
		"very narrow": {13, 24, `
device     …
cpu        …
gpu1:9473/o…
計算機:1/cp…
`},
		"low": {200, 5, `
device  state    tiles  leases          rate  share   in  out  last error
cpu     working    120       2  1.23 Giter/s   50 %  0 B  0 B
… and 2 more
`},
		"too low": {200, 3, ""},
	} {
		lines := liveTable{liveReport(), liveRates, test.width, test.height}.lines()
		got := strings.Join(lines, "\n")
		if got != strings.TrimSpace(test.want) {
			t.Errorf("%s:\n%s\nwant%s", name, got, test.want)
		}
		for _, line := range lines {
			if w := runewidth.StringWidth(line); w >= test.width {
				t.Errorf("%s: a line of %d columns: %s", name, w, line)
			}
		}
		if len(lines)+otherLines > test.height {
			t.Errorf("%s: %d lines", name, len(lines))
		}
	}
	one := liveReport()
	one.Devices = one.Devices[:1]
	if lines := (liveTable{one, liveRates, 80, 24}).lines(); lines != nil {
		t.Errorf("of one device: %q", lines)
	}
	product := liveReport()
	product.Job = "matmul"
	if lines := (liveTable{product, liveRates, 200, 24}).lines(); !strings.Contains(lines[1], " 1.23 GFLOP/s ") {
		t.Errorf("of a product: %q", lines)
	}
}

func TestSI(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0.00 x", 1: "1.00 x", 9.994: "9.99 x", 9.996: "10.0 x", 99.96: "100 x", 999.4: "999 x", 999.6: "1.00 kx", 12345: "12.3 kx",
		1e9: "1.00 Gx", 5e12: "5.00 Tx", 1e15: "1.00 Px", 2e18: "2 Ex", math.MaxFloat64: "1.8e+290 Ex",
	} {
		if got := si(x, "x"); got != want {
			t.Errorf("%g is %q, want %q", x, got, want)
		}
	}
}

// TestRates has a device do 100 a second for 3 s, and then nothing, with a look every
// 200 ms; and what it has done be taken back.
func TestRates(t *testing.T) {
	var s rates
	begin := time.Unix(1000, 0)
	var got []float64
	for i := range 51 {
		at := time.Duration(i) * 200 * time.Millisecond
		done := 100 * min(at, 3*time.Second).Seconds()
		r := &gpurun.Report{Devices: []gpurun.DeviceReport{{ID: "d", Rate: 2 * done, BusySeconds: 0.5}}}
		got = append(got, math.Round(s.add(r, begin.Add(at))["d"]*1000)/1000)
	}
	// At 1 s, 3 s, 6 s (of which the last 5 have 2 s of work), 8 s and 10 s.
	if looked := []float64{got[0], got[5], got[15], got[30], got[40], got[50]}; !slices.Equal(looked, []float64{0, 100, 100, 40, 0, 0}) {
		t.Errorf("the rates are %v", looked)
	}
	if len(s.seen) > 27 {
		t.Errorf("%d reports are kept", len(s.seen))
	}
	s.add(&gpurun.Report{Devices: []gpurun.DeviceReport{{ID: "d", Rate: 1000, BusySeconds: 1}}}, begin.Add(11*time.Second))
	less := &gpurun.Report{Devices: []gpurun.DeviceReport{{ID: "d", Rate: 1, BusySeconds: 0.5}}}
	if r := s.add(less, begin.Add(12*time.Second))["d"]; r != 0 {
		t.Errorf("what was taken back is a rate of %g", r)
	}
}
