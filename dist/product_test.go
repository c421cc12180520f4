package dist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
	"github.com/gpurun/gpurun/tiler"
)

// productDevice multiplies. It reads all that a Runner may.
type productDevice struct {
	id    string
	slots int
	grid  tiler.Grid // if it has one
	fault func(ctx context.Context) error
	tiles atomic.Int32
	open  atomic.Int32

	// seen, if not nil, is called with the bytes that the operands of a job have.
	seen func(bytes int64)
}

func (d *productDevice) ID() string { return d.id }
func (d *productDevice) Slots() int { return max(d.slots, 1) }

func (d *productDevice) Begin(_ context.Context, job kernels.Job) (kernels.Runner, error) {
	d.open.Add(1)
	if d.seen != nil {
		switch p := job.(type) {
		case *kernels.MatMul[float32]:
			d.seen(4 * int64(len(p.A)+len(p.B)+len(p.C)))
		case *kernels.MatMul[float64]:
			d.seen(8 * int64(len(p.A)+len(p.B)+len(p.C)))
		}
	}
	if d.grid != (tiler.Grid{}) {
		return griddedRunner{productRunner{d, job}, d.grid}, nil
	}
	return productRunner{d, job}, nil
}

type productRunner struct {
	*productDevice
	job kernels.Job
}

func (r productRunner) Close() error {
	r.open.Add(-1)
	return nil
}

func (r productRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	r.tiles.Add(1)
	if r.fault != nil {
		if err := r.fault(ctx); err != nil {
			return err
		}
	}
	switch job := r.job.(type) {
	case *kernels.MatMul[float32]:
		return runOrStream(job, t, r.grid, out, cpu.Best().Gemm32)
	case *kernels.MatMul[float64]:
		return runOrStream(job, t, r.grid, out, cpu.Best().Gemm64)
	}
	return nil
}

// streamedSteps is how many steps of its operands a device reads at a time.
const streamedSteps = 300

// runOrStream computes t from operands in memory, or a few steps at a time.
func runOrStream[T float32 | float64](job *kernels.MatMul[T], t kernels.Tile, grid tiler.Grid, out *kernels.Result, multiply gemm[T]) error {
	if !job.Streams() {
		runProduct(job, t, grid, out, multiply)
		return nil
	}
	c := kernels.Elements[T](out.Planes[0])
	beta := T(0)
	for k := 0; k < job.K; k += streamedSteps {
		steps := min(streamedSteps, job.K-k)
		a, b := kernels.Tile{X: k, Y: t.Y, W: steps, H: t.H}, kernels.Tile{X: t.X, Y: k, W: t.W, H: steps}
		if job.TransA {
			a = kernels.Tile{X: t.Y, Y: k, W: t.H, H: steps}
		}
		if job.TransB {
			b = kernels.Tile{X: k, Y: t.X, W: steps, H: t.W}
		}
		panelA, panelB := make([]T, a.Area()), make([]T, b.Area())
		if err := errors.Join(job.ReadA(panelA, a), job.ReadB(panelB, b)); err != nil {
			return err
		}
		multiply(job.TransA, job.TransB, t.H, t.W, steps, job.Alpha, panelA, a.W, panelB, b.W, beta, c, t.W, 1, new(atomic.Bool))
		beta = 1
	}
	return nil
}

type gemm[T float32 | float64] func(transA, transB bool, m, n, k int, alpha T, a []T, lda int, b []T, ldb int,
	beta T, c []T, ldc int, threads int, stop *atomic.Bool) bool

// runProduct computes t as a part of the tile of whole steps around it.
func runProduct[T float32 | float64](job *kernels.MatMul[T], t kernels.Tile, grid tiler.Grid, out *kernels.Result, multiply gemm[T]) {
	around := t
	around.X, around.W = widen(t.X, t.W, grid.StepX, job.N)
	around.Y, around.H = widen(t.Y, t.H, grid.StepY, job.M)
	p := *job
	if p.Beta == 0 {
		p.C, p.LDC = nil, p.N
	}
	p = p.Part(around)
	c := make([]T, around.Area())
	for y := range t.H {
		if job.Beta != 0 {
			copy(c[(t.Y-around.Y+y)*around.W+t.X-around.X:][:t.W], job.C[(t.Y+y)*job.LDC+t.X:])
		}
	}
	multiply(p.TransA, p.TransB, p.M, p.N, p.K, p.Alpha, p.A, p.LDA, p.B, p.LDB, p.Beta, c, around.W, 1, new(atomic.Bool))
	for y := range t.H {
		copy(kernels.Elements[T](out.Planes[0])[y*t.W:][:t.W], c[(t.Y-around.Y+y)*around.W+t.X-around.X:])
	}
}

// randomProduct returns a product with strides that are longer than the rows, in which
// there are also numbers that are none.
func randomProduct[T float32 | float64](rng *rand.Rand, m, n, k int) *kernels.MatMul[T] {
	p := &kernels.MatMul[T]{TransA: rng.IntN(2) == 0, TransB: rng.IntN(2) == 0, M: m, N: n, K: k}
	scales := []T{0, 1, -1, 2.5, T(math.Copysign(0, -1))}
	p.Alpha, p.Beta = scales[rng.IntN(len(scales))], scales[rng.IntN(len(scales))]
	spec := specOf(p)
	matrix := func(operand int) ([]T, int) {
		bounds := spec.stored(operand)
		ld := bounds.W + rng.IntN(3)
		x := make([]T, bounds.H*ld)
		for i := range x {
			x[i] = T(rng.NormFloat64())
		}
		if len(x) > 0 && rng.IntN(4) == 0 {
			x[rng.IntN(len(x))] = T([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}[rng.IntN(3)])
		}
		return x, ld
	}
	p.A, p.LDA = matrix(operandA)
	p.B, p.LDB = matrix(operandB)
	p.C, p.LDC = matrix(operandC)
	return p
}

// productOnWhole returns C, computed at once: in plain Go, where that does not take too
// long.
func productOnWhole(job kernels.Job) []byte {
	variant := cpu.Generic
	if float64(job.Bounds().Area())*float64(stepsOf(job)) > 4e6 {
		variant = cpu.Best()
	}
	out := kernels.NewResult(job, job.Bounds())
	switch job := job.(type) {
	case *kernels.MatMul[float32]:
		runProduct(job, job.Bounds(), tiler.Grid{}, out, variant.Gemm32)
	case *kernels.MatMul[float64]:
		runProduct(job, job.Bounds(), tiler.Grid{}, out, variant.Gemm64)
	}
	return out.Planes[0]
}

func stepsOf(job kernels.Job) int {
	spec, _ := productOf(job)
	return spec.K
}

// sameProduct fails the test unless got has the bits of want; any NaN is any NaN.
func sameProduct(t *testing.T, job kernels.Job, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	differ := 0
	if job.DType() == kernels.Float32 {
		differ = differences(kernels.Elements[float32](got), kernels.Elements[float32](want))
	} else {
		differ = differences(kernels.Elements[float64](got), kernels.Elements[float64](want))
	}
	if differ > 0 {
		t.Errorf("%d elements of %v differ", differ, job.Bounds())
	}
}

func differences[T float32 | float64](a, b []T) (n int) {
	for i, x := range a {
		same := x == b[i] && math.Signbit(float64(x)) == math.Signbit(float64(b[i])) || x != x && b[i] != b[i]
		if !same {
			n++
		}
	}
	return n
}

// startProductHost starts a host of devices that multiply.
func startProductHost(t *testing.T, devices ...*productDevice) *testHost {
	t.Helper()
	var others []Device
	for _, d := range devices {
		others = append(others, d)
	}
	h := startHostOf(t, nil, &mandelDevice{id: "image"}, others...)
	t.Cleanup(func() {
		h.stop()
		for _, d := range devices {
			if n := d.open.Load(); n != 0 {
				t.Errorf("%d runners of %s were left open", n, d.id)
			}
		}
		if n := h.operands.taken.Load(); n != 0 {
			t.Errorf("the host keeps %d bytes of operands", n)
		}
	})
	return h
}

// devicesOf returns the devices of a session with h that multiply.
func devicesOf(t *testing.T, h *testHost) []Device {
	t.Helper()
	return h.dial(t, nil).Devices()[1:]
}

// TestProducts compares products on one host and on three, of devices with panels
// and without, with what is computed at once.
func TestProducts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	one := startProductHost(t, &productDevice{id: "p", slots: 2}, &productDevice{id: "q", grid: tiler.Grid{StepX: 24, StepY: 7}})
	two := startProductHost(t, &productDevice{id: "p"})
	three := startProductHost(t, &productDevice{id: "p", grid: tiler.Grid{StepX: 16, StepY: 64}})
	alone := devicesOf(t, one)
	all := append(append(devicesOf(t, one), devicesOf(t, two)...), devicesOf(t, three)...)
	sides := []int{1, 2, 7, 65, 97, 200, 333}
	for range 30 {
		m, n, k := sides[rng.IntN(len(sides))], sides[rng.IntN(len(sides))], append(sides, 0, 5000)[rng.IntN(len(sides)+2)]
		var job kernels.Job = randomProduct[float32](rng, m, n, k)
		if rng.IntN(2) == 0 {
			job = randomProduct[float64](rng, m, n, k)
		}
		want := productOnWhole(job)
		for devices, opts := range map[*[]Device]Options{&alone: {}, &all: {Tiles: 1 + rng.IntN(20)}} {
			sink := newImageSink(job)
			if _, err := Run(t.Context(), job, *devices, sink, opts); err != nil {
				t.Fatalf("%+v: %v", brief(job), err)
			}
			sameProduct(t, job, sink.planes[0], want)
		}
	}
}

// TestProductLost ends one of two hosts in the middle of a product.
func TestProductLost(t *testing.T) {
	slow := func(ctx context.Context) error { return pause(ctx, 2*time.Millisecond) }
	lost := &productDevice{id: "lost", fault: slow}
	good, bad := startProductHost(t, &productDevice{id: "good", fault: slow}), startProductHost(t, lost)
	devices := append(devicesOf(t, good), devicesOf(t, bad)...)
	go func() {
		for lost.tiles.Load() < 3 {
			time.Sleep(time.Millisecond)
		}
		bad.stop()
	}()
	job := randomProduct[float64](rand.New(rand.NewPCG(1, 2)), 300, 300, 500)
	job.Alpha, job.Beta = 1, 0.5
	sink := newImageSink(job)
	r, err := Run(t.Context(), job, devices, sink, Options{Tiles: 60})
	if err != nil {
		t.Fatal(err)
	}
	sameProduct(t, job, sink.planes[0], productOnWhole(job))
	if r.Lost == 0 {
		t.Error("nothing was lost")
	}
}

// failingSource is an operand of which a part cannot be read.
type failingSource struct{ err error }

func (s failingSource) Read(to []float64, t kernels.Tile) error {
	if t.Y+t.H > 100 {
		return s.err
	}
	clear(to)
	return nil
}

// TestOperandFails has an operand that cannot be read. It ends the job, with its own
// error, and no host is blamed.
func TestOperandFails(t *testing.T) {
	h := startProductHost(t, &productDevice{id: "p"}, &productDevice{id: "q"})
	cut := errors.New("the file has been cut off")
	job := randomProduct[float64](rand.New(rand.NewPCG(1, 2)), 400, 300, 200)
	job.TransA, job.Alpha, job.SourceA = false, 1, failingSource{cut}
	r, err := Run(t.Context(), job, devicesOf(t, h), newImageSink(job), Options{Tiles: 20})
	if !errors.Is(err, cut) || errors.Is(err, ErrTileFailed) || errors.Is(err, ErrNoDevice) {
		t.Errorf("the error is %v", err)
	}
	for _, d := range r.Devices {
		if d.SetAside != nil {
			t.Errorf("%s was set aside: %v", d.ID, d.SetAside)
		}
	}
}

// TestOperandMemory has a product that takes more than a host keeps for operands, and
// reads C: it is refused with the bytes, and done by the other. One that fits is done by
// both.
func TestOperandMemory(t *testing.T) {
	const limit = 3 << 20
	var most atomic.Int64
	seen := func(bytes int64) { most.Store(max(most.Load(), bytes)) }
	small := startProductHost(t, &productDevice{id: "p", seen: seen}, &productDevice{id: "q", seen: seen})
	small.LimitOperands(limit)
	large := startProductHost(t, &productDevice{id: "p"})
	devices := append(devicesOf(t, small), devicesOf(t, large)...)
	for _, fits := range []bool{true, false, true} {
		n := 300
		if !fits {
			n = 400
		}
		job := randomProduct[float64](rand.New(rand.NewPCG(1, 2)), n, n, n)
		job.Alpha, job.Beta = 1, 1
		sink := newImageSink(job)
		r, err := Run(t.Context(), job, devices, sink, Options{Tiles: 30})
		if err != nil {
			t.Fatal(err)
		}
		sameProduct(t, job, sink.planes[0], productOnWhole(job))
		for _, d := range r.Devices[:2] {
			refused := d.SetAside != nil && strings.Contains(d.SetAside.Error(), "--mem") &&
				strings.Contains(d.SetAside.Error(), fmt.Sprintf("take %d bytes, and of the %d ", 24*n*n, limit))
			if refused == fits {
				t.Errorf("%d bytes: %v", 24*n*n, d.SetAside)
			}
		}
	}
	if most.Load() > limit {
		t.Errorf("%d bytes of operands were taken", most.Load())
	}
}

// TestOperandsAreFetchedOnce has two devices of a host share the operands of one
// product: each part goes over once.
func TestOperandsAreFetchedOnce(t *testing.T) {
	h := startProductHost(t, &productDevice{id: "p", slots: 2}, &productDevice{id: "q"})
	job := randomProduct[float64](rand.New(rand.NewPCG(1, 2)), 600, 500, 3000)
	job.Alpha, job.Beta = 1, 1
	spec := specOf(job)
	counted := &countingSource{job: job, operand: operandB}
	job.SourceB = counted
	sink := newImageSink(job)
	if _, err := Run(t.Context(), job, devicesOf(t, h), sink, Options{}); err != nil {
		t.Fatal(err)
	}
	if want := int64(spec.stored(operandB).Area()); counted.elements.Load() != want {
		t.Errorf("%d elements were fetched of %d", counted.elements.Load(), want)
	}
	job.SourceB = nil
	sameProduct(t, job, sink.planes[0], productOnWhole(job))
}

// countingSource is an operand that counts what is read of it.
type countingSource struct {
	job      *kernels.MatMul[float64]
	operand  int
	elements atomic.Int64
	mu       sync.Mutex
	largest  int
}

func (s *countingSource) Read(to []float64, t kernels.Tile) error {
	s.elements.Add(int64(t.Area()))
	s.mu.Lock()
	s.largest = max(s.largest, t.Area())
	s.mu.Unlock()
	for y := range t.H {
		copy(to[y*t.W:][:t.W], s.job.B[(t.Y+y)*s.job.LDB+t.X:])
	}
	return nil
}

// TestOperandLines checks that rows that are read together begin on pages all over, and
// that this takes little memory.
func TestOperandLines(t *testing.T) {
	for _, element := range []int{4, 8} {
		var widths []int
		for width := 1; width < 1<<16; width += 1 + width/97 {
			widths = append(widths, width)
		}
		for width := 1; width <= 1<<16; width *= 2 {
			widths = append(widths, width)
		}
		for _, width := range widths {
			s := productSpec{Type: uint8(kernels.Float32), M: width, N: width, K: width}
			if element == 8 {
				s.Type = uint8(kernels.Float64)
			}
			line := s.line(operandA)
			if line < width || float64(line) > 1.15*float64(width) || width*element < crowdedBytes && line != width {
				t.Errorf("%d elements of %d bytes take %d", width, element, line)
			}
			other := s
			other.TransA, other.TransB = true, true
			if other.line(operandB) != line || other.line(operandA) != width || s.line(operandB) != width || s.line(operandC) != width {
				t.Errorf("%d elements of %d bytes: rows that are read one after another are padded, or others are not", width, element)
			}
			sets := map[int]int{}
			for row := range 14 {
				sets[row*line*element/4096%16]++
			}
			for _, rows := range sets {
				if rows > 5 && line*element >= crowdedBytes || rows > 3 && bits.OnesCount(uint(width)) == 1 && line != width {
					t.Errorf("%d of 14 rows of %d elements of %d bytes share a set of pages", rows, line, element)
				}
			}
		}
	}
}
