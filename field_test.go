package gpurun_test

import (
	"errors"
	"image/color"
	"math"
	"testing"

	"github.com/gpurun/gpurun"
)

func TestImage(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	f, err := eng.Mandelbrot(t.Context(), smallView())
	if err != nil {
		t.Fatal(err)
	}
	p, err := gpurun.NewPalette("classic")
	if err != nil {
		t.Fatal(err)
	}
	img := f.Image(p)
	if b := img.Bounds(); b.Dx() != 60 || b.Dy() != 40 {
		t.Fatalf("the image is %v", b)
	}
	if !img.Opaque() {
		t.Error("the image is not opaque")
	}
	for i, n := range f.Counts {
		got := img.RGBAAt(i%60, i/60)
		if n == 0 && got != p.Inside() || n > 0 && got != p.Color(f.Smooth(i)) {
			t.Fatalf("pixel %d, count %d, is %v", i, n, got)
		}
	}
}

// TestSmooth checks that μ has no jump where the count steps: along a line from
// far outside to the set it grows, without a break.
func TestSmooth(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	f, err := eng.Mandelbrot(t.Context(), gpurun.View{Center: 1.5, Span: 2, Width: 20000, Height: 1, Precision: gpurun.Float64})
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for i := 1; i < 18000; i++ {
		near, far := f.Smooth(i-1), f.Smooth(i)
		if f.Counts[i] != f.Counts[i-1] {
			steps++
		}
		if near < far-1e-6 || near > far+0.01 {
			t.Fatalf("μ goes from %g to %g at pixel %d", near, far, i)
		}
		if math.Abs(far-float64(f.Counts[i])) > 1.001 {
			t.Fatalf("μ is %g where the count is %d", far, f.Counts[i])
		}
	}
	if steps == 0 {
		t.Error("the count never stepped, so nothing was tested")
	}
}

func TestCountsOnly(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	v := smallView()
	v.CountsOnly = true
	f, err := eng.Mandelbrot(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if f.Magnitudes != nil {
		t.Error("there are magnitudes")
	}
	for i, n := range f.Counts {
		if s := f.Smooth(i); n > 0 && s != float64(n) || n == 0 && s != -1 {
			t.Fatalf("μ of count %d is %g", n, s)
		}
	}
}

func TestPalettes(t *testing.T) {
	if _, err := gpurun.NewPalette("no such"); !errors.Is(err, gpurun.ErrPalette) {
		t.Errorf("the error is %v", err)
	}
	seen := map[color.RGBA]string{}
	for _, name := range gpurun.Palettes() {
		p, err := gpurun.NewPalette(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name() != name || p.Inside() != (color.RGBA{A: 255}) {
			t.Errorf("palette %s is called %s, and black is %v", name, p.Name(), p.Inside())
		}
		// No step between neighbouring counts may show.
		last := p.Color(0)
		for mu := 0.0; mu < 1000; mu += 0.01 * (1 + mu) / 10 {
			c := p.Color(mu)
			if c.A != 255 || distance(c, last) > 24 {
				t.Errorf("%s jumps from %v to %v at %g", name, last, c, mu)
			}
			last = c
		}
		for _, odd := range []float64{math.NaN(), math.Inf(1), -1, math.MaxFloat64} {
			p.Color(odd)
		}
		if other, ok := seen[p.Color(7)]; ok {
			t.Errorf("%s and %s look alike", name, other)
		}
		seen[p.Color(7)] = name
	}
}

func distance(a, b color.RGBA) int {
	abs := func(x int) int { return max(x, -x) }
	return abs(int(a.R)-int(b.R)) + abs(int(a.G)-int(b.G)) + abs(int(a.B)-int(b.B))
}
