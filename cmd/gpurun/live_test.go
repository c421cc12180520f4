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

var liveAges = map[string]time.Duration{"計算機:1/cpu": 62800 * time.Millisecond}

// TestLiveLines compares tables, on terminals of several sizes, with what they should be.
func TestLiveLines(t *testing.T) {
	for name, test := range map[string]struct {
		width, height int
		want          string
	}{
		"wide": {200, 24, `
device             state      tiles  leases          rate  share       in      out  last error
cpu                working      120       2  1.23 Giter/s   50 %      0 B      0 B
gpu1:9473/ocl:0.0  set aside      7       0      0 iter/s   12 %  1.0 MiB  3.0 GiB  out of[2J memory, tile 8×8+0+0
計算機:1/cpu       idle        1000       0  1.00 Giter/s   38 %      0 B     10 B  no answer came in time, 1m3s ago, tile 8×8+8+0
`},
		"narrow": {100, 24, `
device             state      tiles  leases          rate  share  last error
cpu                working      120       2  1.23 Giter/s   50 %
gpu1:9473/ocl:0.0  set aside      7       0      0 iter/s   12 %  out of[2J memory, tile 8×8+0+0
計算機:1/cpu       idle        1000       0  1.00 Giter/s   38 %  no answer came in time, 1m3s ago…
`},
		"narrower": {80, 24, `
device             state              rate  share  last error
cpu                working    1.23 Giter/s   50 %
gpu1:9473/ocl:0.0  set aside      0 iter/s   12 %  out of[2J memory, tile 8×8+…
計算機:1/cpu       idle       1.00 Giter/s   38 %  no answer came in time, 1m3…
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
		lines := liveTable{liveReport(), liveRates, liveAges, test.width, test.height}.lines()
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
	late := liveReport()
	late.Late, late.Devices[2].Late = 3, 3
	if lines := (liveTable{late, liveRates, nil, 200, 24}).lines(); !strings.Contains(lines[0], "  leases  late  ") || !strings.Contains(lines[3], "       0     3  ") {
		t.Errorf("with results that were late: %q", lines)
	}
	one := liveReport()
	one.Devices = one.Devices[:1]
	if lines := (liveTable{one, liveRates, nil, 80, 24}).lines(); lines != nil {
		t.Errorf("of one device: %q", lines)
	}
	product := liveReport()
	product.Job = "matmul"
	if lines := (liveTable{product, liveRates, nil, 200, 24}).lines(); !strings.Contains(lines[1], " 1.23 GFLOP/s ") {
		t.Errorf("of a product: %q", lines)
	}
}

// TestLastError has the cause come first, of errors as devices and hosts make them.
func TestLastError(t *testing.T) {
	for _, test := range []struct {
		d    gpurun.DeviceReport
		want string
	}{
		{gpurun.DeviceReport{ID: "cpu", Host: "a:1"}, ""},
		{gpurun.DeviceReport{ID: "cpu", Host: "a:1", LastError: "a:1/cpu: computing tile 5×1+0+338: the tile was lost: the host has gone: a:1: the peer has left"}, "the peer has left, 12s ago, tile 5×1+0+338"},
		{gpurun.DeviceReport{ID: "cpu", Host: "b:1", LastError: "b:1/cpu: computing tile 5×1+0+338: no answer came in time"}, "no answer came in time, tile 5×1+0+338"},
		{gpurun.DeviceReport{ID: "cpu", LastError: "cpu: computing tile 5×1+0+338: no answer", SetAside: "in the band from row 8 on: cpu: computing tile 5×1+0+339: out of memory: 3"}, "out of memory: 3, tile 5×1+0+339, band from row 8 on"},
		{gpurun.DeviceReport{ID: "cpu", SetAside: "cpu: preparing: no: driver"}, "preparing: no: driver"},
	} {
		table := liveTable{ages: map[string]time.Duration{"a:1/cpu": 12300 * time.Millisecond}}
		if got := table.lastError(test.d); got != test.want {
			t.Errorf("%+v: %q, want %q", test.d, got, test.want)
		}
	}
}

// TestErrorAges has an error be there, come again, and another take its place.
func TestErrorAges(t *testing.T) {
	var ages errorAges
	begin := time.Unix(1000, 0)
	for i, step := range []struct {
		at       time.Duration
		failures int
		text     string
		want     time.Duration
	}{
		{0, 1, "no", 0}, {3 * time.Second, 1, "no", 3 * time.Second}, {4 * time.Second, 2, "no", 0}, {9 * time.Second, 2, "no", 5 * time.Second}, {10 * time.Second, 2, "never", 0},
	} {
		r := &gpurun.Report{Devices: []gpurun.DeviceReport{{ID: "good"}, {ID: "d", Failures: step.failures, LastError: step.text}}}
		got := ages.add(r, begin.Add(step.at))
		if age, known := got["d"]; !known || age != step.want || len(got) != 1 {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// TestShortened checks that a name keeps both its ends.
func TestShortened(t *testing.T) {
	for _, test := range []struct {
		name string
		most int
		want string
	}{
		{"gpu1:9473/cpu", 13, "gpu1:9473/cpu"},
		{"rack12-node7.cluster.example.org:9473/ocl:0.0", 30, "rack12-node7.cl…g:9473/ocl:0.0"},
		{"計算機計算機計算機:1/cpu", 14, "計算機…:1/cpu"},
	} {
		got := shortened(test.name, test.most)
		if w := runewidth.StringWidth(got); w > test.most {
			t.Errorf("%q has %d columns", got, w)
		}
		if got != test.want {
			t.Errorf("%q in %d columns is %q, want %q", test.name, test.most, got, test.want)
		}
	}
}

// TestRemaining has a job begin with what an earlier run did, go on at 1 % a second, and
// then at 0.1 %.
func TestRemaining(t *testing.T) {
	var r remaining
	begin := time.Unix(1000, 0)
	if _, known := r.add(0, begin); known {
		t.Error("it is known before anything is done")
	}
	done := 0.0
	var left []time.Duration
	for i := range 401 {
		at := time.Duration(i) * 200 * time.Millisecond
		done = 0.5 + 0.01*min(at, 20*time.Second).Seconds() + 0.001*max(0, at-20*time.Second).Seconds()
		l, known := r.add(done, begin.Add(at))
		if known != (at >= time.Second) {
			t.Fatalf("after %v it is known: %v", at, known)
		}
		left = append(left, l)
	}
	// At 10 s, and 60 s later at what is then the speed.
	if left[50] != 40*time.Second || left[400] != 240*time.Second {
		t.Errorf("%v are left after 10 s, %v after 80 s, at %g", left[50], left[400], done)
	}
	if len(r.seen) > 152 {
		t.Errorf("%d looks are kept", len(r.seen))
	}
	if l, known := (&remaining{[]doneAt{{begin, 0.1}}}).add(0.1+1e-15, begin.Add(time.Hour)); known {
		t.Errorf("a job that stands still takes %v", l)
	}
}

func TestSI(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0 x", 1: "1.00 x", 9.994: "9.99 x", 9.996: "10.0 x", 99.96: "100 x", 999.4: "999 x", 999.6: "1.00 kx", 12345: "12.3 kx",
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
