package gpurun

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// noisy returns a kernel whose function in Go is off by up to noise each time, relatively.
func noisy(t *testing.T, noise float64) *Kernel {
	var mu sync.Mutex
	rng := seeded(t)
	return Elementwise("z = x*y", func(p *Part) error {
		mu.Lock()
		defer mu.Unlock()
		x, y, z := Elements[float64](p, "x"), Elements[float64](p, "y"), Elements[float64](p, "z")
		for i := range z {
			z[i] = x[i] * y[i] * (1 + noise*(2*rng.Float64()-1))
		}
		return nil
	})
}

func runNoisy(t *testing.T, eng *Engine, rng *rand.Rand, k *Kernel) error {
	x, y, z := make([]float64, 5000), make([]float64, 5000), make([]float64, 5000)
	for i := range x {
		x[i], y[i] = 1+rng.Float64(), 1+rng.Float64()
	}
	return eng.Run(t.Context(), k, In("x", x), In("y", y), Out("z", z))
}

// TestVerifyTolerance has results differ by less and by more than what is allowed.
func TestVerifyTolerance(t *testing.T) {
	eng, rng := verifying(t, Config{Devices: []string{"cpu"}}), seeded(t)
	for _, c := range []struct {
		noise     float64
		tolerance Tolerance
		right     bool
	}{
		{0, Tolerance{}, true},
		{1e-9, Tolerance{}, false},
		{1e-9, Tolerance{Relative: 1e-8}, true},
		{1e-9, Tolerance{Absolute: 1e-8}, true},
		{1e-3, Tolerance{Relative: 1e-8, Absolute: 1e-8}, false},
	} {
		k := noisy(t, c.noise)
		k.Tolerance = c.tolerance
		err := runNoisy(t, eng, rng, k)
		if c.right && err != nil || !c.right && !errors.Is(err, dist.ErrWrong) {
			t.Errorf("noise of %g with %+v: %v", c.noise, c.tolerance, err)
		}
	}
	err := runNoisy(t, eng, rng, Elementwise("z = x*y", nil))
	if !errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), "Verify") {
		t.Errorf("without a function in Go: %v", err)
	}
}

// TestVerifyFindsDeviceInKernels has a device lie about kernels of users.
func TestVerifyFindsDeviceInKernels(t *testing.T) {
	exact := func(p *Part) error {
		x, z := Elements[int32](p, "x"), Elements[int32](p, "z")
		for i := range z {
			z[i] = 3*x[i] + 1
		}
		return nil
	}
	x, rng := make([]int32, 60_000), seeded(t)
	for i := range x {
		x[i] = rng.Int32()
	}
	for _, rows := range []bool{false, true} {
		eng := verifying(t, Config{Devices: []string{"cpu"}})
		d := newLiar(t, eng.spare, "gpu0")
		eng.config.Devices = []string{"cpu", "gpu0"}
		eng.devices = []device.Device{patient{eng.devices[0], eng}, d}
		z := make([]int32, len(x))
		err := eng.Run(t.Context(), &Kernel{CPU: exact, WholeRows: rows}, In("x", x), Out("z", z), Size(300, 200))
		if err != nil {
			t.Fatal(err)
		}
		for i := range z {
			if z[i] != 3*x[i]+1 {
				t.Fatalf("element %d is wrong", i)
			}
		}
		namesLiar(t, "gpu0")(eng.Report())
	}
}

// TestVerifyReduce verifies sums of each block.
func TestVerifyReduce(t *testing.T) {
	eng := verifying(t, Config{Devices: []string{"cpu"}})
	eng.config.Verify = 0.1
	sum := &Reduction[float32]{Neutral: "0", Map: "x", Reduce: "a + b", CPU: &ReductionCPU[float32]{
		Map:    func(p *Part, to []float32) error { copy(to, Elements[float32](p, "x")); return nil },
		Reduce: func(a, b float32) float32 { return a + b },
	}}
	x := make([]float32, 1_000_000)
	for i := range x {
		x[i] = 0.5
	}
	if got, err := Reduce(t.Context(), eng, sum, In("x", x)); err != nil || got != 500_000 {
		t.Errorf("%g, %v", got, err)
	}
}

func TestNear(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	ten := kernels.Tolerance{Relative: 0.1}
	for _, c := range []struct {
		x, y      float64
		tolerance kernels.Tolerance
		near      bool
	}{
		{1, 1.05, ten, true}, {1.05, 1, ten, true}, {1, 1.2, ten, false}, {-1, 1, ten, false}, {0, 1e-300, ten, false},
		{0, 1e-300, kernels.Tolerance{Absolute: 1e-200}, true}, {0, math.Copysign(0, -1), ten, true}, {0, math.Copysign(0, -1), kernels.Tolerance{}, false},
		{inf, math.MaxFloat64, ten, false}, {inf, -inf, ten, false}, {nan, nan, kernels.Tolerance{}, true}, {nan, 1, ten, false}, {1, nan, ten, false},
	} {
		if got := near(c.x, c.y, true, c.tolerance); got != c.near {
			t.Errorf("%g and %g with %+v: %v", c.x, c.y, c.tolerance, got)
		}
	}
}

// TestRandomRows checks that parts are whole rows where they have to be.
func TestRandomRows(t *testing.T) {
	tile := kernels.Tile{X: 0, Y: 5, W: 40, H: 6}
	for _, share := range []float64{0.001, 0.3, 1} {
		for _, p := range randomParts(tile, share, true) {
			if p.X != 0 || p.W != tile.W || !tile.Contains(p) {
				t.Errorf("part %v of %v", p, tile)
			}
		}
	}
}
