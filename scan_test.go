package gpurun_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/gpurun/gpurun"
)

// runningSum is a scan of x·a, with the place of each.
func runningSum[T gpurun.Number]() *gpurun.Reduction[T] {
	return &gpurun.Reduction[T]{Neutral: "0", Map: "x*scale + i%3", Reduce: "a + b", CPU: &gpurun.ReductionCPU[T]{
		Map: func(p *gpurun.Part, to []T) error {
			x, a := gpurun.Elements[T](p, "x"), gpurun.ValueOf[T](p, "scale")
			first, _, _, _ := p.Bounds()
			for k := range to {
				to[k] = T(x[k]*a) + T((first+k)%3)
			}
			return nil
		},
		Reduce: func(a, b T) T { return a + b },
	}}
}

// TestScan compares integers with a loop, and floats of all devices with those of the first.
func TestScan(t *testing.T) {
	rng := randomSource(t)
	lengths := []int{0, 1, 2, 255, 256, 257, 511, 512, 65_536, 65_537, 200_000 + rng.IntN(1000)}
	floats := map[int][]float32{}
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			eng := open(t, config)
			for _, n := range lengths {
				testScanInts(t, eng, rng, n)
				x := make([]float32, n)
				same := rand.New(rand.NewPCG(1, uint64(n)))
				for i := range x {
					x[i] = float32(same.NormFloat64())
				}
				to := make([]float32, n)
				if err := gpurun.Scan(t.Context(), eng, runningSum[float32](), to, gpurun.In("x", x), gpurun.Value("scale", float32(0.3))); err != nil {
					t.Fatal(err)
				}
				if first, ok := floats[n]; !ok {
					floats[n] = to
				} else {
					for i := range to {
						if to[i] != first[i] {
							t.Fatalf("element %d of %d is %g here and %g elsewhere", i, n, to[i], first[i])
						}
					}
				}
			}
		})
	}
}

func testScanInts(t *testing.T, eng *gpurun.Engine, rng *rand.Rand, n int) {
	t.Helper()
	x, to := randomSlice[int64](rng, n), make([]int64, n)
	if err := gpurun.Scan(t.Context(), eng, runningSum[int64](), to, gpurun.In("x", x), gpurun.Value("scale", int64(7))); err != nil {
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
	empty := *r
	empty.Reduce = ""
	if err := gpurun.Scan(t.Context(), eng, &empty, make([]int64, 1000), gpurun.In("x", x)); !errors.Is(err, gpurun.ErrKernel) {
		t.Errorf("without Reduce: %v", err)
	}
}
