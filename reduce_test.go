package gpurun_test

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
)

// reduced is a Reduction as its documentation has it, in plain loops.
func reduced[T gpurun.Number](values []T, neutral T, two func(a, b T) T) T {
	const block, lanes = 4096, 64
	for first := true; first || len(values) > 1; first = false {
		var partials []T
		for from := 0; from < max(len(values), 1); from += block {
			lane := make([]T, lanes)
			for l := range lanes {
				lane[l] = neutral
				for i := from + l; i < min(from+block, len(values)); i += lanes {
					lane[l] = two(lane[l], values[i])
				}
			}
			for n := lanes / 2; n >= 1; n /= 2 {
				for l := range n {
					lane[l] = two(lane[l], lane[l+n])
				}
			}
			partials = append(partials, lane[0])
		}
		values = partials
	}
	return values[0]
}

// dot is a scalar product with a third factor.
func dot[T float32 | float64]() *gpurun.Reduction[T] {
	return &gpurun.Reduction[T]{Neutral: "0", Map: "fma(x, scale*y, 0)", Reduce: "a + b", CPU: &gpurun.ReductionCPU[T]{
		Map: func(p *gpurun.Part, to []T) error {
			x, y, scale := gpurun.Elements[T](p, "x"), gpurun.Elements[T](p, "y"), gpurun.ValueOf[T](p, "scale")
			for i := range to {
				to[i] = x[i] * T(scale*y[i])
			}
			return nil
		},
		Reduce: func(a, b T) T { return a + b },
	}}
}

func TestReduce(t *testing.T) {
	rng := randomSource(t)
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "little") {
				config.Memory = 256 << 10 // 4096 elements of two arrays, twice
			}
			eng := open(t, config)
			for _, n := range []int{0, 1, 63, 64, 65, 4095, 4096, 4097, 100_000} {
				testDot[float64](t, eng, rng, n)
				testDot[float32](t, eng, rng, n)
			}
		})
	}
}

func testDot[T float32 | float64](t *testing.T, eng *gpurun.Engine, rng *rand.Rand, n int) {
	t.Helper()
	x, y, scale := randomSlice[T](rng, n), randomSlice[T](rng, n), T(0.3)
	got, err := gpurun.Reduce(t.Context(), eng, dot[T](), gpurun.In("x", x), gpurun.In("y", y), gpurun.Value("scale", scale))
	if err != nil {
		t.Fatalf("%d elements: %v", n, err)
	}
	products, exact := make([]T, n), new(big.Float).SetPrec(2000)
	size := 0.0
	for i := range products {
		products[i] = x[i] * T(scale*y[i])
		exact.Add(exact, big.NewFloat(float64(products[i])))
		size += math.Abs(float64(products[i]))
	}
	if want := reduced(products, 0, func(a, b T) T { return a + b }); got != want {
		t.Fatalf("%d elements of %T: %v, want %v", n, got, got, want)
	}
	sum, _ := exact.Float64()
	epsilon := 1.0 / (1 << 23)
	if any(got) == any(float64(got)) {
		epsilon = 1.0 / (1 << 52)
	}
	if math.Abs(float64(got)-sum) > 200*epsilon*size {
		t.Errorf("%d elements of %T: %v is far from %v", n, got, got, sum)
	}
}

// TestReduceIndex has the place of the largest element, of integers and of tables.
func TestReduceIndex(t *testing.T) {
	rng := randomSource(t)
	const n = 50_000
	keys, table := make([]uint8, n), randomSlice[int32](rng, 256)
	for i := range keys {
		keys[i] = uint8(rng.Uint32())
	}
	largest := &gpurun.Reduction[int64]{Neutral: "LONG_MIN", Map: "(((long)table[key]) << 32) + i", Reduce: "max(a, b)", CPU: &gpurun.ReductionCPU[int64]{
		Neutral: math.MinInt64,
		Map: func(p *gpurun.Part, to []int64) error {
			keys, table := gpurun.Elements[uint8](p, "key"), gpurun.Elements[int32](p, "table")
			x, _, _, _ := p.Bounds()
			for i := range to {
				to[i] = int64(table[keys[i]])<<32 + int64(x+i)
			}
			return nil
		},
		Reduce: func(a, b int64) int64 { return max(a, b) },
	}}
	want := int64(math.MinInt64)
	for i, k := range keys {
		want = max(want, int64(table[k])<<32+int64(i))
	}
	for name, config := range kernelConfigs(t) {
		t.Run(name, func(t *testing.T) {
			config.Memory = 0
			got, err := gpurun.Reduce(t.Context(), open(t, config), largest, gpurun.In("key", keys), gpurun.Whole("table", table))
			if err != nil || got != want {
				t.Errorf("got %d, %v, want %d", got, err, want)
			}
		})
	}
}

func TestReduceErrors(t *testing.T) {
	x := make([]float32, 10)
	device := "cpu"
	if hasOpenCL(t) {
		device = "opencl"
	}
	eng := open(t, &gpurun.Config{Devices: []string{device}})
	sum := gpurun.Reduction[float32]{Neutral: "0", Map: "x", Reduce: "a + b"}
	broken := func(change func(*gpurun.Reduction[float32])) *gpurun.Reduction[float32] {
		r := sum
		change(&r)
		return &r
	}
	for name, test := range map[string]struct {
		r    *gpurun.Reduction[float32]
		args []gpurun.Argument
		is   error
		want string
	}{
		"nothing": {&sum, nil, gpurun.ErrKernel, "nothing to reduce"},
		"out":     {&sum, []gpurun.Argument{gpurun.In("x", x), gpurun.Out("y", make([]float32, 10))}, gpurun.ErrKernel, "no use for y"},
		"length":  {&sum, []gpurun.Argument{gpurun.In("x", x), gpurun.In("y", x[1:])}, gpurun.ErrKernel, "y has 9 elements, and x has 10"},
		"name":    {&sum, []gpurun.Argument{gpurun.In("a", x)}, gpurun.ErrKernel, `cannot be called "a"`},
		"empty":   {broken(func(r *gpurun.Reduction[float32]) { r.Map = " " }), []gpurun.Argument{gpurun.In("x", x)}, gpurun.ErrKernel, "no Map"},
		"map":     {broken(func(r *gpurun.Reduction[float32]) { r.Map = "x + nothing" }), []gpurun.Argument{gpurun.In("x", x)}, gpurun.ErrBuild, "line 1: (x + nothing);"},
		"reduce":  {broken(func(r *gpurun.Reduction[float32]) { r.Reduce = "a + c" }), []gpurun.Argument{gpurun.In("x", x)}, gpurun.ErrBuild, "line 1: return (a + c);"},
		"neutral": {broken(func(r *gpurun.Reduction[float32]) { r.Neutral = "none" }), []gpurun.Argument{gpurun.In("x", x)}, gpurun.ErrBuild, "line 1: (none);"},
	} {
		t.Run(name, func(t *testing.T) {
			if device == "cpu" && test.is == gpurun.ErrBuild {
				return // nobody compiles it
			}
			_, err := gpurun.Reduce(t.Context(), eng, test.r, test.args...)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
