package gpurun_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// This file checks the promise: the same bits from every device and any tiles.
// The oracle is the definition of the image in docs/arithmetic.md, written down
// once more, line by line. Its float32 operations go through math/big, so that
// it shares nothing with the kernels.

// arithmetic is the operations of a type, on values that float64 holds exactly.
type arithmetic struct {
	round func(float64) float64
	fma   func(x, y, z float64) float64
	mul   func(x, y float64) float64
	add   func(x, y float64) float64
}

func exactly(prec uint, op func(z *big.Float) *big.Float) *big.Float {
	return op(new(big.Float).SetPrec(prec).SetMode(big.ToNearestEven))
}

func toFloat32(z *big.Float) float64 {
	f, _ := z.Float32()
	return float64(f)
}

var arithmetics = map[gpurun.Precision]arithmetic{
	gpurun.Float64: {
		round: func(x float64) float64 { return x },
		fma:   math.FMA,
		mul:   func(x, y float64) float64 { return x * y },
		add:   func(x, y float64) float64 { return x + y },
	},
	gpurun.Float32: {
		round: func(x float64) float64 { return toFloat32(big.NewFloat(x)) },
		fma: func(x, y, z float64) float64 {
			if special(x) || special(y) || special(z) {
				return x*y + z
			}
			p := exactly(200, func(r *big.Float) *big.Float { return r.Mul(big.NewFloat(x), big.NewFloat(y)) })
			return toFloat32(exactly(2000, func(r *big.Float) *big.Float { return r.Add(p, big.NewFloat(z)) }))
		},
		// One operation in float64 and one rounding to float32 is right: 53 ≥ 2·24+2.
		mul: func(x, y float64) float64 { return float64(float32(x * y)) },
		add: func(x, y float64) float64 { return float64(float32(x + y)) },
	},
}

func special(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }

// contract computes pixel (i, j) of v, straight from the definition.
func contract(v gpurun.View, a arithmetic, i, j int) (count uint32, magnitude float32) {
	w, h := float64(v.Width), float64(v.Height)
	step := v.Span / w
	px := a.round(math.FMA(float64(i)+0.5-w/2, step, real(v.Center)))
	py := a.round(math.FMA(h/2-0.5-float64(j), step, imag(v.Center)))
	cx, cy, x, y := px, py, 0.0, 0.0
	if v.Julia != nil {
		cx, cy, x, y = a.round(real(*v.Julia)), a.round(imag(*v.Julia)), px, py
	} else {
		yy := a.mul(cy, cy)
		p := a.add(cx, -0.25)
		q := a.fma(p, p, yy)
		if a.mul(q, a.add(q, p)) <= a.mul(0.25, yy) {
			return 0, 0
		}
		if d := a.add(cx, 1); a.fma(d, d, yy) <= 0.0625 {
			return 0, 0
		}
	}
	limit := a.round(v.EscapeRadius * v.EscapeRadius)
	for n := 1; n <= v.MaxIter; n++ {
		t := a.fma(-y, y, cx)
		x, y = a.fma(x, x, t), a.fma(a.add(x, x), y, cy)
		if r2 := a.fma(x, x, a.mul(y, y)); r2 > limit {
			return uint32(n), float32(r2)
		}
	}
	return 0, 0
}

func julia(re, im float64) *complex128 {
	c := complex(re, im)
	return &c
}

var bitsViews = map[string]gpurun.View{
	"1x1":         {Center: -0.5, Span: 3, Width: 1, Height: 1, MaxIter: 300, EscapeRadius: 2},
	"7x3":         {Center: -0.5, Span: 3, Width: 7, Height: 3, MaxIter: 300, EscapeRadius: 256},
	"full":        {Center: -0.5, Span: 3, Width: 85, Height: 57, MaxIter: 120, EscapeRadius: 256},
	"full R=2":    {Center: -0.5, Span: 3, Width: 85, Height: 57, MaxIter: 120, EscapeRadius: 2},
	"seahorse":    {Center: complex(-0.7463, 0.1102), Span: 0.005, Width: 39, Height: 25, MaxIter: 300, EscapeRadius: 2},
	"real axis":   {Center: -1.4, Span: 1.2, Width: 129, Height: 3, MaxIter: 300, EscapeRadius: 256},
	"tip":         {Center: -2, Span: 1e-6, Width: 33, Height: 9, MaxIter: 200, EscapeRadius: 2},
	"inside":      {Center: complex(-0.1, 0.1), Span: 0.1, Width: 33, Height: 9, MaxIter: 500, EscapeRadius: 2},
	"bulb":        {Center: complex(-0.1225, 0.7449), Span: 0.01, Width: 17, Height: 5, MaxIter: 200, EscapeRadius: 256},
	"outside":     {Center: complex(3, 3), Span: 1, Width: 65, Height: 21, MaxIter: 500, EscapeRadius: 256},
	"f32's limit": {Center: complex(-0.7463, 0.1102), Span: 2e-6, Width: 33, Height: 21, MaxIter: 200, EscapeRadius: 256},
	"f64's limit": {Center: complex(-0.743643887037151, 0.13182590420533), Span: 4e-15, Width: 33, Height: 21, MaxIter: 150, EscapeRadius: 256},
	"Julia":       {Center: 0, Span: 3, Width: 65, Height: 43, MaxIter: 100, EscapeRadius: 256, Julia: julia(-0.8, 0.156)},
	"Julia R=2":   {Center: 0, Span: 3, Width: 65, Height: 43, MaxIter: 100, EscapeRadius: 2, Julia: julia(0.285, 0.01)},
}

func oracle(v gpurun.View) (counts []uint32, magnitudes []float32) {
	counts, magnitudes = make([]uint32, v.Width*v.Height), make([]float32, v.Width*v.Height)
	a := arithmetics[v.Precision]
	var wg sync.WaitGroup
	for k := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := k; j < v.Height; j += runtime.GOMAXPROCS(0) {
				for i := range v.Width {
					counts[j*v.Width+i], magnitudes[j*v.Width+i] = contract(v, a, i, j)
				}
			}
		})
	}
	wg.Wait()
	return counts, magnitudes
}

// TestBits computes every view in both types, with every variant of the CPU
// kernels, on OpenCL, on both at once, and in various tiles.
func TestBits(t *testing.T) {
	configs := bitsConfigs(t)
	for name, view := range bitsViews {
		for _, p := range []gpurun.Precision{gpurun.Float32, gpurun.Float64} {
			v := view
			v.Precision = p
			counts, magnitudes := oracle(v)
			for _, c := range configs {
				t.Run(fmt.Sprintf("%s/%v/%s", name, p, c.name), func(t *testing.T) {
					t.Setenv("GPURUN_CPU", c.cpu)
					eng := open(t, &c.config)
					f, err := eng.Mandelbrot(t.Context(), v)
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(f.Counts, counts) {
						t.Errorf("the counts differ from the definition in %d of %d pixels", differ(f.Counts, counts), len(counts))
					}
					if !slices.Equal(f.Magnitudes, magnitudes) {
						t.Errorf("the magnitudes differ from the definition in %d of %d pixels", differ(f.Magnitudes, magnitudes), len(counts))
					}
				})
			}
		}
	}
}

func differ[T comparable](a, b []T) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

type bitsConfig struct {
	name   string
	cpu    string // GPURUN_CPU
	config gpurun.Config
}

func bitsConfigs(t *testing.T) []bitsConfig {
	configs := []bitsConfig{
		{"cpu", "", gpurun.Config{Devices: []string{"cpu"}}},
		{"generic", "generic", gpurun.Config{Devices: []string{"cpu"}}},
		{"7 tiles", "", gpurun.Config{Devices: []string{"cpu"}, Tiles: 7}},
		{"500 tiles", "", gpurun.Config{Devices: []string{"cpu"}, Tiles: 500}},
		{"all", "", gpurun.Config{Devices: []string{"all"}}},
	}
	if cpuInfo(t).Driver == "avx512" {
		configs = append(configs, bitsConfig{"avx2", "avx2", gpurun.Config{Devices: []string{"cpu"}}})
	}
	if hasOpenCL(t) {
		configs = append(configs,
			bitsConfig{"opencl", "", gpurun.Config{Devices: []string{"opencl"}}},
			bitsConfig{"cpu and opencl", "", gpurun.Config{Devices: []string{"cpu", "opencl"}, Tiles: 20}},
			bitsConfig{"opencl in 64 KiB", "", gpurun.Config{Devices: []string{"opencl"}, Memory: 64 << 10}},
		)
	}
	return configs
}

func cpuInfo(t *testing.T) gpurun.Device {
	t.Helper()
	devices, err := gpurun.AllDevices()
	if len(devices) == 0 {
		t.Fatalf("there is no device: %v", err)
	}
	return devices[0]
}

// hasOpenCL reports whether there is an OpenCL device. Where there must be one
// the test fails instead.
func hasOpenCL(t *testing.T) bool {
	devices, _ := gpurun.AllDevices()
	if slices.ContainsFunc(devices, func(d gpurun.Device) bool { return strings.HasPrefix(d.ID, "ocl:") }) {
		return true
	}
	t.Run("opencl", func(t *testing.T) { testenv.Missing(t, "opencl", "there is no OpenCL device here") })
	return false
}

// open returns an engine that is closed when the test ends.
func open(t *testing.T, config *gpurun.Config) *gpurun.Engine {
	t.Helper()
	eng, err := gpurun.Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return eng
}
