package gpurun_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gpurun/gpurun"
)

// runningSum is a scan of x·at, with the place of each.
func runningSum[T gpurun.Number]() *gpurun.Reduction[T] {
	return &gpurun.Reduction[T]{Neutral: "0", Map: "x*at + i%3", Reduce: "a + b", CPU: &gpurun.ReductionCPU[T]{
		Map: func(p *gpurun.Part, to []T) error {
			x, a := gpurun.Elements[T](p, "x"), gpurun.ValueOf[T](p, "at")
			first, _, _, _ := p.Bounds()
			for k := range to {
				to[k] = T(x[k]*a) + T((first+k)%3)
			}
			return nil
		},
		Reduce: func(a, b T) T { return a + b },
	}}
}

// scanned is what Scan is to make of values, in the order that its documentation has.
func scanned[T gpurun.Number](values []T, neutral T, two func(a, b T) T) (to []T) {
	const block = 256
	var totals []T
	for from := 0; from < len(values); from += block {
		line := slices.Clone(values[from:min(from+block, len(values))])
		totals = append(totals, reduced(line, neutral, two))
		for step := 1; step < block; step *= 2 {
			before := slices.Clone(line)
			for k := step; k < len(line); k++ {
				line[k] = two(before[k-step], before[k])
			}
		}
		to = append(to, line...)
	}
	if len(totals) > 1 {
		offsets := scanned(totals, neutral, two)
		for k := block; k < len(to); k++ {
			to[k] = two(offsets[k/block-1], to[k])
		}
	}
	return to
}

// TestScan compares integers with a running sum, and floats with plain loops, bit for bit.
func TestScan(t *testing.T) {
	rng := randomSource(t)
	lengths := []int{0, 1, 2, 255, 256, 257, 511, 512, 65_536, 65_537, 200_000 + rng.IntN(1000)}
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			eng := open(t, config)
			for _, n := range lengths {
				testScanInts(t, eng, rng, n)
				x, mapped := make([]float32, n), make([]float32, n)
				for i := range x {
					x[i] = float32(rng.NormFloat64())
					mapped[i] = float32(x[i]*float32(0.3)) + float32(i%3)
				}
				to := make([]float32, n)
				if err := gpurun.Scan(t.Context(), eng, runningSum[float32](), to, gpurun.In("x", x), gpurun.Value("at", float32(0.3))); err != nil {
					t.Fatal(err)
				}
				want := scanned(mapped, 0, func(a, b float32) float32 { return a + b })
				for i := range to {
					if math.Float32bits(to[i]) != math.Float32bits(want[i]) {
						t.Fatalf("element %d of %d is %g, want %g", i, n, to[i], want[i])
					}
				}
				most := n
				if n >= 256 {
					most = n / 256 * 256
				}
				if r := eng.Report(); n > 0 && r.Elements != int64(most) {
					t.Errorf("the report of a scan of %d elements is of %d", n, r.Elements)
				}
			}
		})
	}
}

func testScanInts(t *testing.T, eng *gpurun.Engine, rng *rand.Rand, n int) {
	t.Helper()
	x, to := randomSlice[int64](rng, n), make([]int64, n)
	if err := gpurun.Scan(t.Context(), eng, runningSum[int64](), to, gpurun.In("x", x), gpurun.Value("at", int64(7))); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for i := range x {
		if sum += 7*x[i] + int64(i%3); to[i] != sum {
			t.Fatalf("element %d of %d is %d, want %d", i, n, to[i], sum)
		}
	}
}

// TestScanOfMaxima has an operation whose neutral element is not zero.
func TestScanOfMaxima(t *testing.T) {
	rng := randomSource(t)
	largest := &gpurun.Reduction[int32]{Neutral: "INT_MIN", Map: "x", Reduce: "max(a, b)", CPU: &gpurun.ReductionCPU[int32]{
		Neutral: -1 << 31,
		Map:     func(p *gpurun.Part, to []int32) error { copy(to, gpurun.Elements[int32](p, "x")); return nil },
		Reduce:  func(a, b int32) int32 { return max(a, b) },
	}}
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			eng := open(t, config)
			x := make([]int32, 70_000)
			for i := range x {
				x[i] = -1 - rng.Int32()
			}
			to := make([]int32, len(x))
			if err := gpurun.Scan(t.Context(), eng, largest, to, gpurun.In("x", x)); err != nil {
				t.Fatal(err)
			}
			most := x[0]
			for i := range x {
				if most = max(most, x[i]); to[i] != most {
					t.Fatalf("element %d is %d, want %d", i, to[i], most)
				}
			}
		})
	}
}

func TestScanMistakes(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	x := make([]int64, 1000)
	r := runningSum[int64]()
	if err := gpurun.Scan(t.Context(), eng, r, make([]int64, 999), gpurun.In("x", x)); !errors.Is(err, gpurun.ErrKernel) {
		t.Errorf("too little room: %v", err)
	}
	if err := gpurun.Scan(t.Context(), eng, r, x, gpurun.In("x", x)); !errors.Is(err, gpurun.ErrOverlap) {
		t.Errorf("in place: %v", err)
	}
	if err := gpurun.Scan(t.Context(), eng, r, x); !errors.Is(err, gpurun.ErrKernel) {
		t.Errorf("of nothing: %v", err)
	}
	for name, arg := range map[string]gpurun.Argument{
		"a file": gpurun.WholeFile("table", filepath.Join(t.TempDir(), "table.npy")), "a text": gpurun.Text("table", "2"),
		"a name of the kernel's own": gpurun.Value("tile_w", int64(2)),
	} {
		if err := gpurun.Scan(t.Context(), eng, r, make([]int64, 1000), gpurun.In("x", x), gpurun.Value("at", int64(1)), arg); !errors.Is(err, gpurun.ErrKernel) {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty := *r
	empty.Reduce = ""
	if err := gpurun.Scan(t.Context(), eng, &empty, make([]int64, 1000), gpurun.In("x", x)); !errors.Is(err, gpurun.ErrKernel) {
		t.Errorf("without Reduce: %v", err)
	}
}
