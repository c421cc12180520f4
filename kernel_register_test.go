package gpurun_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
)

// polynomial is registered, and has no OpenCL C.
var polynomial = (&gpurun.Kernel{CPU: func(p *gpurun.Part) error {
	a, x, z := gpurun.ValueOf[int64](p, "a"), gpurun.Elements[int64](p, "x"), gpurun.Elements[int64](p, "z")
	for i := range z {
		z[i] = (a*x[i]+1)*x[i] - 7
	}
	return nil
}}).Register("test/polynomial")

// weighted is a reduction that is registered.
var weighted = (&gpurun.Reduction[int64]{
	Neutral: "0", Map: "x * i", Reduce: "a + b",
	CPU: &gpurun.ReductionCPU[int64]{
		Map: func(p *gpurun.Part, to []int64) error {
			first, _, _, _ := p.Bounds()
			for i, x := range gpurun.Elements[int64](p, "x") {
				to[i] = x * int64(first+i)
			}
			return nil
		},
		Reduce: func(a, b int64) int64 { return a + b },
	},
}).Register("test/weighted")

// TestRegistered has CPUs of hosts run kernels by their functions in Go.
func TestRegistered(t *testing.T) {
	rng := randomSource(t)
	hosts, _ := startHosts(t, cpuHost(), cpuHost())
	for _, devices := range []string{"none", "cpu"} {
		eng := open(t, &gpurun.Config{Devices: []string{devices}, Hosts: hosts, Tiles: 30})
		for _, n := range []int{1, 5000, 300_000} {
			x, z := randomSlice[int64](rng, n), make([]int64, n)
			err := eng.Run(t.Context(), polynomial, gpurun.Value("a", int64(3)), gpurun.In("x", x), gpurun.Out("z", z))
			if err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			for i, x := range x {
				if z[i] != (3*x+1)*x-7 {
					t.Fatalf("element %d of %d is %d", i, n, z[i])
				}
				want += x * int64(i)
			}
			sum, err := gpurun.Reduce(t.Context(), eng, weighted, gpurun.In("x", x))
			if err != nil || sum != want {
				t.Errorf("the sum of %d is %d, %v; want %d", n, sum, err, want)
			}
		}
		took := func(d gpurun.DeviceReport) bool { return d.Host != "" && d.Tiles > 0 }
		if r := eng.Report(); devices == "none" && !slices.ContainsFunc(r.Devices, took) {
			t.Errorf("no host took part: %+v", r.Devices)
		}
	}
	unknown := gpurun.Kernel{CPU: polynomial.CPU}
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: hosts})
	one := []int64{1}
	err := eng.Run(t.Context(), &unknown, gpurun.Value("a", int64(3)), gpurun.In("x", one), gpurun.Out("z", make([]int64, 1)))
	if err == nil || !strings.Contains(err.Error(), "Register") {
		t.Errorf("a kernel that no host knows: %v", err)
	}
}

func TestRegisterPanics(t *testing.T) {
	for what, register := range map[string]func(){
		"without a function": func() { gpurun.Elementwise("z = x", nil).Register("test/none") },
		"twice":              func() { (&gpurun.Kernel{CPU: polynomial.CPU}).Register("test/polynomial") },
		"of two lines":       func() { (&gpurun.Kernel{CPU: polynomial.CPU}).Register("test/two\nlines") },
		"not in UTF-8":       func() { (&gpurun.Kernel{CPU: polynomial.CPU}).Register("test/\xff") },
		"a long name":        func() { (&gpurun.Kernel{CPU: polynomial.CPU}).Register(strings.Repeat("x", 257)) },
		"without a name":     func() { (&gpurun.Kernel{CPU: polynomial.CPU}).Register("") },
		"a reduction twice":  func() { (&gpurun.Reduction[int64]{CPU: weighted.CPU}).Register("test/weighted") },
	} {
		t.Run(what, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it was registered")
				}
			}()
			register()
		})
	}
}
