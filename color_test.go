package gpurun

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestColors compares colours with their definition: for magnitudes and counts of all
// sizes, and where the next colour begins.
func TestColors(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p, err := NewPalette(Palettes()[0])
	if err != nil {
		t.Fatal(err)
	}
	const pixels = 100000
	told := 0
	for _, radius := range []float64{2, 2.5, 256, 1e9} {
		f := newField(View{Width: pixels, EscapeRadius: radius}, 1)
		for i := range f.Counts {
			f.Counts[i] = uint32(math.Exp(random.Float64() * 21.48))
			f.Magnitudes[i] = float32(radius * radius * math.Exp(random.ExpFloat64()*4))
			if i%3 == 0 {
				f.Magnitudes[i] = nextColor(f, i)
			}
		}
		f.Counts[0], f.Magnitudes[1], f.Magnitudes[2] = 0, float32(math.Inf(1)), math.MaxFloat32
		for i, n := range f.Counts {
			want := p.Inside()
			if n > 0 {
				want = p.Color(f.Smooth(i))
			}
			if got := f.color(p, i); got != want {
				t.Errorf("radius %g: count %d with magnitude %g is %v, want %v", radius, n, f.Magnitudes[i], got, want)
			}
			if _, ok := f.place.of(n, f.Magnitudes[i]); ok {
				told++
			}
		}
	}
	if told < 2*pixels {
		t.Errorf("the approximation told %d of %d", told, 4*pixels)
	}
}

// nextColor returns the magnitude of pixel i, moved to about where the next colour begins.
func nextColor(f *Field, i int) float32 {
	place := math.Ceil(math.Log2(1+f.Smooth(i)) * perOctave)
	nu := float64(f.Counts[i]) + 2 - math.Exp2(place/perOctave)
	moved := float32(math.Exp2(math.Exp2(nu) * f.logR2 / math.Ln2))
	if !(moved >= 4 && moved < math.MaxFloat32) {
		return f.Magnitudes[i]
	}
	return moved
}

func TestApproximateLog2(t *testing.T) {
	const seed = 8
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 1000000 {
		x := math.Exp(random.Float64()*1400 - 700)
		if got, want := approximateLog2(x), math.Log2(x); math.Abs(got-want) > 1e-8 {
			t.Fatalf("log2 %g is %.17g, want %.17g", x, got, want)
		}
	}
}

func BenchmarkRGB(b *testing.B) {
	v := DefaultView()
	f := newField(v, v.Height)
	for i := range f.Counts {
		f.Counts[i], f.Magnitudes[i] = uint32(i%100+1), 65536+float32(i)*100
	}
	p, err := NewPalette(Palettes()[0])
	if err != nil {
		b.Fatal(err)
	}
	into := make([]byte, 3*len(f.Counts))
	b.SetBytes(int64(len(into)))
	for b.Loop() {
		f.RGB(into, p, 0, v.Height)
	}
}
