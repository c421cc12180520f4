package dist

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
	"github.com/gpurun/gpurun/tiler"
)

// mandelDevice computes real jobs in plain Go, as slowly as it is told.
type mandelDevice struct {
	id    string
	pause time.Duration // for each tile
	fault func(ctx context.Context) error
	tiles atomic.Int32
	open  atomic.Int32 // runners

	misused atomic.Bool // a runner was closed that ran
}

func (d *mandelDevice) ID() string { return d.id }
func (d *mandelDevice) Slots() int { return 1 }

func (d *mandelDevice) Begin(_ context.Context, job kernels.Job) (kernels.Runner, error) {
	d.open.Add(1)
	return &mandelRunner{mandelDevice: d, job: job.(*kernels.Mandelbrot)}, nil
}

// check fails the test if the runners were not used as they want to be.
func (d *mandelDevice) check(t testing.TB) {
	t.Helper()
	if n := d.open.Load(); n != 0 || d.misused.Load() {
		t.Errorf("%d runners of %s were left open; one was closed while it ran: %v", n, d.id, d.misused.Load())
	}
}

type mandelRunner struct {
	*mandelDevice
	job     *kernels.Mandelbrot
	running atomic.Int32
}

func (r *mandelRunner) Close() error {
	r.open.Add(-1)
	if r.running.Load() > 0 {
		r.misused.Store(true)
	}
	return nil
}

func (r *mandelRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	r.tiles.Add(1)
	r.running.Add(1)
	defer r.running.Add(-1)
	if r.fault != nil {
		if err := r.fault(ctx); err != nil {
			return err
		}
	}
	if err := pause(ctx, r.pause); err != nil {
		return err
	}
	cpu.Generic.Mandelbrot(r.job, t, out, cpu.Once(0, t.Area()), new(atomic.Bool))
	return nil
}

func remoteJob() *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: 100, R2: 4, Magnitudes: true}
	job.CX, job.CY = kernels.Axes(job.T, -0.5, 0, 3, 90, 60)
	return job
}

// imageSink assembles an image.
type imageSink struct {
	job    kernels.Job
	planes [][]byte
}

func newImageSink(job kernels.Job) *imageSink {
	return &imageSink{job, kernels.NewResult(job, job.Bounds()).Planes}
}

func (s *imageSink) Put(t kernels.Tile, r *kernels.Result) error {
	for i, d := range s.job.Planes() {
		tiler.Paste(s.planes[i], s.job.Bounds().W, t, r.Planes[i], d.Size())
	}
	return nil
}

// check compares the image with what plain Go makes of the job.
func (s *imageSink) check(t *testing.T) {
	t.Helper()
	want := kernels.NewResult(s.job, s.job.Bounds())
	cpu.Generic.Mandelbrot(s.job.(*kernels.Mandelbrot), s.job.Bounds(), want, cpu.Once(0, s.job.Bounds().Area()), new(atomic.Bool))
	if !slices.EqualFunc(s.planes, want.Planes, bytes.Equal) {
		t.Error("the result differs")
	}
}

// lockedLog is a log as text.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// testHost is a host on a loopback address.
type testHost struct {
	*Host
	addr   string
	device *mandelDevice
	stop   func() // ends the host at once
	logged func() string
}

func startHost(t *testing.T, trust *Trust, d *mandelDevice) *testHost {
	t.Helper()
	return startHostOf(t, trust, d)
}

// startHostOf starts a host of d and others.
func startHostOf(t *testing.T, trust *Trust, d *mandelDevice, others ...Device) *testHost {
	t.Helper()
	return startHostWith(t, trust, func(*Host) {}, d, others...)
}

// startHostWith is startHostOf for a host that prepare has made ready.
func startHostWith(t *testing.T, trust *Trust, prepare func(*Host), d *mandelDevice, others ...Device) *testHost {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log lockedLog
	h := &testHost{addr: l.Addr().String(), device: d}
	infos := []DeviceInfo{{ID: d.id, Kind: "cpu", Name: "test"}}
	for _, other := range others {
		infos = append(infos, DeviceInfo{ID: other.ID()})
	}
	h.Host = NewHost("host "+d.id, append([]Device{d}, others...), infos, slog.New(slog.NewTextHandler(&log, nil)))
	prepare(h.Host)
	h.logged = log.String
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l, trust) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		d.check(t)
	})
	t.Cleanup(h.stop)
	return h
}

func (h *testHost) dial(t *testing.T, trust *Trust) *RemoteHost {
	t.Helper()
	r, err := Dial(t.Context(), h.addr, "test", trust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
