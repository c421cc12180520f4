package device

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
	"github.com/gpurun/gpurun/tiler"
)

// forms are the two forms of the kernel, with blocks as small as they can be so
// that small matrices have several.
func forms(t kernels.DType) map[string]opencl.MatMul {
	return map[string]opencl.MatMul{
		"gpu":          {T: t, Rows: 16, Cols: 32, Vector: 4, ItemRows: 4, ItemCols: 8, Depth: 8, Strip: 2},
		"cpu":          {T: t, Rows: 6, Cols: 16, Vector: 8},
		"gpu, default": opencl.KnownMatMul(t, false, "", ""),
		"cpu, default": opencl.KnownMatMul(t, true, "", ""),
		"cpu, AVX-512": opencl.KnownMatMul(t, true, "pthread-skylake-avx512", ""),
	}
}

// fmaIn returns fma(x, y, z) in T.
func fmaIn[T float32 | float64](x, y, z T) T {
	if _, is64 := any(x).(float64); is64 {
		return T(math.FMA(float64(x), float64(y), float64(z)))
	}
	return T(kernels.FMA32(float32(x), float32(y), float32(z)))
}

// plainProduct returns the result of p by its definition, packed.
func plainProduct[T float32 | float64](p *kernels.MatMul[T]) []T {
	c := make([]T, 0, p.M*p.N)
	for i := range p.M {
		for j := range p.N {
			var acc T
			switch p.Beta {
			case 0:
			case 1:
				acc = p.C[i*p.LDC+j]
			default:
				acc = p.Beta * p.C[i*p.LDC+j]
			}
			for k := 0; k < p.K && p.Alpha != 0; k++ {
				a, b := i*p.LDA+k, k*p.LDB+j
				if p.TransA {
					a = k*p.LDA + i
				}
				if p.TransB {
					b = j*p.LDB + k
				}
				x := p.A[a]
				if p.Alpha != 1 {
					x *= p.Alpha
				}
				acc = fmaIn(x, p.B[b], acc)
			}
			c = append(c, acc)
		}
	}
	return c
}

// oddNumbers returns n numbers, some of them such as arithmetic trips over.
func oddNumbers[T float32 | float64](rng *rand.Rand, n int, odd float64) []T {
	strange := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 5e-324, -1e-310, 1e-40, 1e38, 1e308}
	x := make([]T, n)
	for i := range x {
		x[i] = T(rng.NormFloat64())
		if rng.Float64() < odd {
			x[i] = T(strange[rng.IntN(len(strange))])
		}
	}
	return x
}

func randomProduct[T float32 | float64](rng *rand.Rand, m, n, k int) *kernels.MatMul[T] {
	scales := []T{0, 1, -1, 0.5, 1.1}
	p := &kernels.MatMul[T]{
		TransA: rng.IntN(2) == 0, TransB: rng.IntN(2) == 0, M: m, N: n, K: k,
		Alpha: scales[rng.IntN(len(scales))], Beta: scales[rng.IntN(len(scales))],
	}
	rowsA, colsA, rowsB, colsB := m, k, k, n
	if p.TransA {
		rowsA, colsA = k, m
	}
	if p.TransB {
		rowsB, colsB = n, k
	}
	odd := []float64{0, 0, 0.02}[rng.IntN(3)]
	p.LDA, p.LDB, p.LDC = colsA+rng.IntN(3), colsB+rng.IntN(3), n+rng.IntN(3)
	p.A = oddNumbers[T](rng, max(rowsA*p.LDA, 1), odd)
	p.B = oddNumbers[T](rng, max(rowsB*p.LDB, 1), odd)
	p.C = oddNumbers[T](rng, max(m*p.LDC, 1), odd)
	return p
}

// sameNumbers reports whether two results are the same: any NaN is any NaN, and
// zeros have signs.
func sameNumbers[T float32 | float64](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i, x := range a {
		if x != b[i] && (x == x || b[i] == b[i]) || math.Signbit(float64(x)) != math.Signbit(float64(b[i])) && x == x {
			return false
		}
	}
	return true
}

// runTiles computes p in the tiles that Split makes of it, and returns C packed.
func runTiles[T float32 | float64](ctx context.Context, d Device, p *kernels.MatMul[T], tiles int) ([]T, error) {
	runner, err := d.Begin(ctx, p)
	if err != nil {
		return nil, err
	}
	defer runner.Close()
	c := make([]T, p.M*p.N)
	for _, t := range tiler.Split(p.Bounds(), tiles) {
		r := kernels.NewResult(p, t)
		if err := runner.Run(ctx, t, r); err != nil {
			return nil, err
		}
		tiler.Paste(kernels.Bytes(c), p.N, t, r.Planes[0], p.DType().Size())
	}
	return c, nil
}

func testOpenCLMatMul[T float32 | float64](t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sides := []int{0, 1, 2, 7, 8, 31, 33, 127, 129, 200}
	var p kernels.MatMul[T]
	for name, params := range forms(p.DType()) {
		t.Run(name, func(t *testing.T) {
			d := openOpenCL(t, 0)
			d.setLaunch(params)
			plenty, longest := d.ledger.Budget(), d.info.MaxAlloc
			for i := range 60 {
				d.ledger.SetBudget(plenty)
				d.info.MaxAlloc = longest
				p := randomProduct[T](rng, sides[rng.IntN(len(sides))], sides[rng.IntN(len(sides))], sides[rng.IntN(len(sides))])
				if i < 3 { // few, for the plain product is slow
					long := [3]int{129, 70, 33}
					long[i] = 517
					p = randomProduct[T](rng, long[0], long[1], long[2])
				}
				if rng.IntN(2) == 0 {
					// Not enough for the whole operands.
					d.ledger.SetBudget(int64(rng.IntN(400_000)) + 300_000)
					if rng.IntN(2) == 0 {
						// Nor buffers for a block.
						d.info.MaxAlloc = int64(rng.IntN(100_000)) + 80_000
					}
				}
				got, err := runTiles(t.Context(), d, p, 1+rng.IntN(5))
				if err != nil {
					t.Fatal(err)
				}
				if want := plainProduct(p); !sameNumbers(got, want) {
					t.Fatalf("%d×%d×%d, α=%v β=%v %v %v: it differs", p.M, p.N, p.K, p.Alpha, p.Beta, p.TransA, p.TransB)
				}
			}
		})
	}
}

func TestOpenCLMatMul(t *testing.T) {
	t.Run("f32", testOpenCLMatMul[float32])
	t.Run("f64", testOpenCLMatMul[float64])
}

// TestOpenCLMatMulMemory checks that a product takes what was planned for it, with
// whatever budget, and says what it takes at least.
func TestOpenCLMatMulMemory(t *testing.T) {
	d := openOpenCL(t, 0)
	p := randomProduct[float32](rand.New(rand.NewPCG(5, 6)), 1500, 900, 700)
	p.Alpha = 1
	resident := 0
	for budget := int64(64 << 20); budget > 0; budget = budget * 3 / 4 {
		d.ledger.SetBudget(budget)
		r, err := newOpenCLMatMul(d, p)
		if errors.Is(err, ErrBudget) {
			if !strings.Contains(err.Error(), "raise --mem") || resident == 0 {
				t.Errorf("with %d bytes: %v", budget, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		planned := int64(0)
		for range r.state.now.count {
			slot := <-r.state.now.slots
			planned = slot.size.bytes
			if slot.size.resident {
				resident++
			}
			r.state.now.slots <- slot
		}
		if used := d.ledger.Used(); used != planned || used > budget {
			t.Errorf("with %d bytes: planned %d, used %d", budget, planned, used)
		}
		r.Close()
	}
	t.Error("it never had too little")
}

// TestOpenCLMatMulBuffers has a block of C that is larger than a buffer may be.
func TestOpenCLMatMulBuffers(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for name, params := range forms(kernels.Float32) {
		t.Run(name, func(t *testing.T) {
			d := openOpenCL(t, 0)
			d.setLaunch(params)
			p := randomProduct[float32](rng, 517, 300, 60)
			p.Alpha, p.Beta = 1, 0.5
			d.info.MaxAlloc = 200_000
			r, err := newOpenCLMatMul(d, p)
			if err != nil {
				t.Fatal(err)
			}
			slot := <-r.state.now.slots
			if len(slot.c) < 3 || slot.size.resident {
				t.Errorf("%d buffers hold a block of %d×%d", len(slot.c), slot.size.rows, slot.size.cols)
			}
			r.state.now.slots <- slot
			r.Close()
			got, err := runTiles(t.Context(), d, p, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !sameNumbers(got, plainProduct(p)) {
				t.Error("the result differs")
			}
		})
	}
}

// matMulOrder notes, as a hook for faults, in which order a driver was asked for what
// a product takes.
type matMulOrder struct {
	from            int64 // the launch after which what follows waits a little for a read to end
	launches        atomic.Int64
	launchesAtRead  atomic.Int64 // when the first read had ended
	writesAfterRead atomic.Int64
	once            sync.Once
	read            chan struct{} // closed when the first read has ended
}

func (o *matMulOrder) note(op string) cl.Code {
	launch, write := op == "enqueue kernel matmul" || op == "enqueue kernel matmul_cpu", op == "enqueue write buffer"
	if op == "wait for read buffer" {
		o.once.Do(func() {
			o.launchesAtRead.Store(o.launches.Load())
			close(o.read)
		})
	}
	if (launch || write) && o.launches.Load() >= o.from {
		select {
		case <-o.read:
			if write {
				o.writesAfterRead.Add(1)
			}
		case <-time.After(500 * time.Millisecond):
		}
	}
	if launch {
		o.launches.Add(1)
	}
	return 0
}

// TestOpenCLMatMulOverlap checks that a slab of C comes back before the last one is
// launched, and where there are few panels also before the last has come to the device.
func TestOpenCLMatMulOverlap(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	for _, test := range []struct {
		name         string
		n, k, panels int
		beta         float64
	}{
		{"panels", 200, 700, 3, 0},
		{"panels and C", 200, 700, 3, 0.5},
		{"two panels and C", 390, 40, 2, 1},
		{"a panel and C", 390, 1, 1, 1},
		{"C", 390, 0, 1, 0.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := openOpenCL(t, 0)
			d.setLaunch(forms(kernels.Float64)["cpu"])
			d.ledger.SetBudget(1_500_000)
			p := randomProduct[float64](rng, 257, test.n, test.k)
			p.Alpha, p.Beta = 1, test.beta
			r, err := newOpenCLMatMul(d, p)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			panels := max((test.k+r.now.depth-1)/r.now.depth, 1)
			if r.now.resident || min(panels, 3) != test.panels {
				t.Fatalf("the memory is %+v", r.now)
			}
			r.speed.set(1e15) // a launch is a slab
			// The last two panels are multiplied together.
			order := matMulOrder{from: int64(panels), read: make(chan struct{})}
			if panels > 2 && p.Beta != 0 {
				order.from += mostSlabs - 1
			}
			r.state.now.context.SetFault(order.note)
			block := kernels.Tile{W: min(r.now.cols, p.N), H: min(r.now.rows, p.M)}
			part, out := p.Part(block), kernels.NewResult(p, block)
			if err := r.Run(t.Context(), block, out); err != nil {
				t.Fatal(err)
			}
			if !sameNumbers(kernels.Elements[float64](out.Planes[0]), plainProduct(&part)) {
				t.Error("the result differs")
			}
			if at, all := order.launchesAtRead.Load(), order.launches.Load(); at == all {
				t.Errorf("nothing had come back when all %d launches were enqueued", all)
			}
			if panels <= 2 && order.writesAfterRead.Load() == 0 {
				t.Error("nothing had come back when all of C was on its way to the device")
			}
		})
	}
}

// TestOpenCLMatMulOutOfMemory has the driver run out of memory here and there, and
// fail in other ways.
func TestOpenCLMatMulOutOfMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	p := randomProduct[float64](rng, 150, 170, 190)
	p.Alpha = 1
	want := plainProduct(p)
	const streams = 700_000 // less than the operands take
	for _, test := range []struct {
		times  int
		op     string
		code   cl.Code
		budget int64
	}{
		{1, "create buffer", cl.MEM_OBJECT_ALLOCATION_FAILURE, 1 << 30},
		{3, "create buffer", cl.OUT_OF_RESOURCES, 1 << 30},
		{1, "wait for kernel matmul", cl.OUT_OF_RESOURCES, 1 << 30},
		{2, "wait for kernel matmul", cl.MEM_OBJECT_ALLOCATION_FAILURE, 1 << 30},
		{1, "wait for kernel matmul", cl.OUT_OF_RESOURCES, streams},
		{1, "wait for read buffer", cl.MEM_OBJECT_ALLOCATION_FAILURE, streams},
		{2, "enqueue read buffer", cl.OUT_OF_RESOURCES, streams},
		{2, "enqueue write buffer", cl.OUT_OF_RESOURCES, streams},
	} {
		t.Run(fmt.Sprint(test.op, test.times, test.budget), func(t *testing.T) {
			d := openOpenCL(t, 0)
			d.ledger.SetBudget(test.budget)
			before := d.ledger.Budget()
			failTimes(t, d, test.times, test.op, test.code)
			got, err := runTiles(t.Context(), d, p, 3)
			if err != nil {
				t.Fatal(err)
			}
			if !sameNumbers(got, want) {
				t.Error("the result differs")
			}
			if after := d.ledger.Budget(); after >= before || after <= 0 {
				t.Errorf("the budget was %d and is %d", before, after)
			}
		})
	}
	d := openOpenCL(t, 0)
	failTimes(t, d, 1, "wait for kernel matmul", cl.INVALID_OPERATION)
	if _, err := runTiles(t.Context(), d, p, 1); !errors.Is(err, cl.INVALID_OPERATION) {
		t.Errorf("the error is %v", err)
	}
	if got, err := runTiles(t.Context(), d, p, 1); err != nil || !sameNumbers(got, want) {
		t.Errorf("the next product failed: %v", err)
	}
}

// TestOpenCLMatMulCancel stops a product here and there, after which the runner goes on.
func TestOpenCLMatMulCancel(t *testing.T) {
	p := randomProduct[float64](rand.New(rand.NewPCG(9, 10)), 1200, 1300, 1100)
	p.Alpha, p.Beta = 1, 0
	for _, budget := range []int64{1 << 30, 16 << 20} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			d := openOpenCL(t, 0)
			d.ledger.SetBudget(budget)
			runner, err := d.Begin(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			defer runner.Close()
			advances := 0
			run := func(ctx context.Context, advance func()) error {
				r := kernels.NewResult(p, p.Bounds())
				r.Progress = advance
				return runner.Run(ctx, p.Bounds(), r)
			}
			if err := run(t.Context(), func() { advances++ }); err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				ctx, cancel := context.WithCancel(t.Context())
				left := 1 + i*(advances-2)/4
				err := run(ctx, func() {
					if left--; left == 0 {
						cancel()
					}
				})
				cancel()
				// At last there may be nothing left to stop.
				if err != nil && !errors.Is(err, context.Canceled) || err == nil && i == 0 {
					t.Fatalf("a product that was cancelled when it came on returned %v", err)
				}
			}
			small := kernels.Tile{X: 500, Y: 700, W: 30, H: 20}
			part := p.Part(small)
			got := kernels.NewResult(p, small)
			if err := runner.Run(t.Context(), small, got); err != nil {
				t.Fatal(err)
			}
			if !sameNumbers(kernels.Elements[float64](got.Planes[0]), plainProduct(&part)) {
				t.Error("what it computes afterwards differs")
			}
		})
	}
}

// TestOpenCLMatMulCancelLoading cancels a tile that waits until the other slot has
// loaded panels.
func TestOpenCLMatMulCancelLoading(t *testing.T) {
	d := openOpenCL(t, 0)
	p := randomProduct[float64](rand.New(rand.NewPCG(9, 10)), 20, 30, 40)
	p.Alpha = 1
	runner, err := newOpenCLMatMul(d, p)
	if err != nil {
		t.Fatal(err)
	}
	defer runner.Close()
	slot := <-runner.state.now.slots
	slot.panels.loading <- struct{}{}
	runner.state.now.slots <- slot
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	done := make(chan error)
	go func() { done <- runner.Run(ctx, p.Bounds(), kernels.NewResult(p, p.Bounds())) }()
	select {
	case err = <-done:
	case <-time.After(10 * time.Second):
		t.Error("it waits for the other slot, though it was cancelled")
		<-slot.panels.loading
		err = <-done
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it returned %v", err)
	}
}

func BenchmarkOpenCLMatMul(b *testing.B) {
	b.Run("f32", benchmarkOpenCLMatMul[float32])
	b.Run("f64", benchmarkOpenCLMatMul[float64])
}

func benchmarkOpenCLMatMul[T float32 | float64](b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{512, 1024, 2048} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := openOpenCL(b, 0)
			p := &kernels.MatMul[T]{M: n, N: n, K: n, Alpha: 1, LDA: n, LDB: n, LDC: n}
			p.A, p.B = oddNumbers[T](rng, n*n, 0), oddNumbers[T](rng, n*n, 0)
			r := kernels.NewResult(p, p.Bounds())
			runner, err := d.Begin(b.Context(), p)
			if err != nil {
				b.Fatal(err)
			}
			defer runner.Close()
			for b.Loop() {
				if err := runner.Run(b.Context(), p.Bounds(), r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(p.Flops()*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
