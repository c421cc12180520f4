package dist

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// startSmallHost starts a host that has no room for any operand: its devices stream.
func startSmallHost(t *testing.T, devices ...*productDevice) *testHost {
	t.Helper()
	h := startProductHost(t, devices...)
	h.LimitOperands(1 << 10)
	return h
}

// TestStreaming compares products on hosts without room for the operands with what is
// computed at once.
func TestStreaming(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	one := startSmallHost(t, &productDevice{id: "p", grid: tiler.Grid{StepX: 8, StepY: 3, MaxW: 64, MaxH: 99}}, &productDevice{id: "q"})
	two := startSmallHost(t, &productDevice{id: "p", slots: 2})
	devices := append(devicesOf(t, one), devicesOf(t, two)...)
	for range 20 {
		m, n, k := 60+rng.IntN(200), 60+rng.IntN(200), 1+rng.IntN(2000)
		p, q := randomProduct[float32](rng, m, n, k), randomProduct[float64](rng, m, n, k)
		p.Beta, q.Beta = 0, 0
		var job kernels.Job = p
		if rng.IntN(2) == 0 {
			job = q
		}
		sink := newImageSink(job)
		if _, err := Run(t.Context(), job, devices, sink, Options{}); err != nil {
			t.Fatalf("%+v: %v", brief(job), err)
		}
		sameProduct(t, job, sink.planes[0], productOnWhole(job))
	}
}

// TestStreamingGrid checks that the tiles of a device that streams are no larger than it
// has said, nor than a coordinator has memory for.
func TestStreamingGrid(t *testing.T) {
	job := plainProduct(700, 500, 400)
	for _, max := range [][2]int{{100, 70}, {1 << 40, 1 << 40}, {1 << 40, 3}} {
		h := startSmallHost(t, &productDevice{id: "p", grid: tiler.Grid{StepX: 10, StepY: 7, MaxW: max[0], MaxH: max[1]}})
		sink := newImageSink(job)
		r, err := Run(t.Context(), job, devicesOf(t, h), sink, Options{Spans: true})
		if err != nil {
			t.Fatal(err)
		}
		sameProduct(t, job, sink.planes[0], productOnWhole(job))
		for _, s := range r.Spans {
			if s.Tile.W > max[0] || s.Tile.H > max[1] {
				t.Errorf("tile %v, of at most %v", s.Tile, max)
			}
		}
	}
	for _, m := range []beganMessage{{MaxW: 1 << 62, MaxH: 1 << 62}, {MaxW: 1, MaxH: 1 << 62}, {MaxW: 1 << 62, MaxH: 1}, {MaxW: 64, MaxH: 65}} {
		g := gridOf(m, 8)
		if g.MaxW < 1 || g.MaxH < 1 || g.MaxW > m.MaxW || g.MaxH > m.MaxH || g.MaxW*g.MaxH > mostReading/8 || m.MaxW == 64 && (g.MaxW != 64 || g.MaxH != 65) {
			t.Errorf("%+v: %+v", m, g)
		}
	}
	for _, m := range []beganMessage{{MaxW: 5}, {MaxW: -1, MaxH: -1}, {MaxW: 5, MaxH: 5}, {MaxW: -1 << 63, MaxH: 1 << 62}, {StepX: 4096, StepY: 4096}, {StepX: -1, StepY: 5}} {
		if g := gridOf(m, 8); g != (tiler.Grid{StepX: usualStepX, StepY: usualStepY, High: usualHigh}) {
			t.Errorf("%+v: %+v", m, g)
		}
	}
}

// blockedSource is an operand that is read only once it may be.
type blockedSource struct {
	asked   atomic.Int64
	release chan struct{}
}

func (s *blockedSource) Read(to []float64, _ kernels.Tile) error {
	s.asked.Add(1)
	<-s.release
	clear(to)
	return nil
}

// TestStreamingStops stops a job while its devices wait for operands: at once, and with
// nothing written to their memory afterwards, which the race detector would see.
func TestStreamingStops(t *testing.T) {
	h := startSmallHost(t, &productDevice{id: "p"})
	job := plainProduct(300, 300, 1000)
	blocked := &blockedSource{release: make(chan struct{})}
	job.SourceB = blocked
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for blocked.asked.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := Run(ctx, job, devicesOf(t, h), newImageSink(job), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	within(t, 5*time.Second, "the host has let go", func() bool { return h.operands.taken.Load() == 0 })
	close(blocked.release)
}

// TestStreamingFails has an operand that cannot be read when a device streams it. It
// ends the job, with its own error.
func TestStreamingFails(t *testing.T) {
	h := startSmallHost(t, &productDevice{id: "p"}, &productDevice{id: "q"})
	cut := errors.New("the file has been cut off")
	job := plainProduct(400, 300, 200)
	job.SourceA = failingSource{cut}
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

// sharedSource is an operand in a file that counts what the coordinator reads.
type sharedSource struct {
	*npy.File
	reference npy.Reference
	read      atomic.Int64
}

func (s *sharedSource) Reference() npy.Reference { return s.reference }

func (s *sharedSource) Read(to []float64, t kernels.Tile) error {
	s.read.Add(1)
	return npy.Read(s.File, to, t)
}

// shareMatrix writes the lines of a matrix to a file of its own, and opens it.
func shareMatrix(t *testing.T, data []float64, lines, length, stride int, fortran bool) *sharedSource {
	t.Helper()
	h := npy.Header{Type: kernels.Float64, Rows: lines, Cols: length}
	if fortran {
		h = npy.Header{Type: kernels.Float64, Rows: length, Cols: lines, Fortran: true}
	}
	content := h.Append(nil)
	for y := range lines {
		content = append(content, kernels.Bytes(data[y*stride:][:length])...)
	}
	path := filepath.Join(t.TempDir(), "m.npy")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := npy.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	ref, err := f.Reference()
	if err != nil {
		t.Fatal(err)
	}
	return &sharedSource{File: f, reference: ref}
}

// shareOperands puts the operands of job into files.
func shareOperands(t *testing.T, job *kernels.MatMul[float64]) (a, b *sharedSource) {
	t.Helper()
	spec := specOf(job)
	wholeA, wholeB := spec.stored(operandA), spec.stored(operandB)
	a = shareMatrix(t, job.A, wholeA.H, wholeA.W, job.LDA, job.TransA)
	b = shareMatrix(t, job.B, wholeB.H, wholeB.W, job.LDB, job.TransB)
	job.SourceA, job.SourceB = a, b
	return a, b
}

// TestSharedFiles has hosts read the operands by themselves, with and without room for
// them: nothing of them goes over.
func TestSharedFiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	large := startProductHost(t, &productDevice{id: "p", slots: 2}, &productDevice{id: "q", grid: tiler.Grid{StepX: 24, StepY: 7}})
	small := startSmallHost(t, &productDevice{id: "p", grid: tiler.Grid{StepX: 8, StepY: 3, MaxW: 64, MaxH: 99}})
	devices := append(devicesOf(t, large), devicesOf(t, small)...)
	for range 12 {
		job := randomProduct[float64](rng, 60+rng.IntN(200), 60+rng.IntN(200), 1+rng.IntN(3000))
		job.Beta = 0
		want := productOnWhole(job)
		a, b := shareOperands(t, job)
		sink := newImageSink(job)
		if _, err := Run(t.Context(), job, devices, sink, Options{}); err != nil {
			t.Fatal(err)
		}
		sameProduct(t, job, sink.planes[0], want)
		if n := a.read.Load() + b.read.Load(); n > 0 {
			t.Errorf("the coordinator has read %d parts", n)
		}
	}
}

// TestSharedFilesDiffer has hosts find other files where those of the coordinator are,
// or none. They are set aside, and the reason says what to do.
func TestSharedFilesDiffer(t *testing.T) {
	h := startProductHost(t, &productDevice{id: "p"})
	for name, test := range map[string]struct {
		change func(ref *npy.Reference)
		says   string
	}{
		"none":    {func(ref *npy.Reference) { ref.Path += "x" }, "differs in size, time or content"},
		"size":    {func(ref *npy.Reference) { ref.Size++ }, "differs in size, time or content"},
		"time":    {func(ref *npy.Reference) { ref.Time -= 1e9 }, "differs in size, time or content"},
		"samples": {func(ref *npy.Reference) { ref.Sample[7]++ }, "differs in size, time or content"},
		"folder":  {func(ref *npy.Reference) { ref.Path = filepath.Dir(ref.Path) }, "differs in size, time or content"},
		"path":    {func(ref *npy.Reference) { ref.Path = "m.npy" }, "differs in size, time or content"},
		"shape": {func(ref *npy.Reference) {
			other := shareMatrix(t, make([]float64, 100), 10, 10, 10, false)
			*ref = other.reference
		}, "not those of the product"},
	} {
		t.Run(name, func(t *testing.T) {
			job := plainProduct(50, 60, 70)
			a, _ := shareOperands(t, job)
			test.change(&a.reference)
			_, err := Run(t.Context(), job, devicesOf(t, h), newImageSink(job), Options{})
			if !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v", err)
			}
			if name != "shape" && !strings.Contains(err.Error(), "--shared-fs") {
				t.Errorf("the error does not say what to do: %v", err)
			}
		})
	}
}

// TestSharedFileShrinks cuts a file off that a host reads: its device fails, and another
// does the job.
func TestSharedFileShrinks(t *testing.T) {
	slow := func(ctx context.Context) error { return pause(ctx, 5*time.Millisecond) }
	bad := &productDevice{id: "p", fault: slow}
	h := startSmallHost(t, bad)
	job := plainProduct(300, 300, 700)
	want := productOnWhole(job)
	a, _ := shareOperands(t, job)
	other := &productDevice{id: "local", fault: slow}
	memory := *job
	memory.SourceA, memory.SourceB = nil, nil
	go func() {
		for bad.tiles.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		_ = os.Truncate(a.Path(), 1000)
	}()
	sink := newImageSink(job)
	r, err := Run(t.Context(), job, append(devicesOf(t, h), &memoryDevice{other, &memory}), sink, Options{Tiles: 60})
	if err != nil {
		t.Fatal(err)
	}
	sameProduct(t, job, sink.planes[0], want)
	if d := r.Devices[0]; d.SetAside == nil || !strings.Contains(d.SetAside.Error(), npy.ErrChanged.Error()) {
		t.Errorf("the host was not set aside: %v", d.SetAside)
	}
}

// memoryDevice is a device that has the operands in memory, whatever the job says.
type memoryDevice struct {
	*productDevice
	job kernels.Job
}

func (d *memoryDevice) Begin(ctx context.Context, _ kernels.Job) (kernels.Runner, error) {
	return d.productDevice.Begin(ctx, d.job)
}

// TestStreamingTakesTurns begins two products that stream on one device: the second
// waits for the end of the first.
func TestStreamingTakesTurns(t *testing.T) {
	h := startSmallHost(t, &productDevice{id: "p"})
	first, second := plainProduct(200, 200, 250), plainProduct(210, 200, 250)
	running, err := devicesOf(t, h)[0].Begin(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan error, 1)
	go func() {
		r, err := devicesOf(t, h)[0].Begin(t.Context(), second)
		if err == nil {
			err = r.Close()
		}
		began <- err
	}()
	select {
	case err := <-began:
		t.Fatalf("two products stream on one device: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := running.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-began; err != nil {
		t.Error(err)
	}
}

// TestSharedFileLeft cancels a tile whose operands are being read from a file: another
// tile that needs them has them read.
func TestSharedFileLeft(t *testing.T) {
	job := plainProduct(64, 64, 5000)
	shareOperands(t, job)
	o := &hostedOperands{spec: specOf(job), fetching: newFetching(NewHost("host", nil, nil, nil), func(outgoing) bool { return true })}
	if _, err := o.begin(new(hostedJob)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, f := range o.files {
			if f != nil {
				f.Close()
			}
		}
	}()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.need(stopped, job.Bounds(), tiler.Grid{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled tile: %v", err)
	}
	if err := o.need(t.Context(), job.Bounds(), tiler.Grid{}); err != nil {
		t.Errorf("another: %v", err)
	}
	a := &o.matrices[operandA]
	got := kernels.Elements[float64](a.data)
	for i := range 64 * 5000 {
		if x := got[i/5000*a.line+i%5000]; x != job.A[i/5000*job.LDA+i%5000] && x == x {
			t.Fatalf("element %d is %g", i, x)
		}
	}
}
