package gpurun

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// seeded returns a source of random numbers whose seed is in the test's output.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// flipBit flips a bit of the planes of r, a result of job: one that makes a difference,
// which it does not in a NaN.
func flipBit(rng *rand.Rand, job kernels.Job, r *kernels.Result) {
	for {
		i := rng.IntN(len(r.Planes))
		plane, typ := r.Planes[i], job.Planes()[i]
		before := slices.Clone(plane)
		plane[rng.IntN(len(plane))] ^= 1 << rng.IntN(8)
		if firstDifference(typ, before, plane, kernels.Tolerance{}) >= 0 {
			return
		}
	}
}

// liar is a device that flips a bit in each of its tiles, or in each every-th.
type liar struct {
	device.Device
	id    string
	every int

	mu    sync.Mutex
	rng   *rand.Rand
	tiles int
}

func newLiar(t *testing.T, d device.Device, id string) *liar {
	return &liar{Device: d, id: id, every: 1, rng: seeded(t)}
}

func (d *liar) ID() string        { return d.id }
func (d *liar) Close() error      { return nil }
func (d *liar) Info() device.Info { i := d.Device.Info(); i.ID = d.id; return i }

func (d *liar) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	runner, err := d.Device.Begin(ctx, job)
	return lyingRunner{runner, job, d}, err
}

type lyingRunner struct {
	kernels.Runner
	job kernels.Job
	d   *liar
}

func (r lyingRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	err := r.Runner.Run(ctx, t, out)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	r.d.tiles++
	if err == nil && r.d.tiles%r.d.every == 0 {
		flipBit(r.d.rng, r.job, out)
	}
	return err
}

// patient is an honest device of an engine that computes nothing until one that lies has
// been found out.
type patient struct {
	device.Device
	eng *Engine
}

func (d patient) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	runner, err := d.Device.Begin(ctx, job)
	return patientRunner{runner, d.eng}, err
}

type patientRunner struct {
	kernels.Runner
	eng *Engine
}

func (r patientRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	for !r.found() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.Runner.Run(ctx, t, out)
}

// found reports whether a device is set aside in the job that runs.
func (r patientRunner) found() bool {
	report := r.eng.Live()
	return report != nil && slices.ContainsFunc(report.Devices, func(d DeviceReport) bool { return d.SetAside != "" })
}

// verifying returns an engine that looks at all of every result, in many tiles.
func verifying(t *testing.T, config Config) *Engine {
	t.Helper()
	config.Verify, config.Tiles = 1, 40
	return opened(t, config)
}

// opened returns an engine, which is closed when t ends.
func opened(t *testing.T, config Config) *Engine {
	t.Helper()
	eng, err := Open(t.Context(), &config)
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

// verifyJobs computes an image and a product on eng, compares them with those of an
// engine of the CPU alone, and calls look after each.
func verifyJobs(t *testing.T, eng *Engine, look func(*Report)) {
	t.Helper()
	honest, err := Open(t.Context(), &Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	view := View{Center: -0.5, Span: 3, Width: 300, Height: 200, MaxIter: 3000}
	want, err := honest.Mandelbrot(t.Context(), view)
	if err != nil {
		t.Fatal(err)
	}
	got, err := eng.Mandelbrot(t.Context(), view)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Counts, want.Counts) || !slices.Equal(got.Magnitudes, want.Magnitudes) {
		t.Error("the image is wrong")
	}
	look(eng.Report())
}

// verifyProducts is verifyJobs of a product.
func verifyProducts(t *testing.T, eng *Engine, look func(*Report)) {
	t.Helper()
	const n = 200
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() blas64.General {
		m := blas64.General{Rows: n, Cols: n, Stride: n, Data: make([]float64, n*n)}
		for i := range m.Data {
			m.Data[i] = rng.NormFloat64()
		}
		return m
	}
	a, b, c := random(), random(), random()
	want := c
	want.Data = slices.Clone(c.Data)
	honest, err := Open(t.Context(), &Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	if err := honest.Gemm64(t.Context(), blas.NoTrans, blas.Trans, 0.5, a, b, -1, want); err != nil {
		t.Fatal(err)
	}
	if err := eng.Gemm64(t.Context(), blas.NoTrans, blas.Trans, 0.5, a, b, -1, c); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Data, want.Data) {
		t.Error("the product is wrong")
	}
	look(eng.Report())
}

// namesLiar checks that the report names the liar, and nobody else.
func namesLiar(t *testing.T, id string) func(*Report) {
	return func(r *Report) {
		t.Helper()
		found := false
		for _, d := range r.Devices {
			name := d.ID
			if d.Host != "" {
				name = d.Host + "/" + d.ID
			}
			lied := strings.Contains(d.SetAside, dist.ErrWrong.Error())
			if lied != (name == id) {
				t.Errorf("%s was set aside: %q", name, d.SetAside)
			}
			found = found || lied
		}
		if !found {
			t.Errorf("nobody named %s", id)
		}
	}
}

// TestVerifyFindsDevice has a device of this machine lie.
func TestVerifyFindsDevice(t *testing.T) {
	for range 5 {
		for _, verify := range []func(*testing.T, *Engine, func(*Report)){verifyJobs, verifyProducts} {
			eng := verifying(t, Config{Devices: []string{"cpu"}})
			d := newLiar(t, eng.spare, "gpu0")
			eng.config.Devices = []string{"cpu", "gpu0"}
			eng.devices = []device.Device{patient{eng.devices[0], eng}, d}
			verify(t, eng, namesLiar(t, "gpu0"))
		}
	}
}

// TestVerifyFindsHost has a device of a host lie.
func TestVerifyFindsHost(t *testing.T) {
	cpu, err := device.OpenCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	d := newLiar(t, cpu, "cpu")
	host := dist.NewHost("liar", []dist.Device{d}, []dist.DeviceInfo{{ID: "cpu", Kind: "cpu", F32: "exact", F64: "exact"}}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = host.Serve(ctx, l, nil) })
	defer serving.Wait()
	defer stop()
	eng := verifying(t, Config{Devices: []string{"cpu"}, Hosts: []string{l.Addr().String()}})
	eng.devices = []device.Device{patient{eng.devices[0], eng}}
	verifyJobs(t, eng, namesLiar(t, l.Addr().String()+"/cpu"))
}

// TestVerifyHonest checks that nobody honest is found out, whatever the numbers.
func TestVerifyHonest(t *testing.T) {
	eng := verifying(t, Config{Devices: []string{"all"}})
	honest := func(r *Report) {
		for _, d := range r.Devices {
			if d.SetAside != "" {
				t.Errorf("%s was set aside: %s", d.ID, d.SetAside)
			}
		}
	}
	verifyJobs(t, eng, honest)
	verifyProducts(t, eng, honest)
	rng := seeded(t)
	for range 300 {
		for _, kind := range lies {
			checkOne(t, rng, kind.job(rng), 0.01, nil, 1)
		}
	}
}

// lie makes one element of the result of a job wrong.
type lie func(rng *rand.Rand, job kernels.Job, r *kernels.Result)

// lies are jobs, how their results are made wrong, and whether only computing that element
// again can find it out.
var lies = []struct {
	name   string
	job    func(*rand.Rand) kernels.Job
	flip   lie
	unseen bool
}{
	{"image", randomImage, flipBit, true},
	{"float32 product", func(rng *rand.Rand) kernels.Job { return randomJob[float32](rng) }, flipBit, false},
	{"float64 product", func(rng *rand.Rand) kernels.Job { return randomJob[float64](rng) }, flipBit, false},
	{"float32 product's lowest bit", func(rng *rand.Rand) kernels.Job { return randomJob[float32](rng) }, flipLowest[float32], true},
	{"float64 product's lowest bit", func(rng *rand.Rand) kernels.Job { return randomJob[float64](rng) }, flipLowest[float64], true},
}

func randomImage(rng *rand.Rand) kernels.Job {
	view := View{Center: complex(rng.NormFloat64(), rng.NormFloat64()), Span: 3, Width: 40, Height: 30, MaxIter: 50, CountsOnly: rng.IntN(2) == 0}
	return view.withDefaults().job(0, view.Height)
}

// flipLowest flips the lowest bit of a random element, if it is a finite number: of those
// that are not Freivalds' check knows whether they should be.
func flipLowest[T float32 | float64](rng *rand.Rand, job kernels.Job, r *kernels.Result) {
	c := kernels.Elements[T](r.Planes[0])
	for range 10 * len(c) {
		i := rng.IntN(len(c))
		if finite(float64(c[i])) {
			r.Planes[0][i*job.DType().Size()] ^= 1 // the first byte, on all machines that there are
			return
		}
	}
	flipBit(rng, job, r) // hardly one of them is finite
}

// checkOne verifies a tile of job, all of it and made wrong by flip unless that is nil, so
// many times, and returns how often it was found out.
func checkOne(t *testing.T, rng *rand.Rand, job kernels.Job, share float64, flip lie, times int) (found int) {
	t.Helper()
	v, err := newVerifier(t.Context(), job, share)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	all := job.Bounds()
	tile := kernels.Tile{X: rng.IntN(all.W / 2), Y: rng.IntN(all.H / 2), W: 1 + rng.IntN(all.W/2), H: 1 + rng.IntN(all.H/2)}
	if flip != nil {
		tile = all
	}
	right, r := kernels.NewResult(job, tile), kernels.NewResult(job, tile)
	if err := v.runner.Run(t.Context(), tile, right); err != nil {
		t.Fatal(err)
	}
	for range times {
		for i, plane := range right.Planes {
			copy(r.Planes[i], plane)
		}
		if flip != nil {
			flip(rng, job, r)
		}
		err := v.check(t.Context(), tile, r)
		if err != nil && (!errors.Is(err, dist.ErrWrong) || flip == nil) {
			t.Fatalf("%v of %v: %v", tile, job.Kernel(), err)
		}
		if err != nil {
			found++
		}
	}
	return found
}

// randomJob returns a product of numbers of all sizes, which cancel each other, or
// overflow, now and then.
func randomJob[T float32 | float64](rng *rand.Rand) *kernels.MatMul[T] {
	side := func() int { return 20 + rng.IntN(40) }
	p := &kernels.MatMul[T]{M: side(), N: side(), K: side(), TransA: rng.IntN(2) == 0, TransB: rng.IntN(2) == 0,
		Alpha: []T{1, 1, 0.3, 0}[rng.IntN(4)], Beta: []T{0, 0, 1, -0.7}[rng.IntN(4)]}
	scale := []float64{0, 0, 5, 30, 60}[rng.IntN(5)]
	odd := rng.IntN(4) == 0
	random := func(n int) []T {
		x := make([]T, n)
		for i := range x {
			x[i] = T(rng.NormFloat64() * math.Exp2(scale*rng.NormFloat64()))
			if odd && rng.IntN(100) == 0 {
				x[i] = []T{T(math.Inf(1)), T(math.NaN()), 0, T(math.SmallestNonzeroFloat32)}[rng.IntN(4)]
			}
		}
		return x
	}
	p.LDA, p.LDB, p.LDC = p.K, p.N, p.N
	if p.TransA {
		p.LDA = p.M
	}
	if p.TransB {
		p.LDB = p.K
	}
	p.A, p.B, p.C = random(p.M*p.K), random(p.K*p.N), random(p.M*p.N)
	return p
}

// TestVerifyProbability flips a bit somewhere in a tile a thousand times: the part of
// them that is found is what Config.Verify says, to four standard deviations, and no more
// where only computing again finds it.
func TestVerifyProbability(t *testing.T) {
	const jobs, times = 100, 10
	rng := seeded(t)
	// Of 0.02 of a tile all is in one row; 0.5 is a part of few rows exactly.
	for _, share := range []float64{0.02, 0.05, 0.5, 1} {
		for _, kind := range lies {
			found := 0
			for range jobs {
				found += checkOne(t, rng, kind.job(rng), share, kind.flip, times)
			}
			part, spread := float64(found)/(jobs*times), 4*math.Sqrt(share*(1-share)/(jobs*times))
			t.Logf("share %g: of %d flipped bits in an %s %.3f were found", share, jobs*times, kind.name, part)
			// A part is whole rows, of which a tile has 20 at least, or less than one.
			if most := share + 1./20 + spread; part < share-spread || kind.unseen && part > most {
				t.Errorf("share %g: of %d flipped bits in an %s %.3f were found", share, jobs*times, kind.name, part)
			}
		}
	}
}

// TestFreivaldsIsCertain changes the sign of an element that is far larger than rounding can
// make it, in products of which next to nothing is computed again: it is always found.
func TestFreivaldsIsCertain(t *testing.T) {
	rng := seeded(t)
	t.Run("float32", func(t *testing.T) { testFreivaldsIsCertain[float32](t, rng) })
	t.Run("float64", func(t *testing.T) { testFreivaldsIsCertain[float64](t, rng) })
}

func testFreivaldsIsCertain[T float32 | float64](t *testing.T, rng *rand.Rand) {
	const jobs, times = 30, 10
	for range jobs {
		job := randomJob[T](rng)
		job.Alpha, job.Beta = 1, 0
		for _, operand := range [][]T{job.A, job.B} {
			for i := range operand {
				operand[i] = T(rng.NormFloat64())
			}
		}
		found := checkOne(t, rng, job, 1e-9, func(rng *rand.Rand, _ kernels.Job, r *kernels.Result) {
			c := kernels.Elements[T](r.Planes[0])
			for { // the elements are about as large as the square root of K, which is 20 at least
				if i := rng.IntN(len(c)); math.Abs(float64(c[i])) > 1 {
					c[i] = -c[i]
					return
				}
			}
		}, times)
		if found != times {
			t.Errorf("%d×%d×%d: of %d elements with another sign %d were found", job.M, job.N, job.K, times, found)
		}
	}
}

// TestRandomParts counts how often each element is among the parts.
func TestRandomParts(t *testing.T) {
	const draws = 20000
	for _, c := range []struct {
		tile  kernels.Tile
		share float64
	}{
		{kernels.Tile{X: 3, Y: 4, W: 5, H: 20}, 0.1}, {kernels.Tile{W: 7, H: 3}, 0.2}, {kernels.Tile{W: 1, H: 9}, 0.01},
		{kernels.Tile{W: 9, H: 1}, 0.3}, {kernels.Tile{W: 4, H: 4}, 1}, {kernels.Tile{W: 6, H: 10}, 0.95},
	} {
		counts := make([]int, c.tile.Area())
		for range draws {
			for _, p := range randomParts(c.tile, c.share, false) {
				if !c.tile.Contains(p) || p.Empty() {
					t.Fatalf("part %v of %v", p, c.tile)
				}
				for y := range p.H {
					for x := range p.W {
						counts[(p.Y-c.tile.Y+y)*c.tile.W+p.X-c.tile.X+x]++
					}
				}
			}
		}
		least, most := slices.Min(counts), slices.Max(counts)
		if float64(least) < draws*c.share-5*math.Sqrt(draws*c.share) || most > draws {
			t.Errorf("a share of %g of %v has elements from %d to %d times in %d", c.share, c.tile, least, most, draws)
		}
	}
	if parts := randomParts(kernels.Tile{}, 0.5, false); len(parts) > 0 {
		t.Errorf("nothing has the parts %v", parts)
	}
}

func TestVerifyConfig(t *testing.T) {
	for _, share := range []float64{-0.1, 1.1, math.NaN()} {
		if eng, err := Open(t.Context(), &Config{Verify: share}); err == nil {
			eng.Close()
			t.Errorf("a share of %g was taken", share)
		} else if !strings.Contains(err.Error(), fmt.Sprint(share)) {
			t.Error(err)
		}
	}
}
