package dist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
}

func (d *mandelDevice) ID() string { return d.id }
func (d *mandelDevice) Slots() int { return 1 }

func (d *mandelDevice) Begin(_ context.Context, job kernels.Job) (kernels.Runner, error) {
	d.open.Add(1)
	return &mandelRunner{d, job.(*kernels.Mandelbrot)}, nil
}

type mandelRunner struct {
	*mandelDevice
	job *kernels.Mandelbrot
}

func (r *mandelRunner) Close() error {
	r.open.Add(-1)
	return nil
}

func (r *mandelRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	r.tiles.Add(1)
	if r.fault != nil {
		if err := r.fault(ctx); err != nil {
			return err
		}
	}
	if err := pause(ctx, r.pause); err != nil {
		return err
	}
	cpu.Generic.Mandelbrot(r.job, t, out, 0, t.Area(), new(atomic.Bool))
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
	cpu.Generic.Mandelbrot(s.job.(*kernels.Mandelbrot), s.job.Bounds(), want, 0, s.job.Bounds().Area(), new(atomic.Bool))
	if !slices.EqualFunc(s.planes, want.Planes, bytes.Equal) {
		t.Error("the result differs")
	}
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var log strings.Builder
	h := &testHost{addr: l.Addr().String(), device: d}
	h.Host = NewHost("host "+d.id, []Device{d}, []DeviceInfo{{ID: d.id, Kind: "cpu", Name: "test"}}, func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&log, format+"\n", args...)
	})
	h.logged = func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l, trust) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		if n := d.open.Load(); n != 0 {
			t.Errorf("%d runners were left open", n)
		}
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

// TestRemote computes a job on one host and on three, in the clear and with a
// key, together with a device of this machine and without.
func TestRemote(t *testing.T) {
	trust, err := TrustKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, trust := range map[string]*Trust{"plain": nil, "key": trust} {
		for _, hosts := range []int{1, 3} {
			for _, local := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", name, hosts, local), func(t *testing.T) {
					var devices []Device
					if local {
						devices = append(devices, &mandelDevice{id: "local", pause: time.Millisecond})
					}
					for i := range hosts {
						h := startHost(t, trust, &mandelDevice{id: fmt.Sprint("d", i), pause: time.Millisecond})
						devices = append(devices, h.dial(t, trust).Devices()...)
					}
					sink := newImageSink(remoteJob())
					r, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 40})
					if err != nil {
						t.Fatal(err)
					}
					sink.check(t)
					sum := 0.0
					for _, d := range r.Devices {
						sum += d.Share
						if d.Tiles == 0 || d.Busy <= 0 {
							t.Errorf("%s did nothing: %+v", d.ID, d)
						}
					}
					if sum < 0.999 || sum > 1.001 || r.Lost != 0 {
						t.Errorf("the shares sum to %g, and %d leases were lost", sum, r.Lost)
					}
				})
			}
		}
	}
}

// TestRemoteLost ends one of two hosts in the middle of a job.
func TestRemoteLost(t *testing.T) {
	good := startHost(t, nil, &mandelDevice{id: "good", pause: 2 * time.Millisecond})
	bad := startHost(t, nil, &mandelDevice{id: "bad", pause: 2 * time.Millisecond})
	devices := append(good.dial(t, nil).Devices(), bad.dial(t, nil).Devices()...)
	go func() {
		for bad.device.tiles.Load() < 3 {
			time.Sleep(time.Millisecond)
		}
		bad.stop()
	}()
	sink := newImageSink(remoteJob())
	r, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 60})
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if r.Lost == 0 || r.Devices[1].SetAside == nil || !strings.Contains(r.Devices[1].SetAside.Error(), bad.addr) {
		t.Errorf("the loss is not in the report: %+v", r)
	}
}

// TestRemoteAllLost ends the only host: without another the job ends and says
// so; with one that comes in time it is done.
func TestRemoteAllLost(t *testing.T) {
	for _, comes := range []bool{false, true} {
		t.Run(fmt.Sprint(comes), func(t *testing.T) {
			h := startHost(t, nil, &mandelDevice{id: "d", pause: time.Millisecond})
			devices := h.dial(t, nil).Devices()
			join := make(chan Device, 1)
			go func() {
				for h.device.tiles.Load() < 3 {
					time.Sleep(time.Millisecond)
				}
				h.stop()
				if comes {
					time.Sleep(20 * time.Millisecond)
					join <- startHost(t, nil, &mandelDevice{id: "late"}).dial(t, nil).Devices()[0]
				}
			}()
			sink := newImageSink(remoteJob())
			wait := 10 * time.Second
			if !comes {
				wait = 50 * time.Millisecond
			}
			_, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 30, Join: join, Wait: wait})
			switch {
			case comes && err != nil:
				t.Error(err)
			case comes:
				sink.check(t)
			case !errors.Is(err, ErrNoDevice) || !errors.Is(err, ErrLost):
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestRemoteFrozen has a host that computes for ever: the other ends the job.
func TestRemoteFrozen(t *testing.T) {
	good := startHost(t, nil, &mandelDevice{id: "good", pause: time.Millisecond})
	frozen := startHost(t, nil, &mandelDevice{id: "frozen", fault: hang})
	devices := append(good.dial(t, nil).Devices(), frozen.dial(t, nil).Devices()...)
	sink := newImageSink(remoteJob())
	if _, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 20}); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}

// TestRemoteFailure has a kernel that says no: its words reach the coordinator.
func TestRemoteFailure(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(context.Context) error { return errors.New("no such luck") }})
	_, err := Run(t.Context(), remoteJob(), h.dial(t, nil).Devices(), newImageSink(remoteJob()), Options{Tiles: 4})
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), h.addr+"/d") {
		t.Errorf("the error is %v", err)
	}
}

// TestRemoteCancel cancels a job: the host is free at once.
func TestRemoteCancel(t *testing.T) {
	var running atomic.Int32
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(ctx context.Context) error {
		running.Add(1)
		defer running.Add(-1)
		return hang(ctx)
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, remoteJob(), h.dial(t, nil).Devices(), newImageSink(remoteJob()), Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	for range 200 {
		if running.Load() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the host is still at it")
}

// TestRemoteDrain has a host leave while it works: nothing is lost but what it
// had not begun, and Serve returns.
func TestRemoteDrain(t *testing.T) {
	stays := startHost(t, nil, &mandelDevice{id: "stays", pause: time.Millisecond})
	leaves := startHost(t, nil, &mandelDevice{id: "leaves", pause: time.Millisecond})
	devices := append(stays.dial(t, nil).Devices(), leaves.dial(t, nil).Devices()...)
	go func() {
		for leaves.device.tiles.Load() < 3 {
			time.Sleep(time.Millisecond)
		}
		leaves.Drain()
	}()
	sink := newImageSink(remoteJob())
	r, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 100})
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if r.Lost != 0 || r.Retries != 0 || r.Devices[1].SetAside != nil || r.Devices[1].Tiles == 0 {
		t.Errorf("leaving in peace counts as a loss: %+v", r)
	}
}

// TestTwoCoordinators has one host serve two at once.
func TestTwoCoordinators(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", pause: time.Millisecond})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			sink := newImageSink(remoteJob())
			if _, err := Run(t.Context(), remoteJob(), h.dial(t, nil).Devices(), sink, Options{Tiles: 30}); err != nil {
				t.Error(err)
			}
			sink.check(t)
		})
	}
	wg.Wait()
}

// TestHostilePeers connects to a host and says nothing, nonsense, and too much:
// the host stays good for others.
func TestHostilePeers(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d"})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	garbage := make([]byte, 1<<16)
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	for _, say := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n"), garbage} {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(say)
	}
	sink := newImageSink(remoteJob())
	if _, err := Run(t.Context(), remoteJob(), h.dial(t, nil).Devices(), sink, Options{Tiles: 5}); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}

// TestFrames checks that a frame survives the wire, and that lengths are looked
// at before memory is taken.
func TestFrames(t *testing.T) {
	lease := leaseMessage{Lease: 1 << 60, Job: 7, X: 1, Y: 2, W: 3, H: 1 << 29}
	b, err := appendFrame(nil, typeLease, lease, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := readFrame(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var got leaseMessage
	if err := f.decode(&got); err != nil || got != lease || f.typ != typeLease {
		t.Errorf("%+v became %+v, %v", lease, got, err)
	}
	header := func(typ byte, message uint32, bulk uint64) []byte {
		h := []byte{typ, 0, 0, 0}
		h = binary.LittleEndian.AppendUint32(h, message)
		return binary.LittleEndian.AppendUint64(h, bulk)
	}
	for name, bad := range map[string][]byte{
		"no such type":       header(200, 0, 0),
		"type 0":             header(0, 0, 0),
		"reserved bytes":     {byte(typeLease), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a long message":     header(byte(typeLease), maxMessage+1, 0),
		"a very long begin":  header(byte(typeBegin), maxBegin+1, 0),
		"bulk with a lease":  header(byte(typeLease), 0, 1),
		"more than 2^31":     header(byte(typeResult), 0, maxBulk+1),
		"more than can be":   header(byte(typeResult), 0, 1<<63),
		"the end":            header(byte(typeLease), 10, 0),
		"half of the header": header(byte(typeLease), 10, 0)[:7],
	} {
		if f, err := readFrame(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: read %+v", name, f)
		} else if strings.HasPrefix(name, "the end") || strings.HasPrefix(name, "half") {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJobsOnTheWire(t *testing.T) {
	want := remoteJob()
	want.Julia, want.CRe, want.CIm = true, -0.75, 0.125
	spec, err := encodeJob(want)
	if err != nil {
		t.Fatal(err)
	}
	job, err := decodeJob("mandelbrot", spec)
	if err != nil {
		t.Fatal(err)
	}
	got := job.(*kernels.Mandelbrot)
	if !slices.Equal(got.CX, want.CX) || !slices.Equal(got.CY, want.CY) || got.MaxIter != want.MaxIter || got.R2 != want.R2 ||
		got.T != want.T || !got.Julia || got.CRe != want.CRe || got.CIm != want.CIm || !got.Magnitudes {
		t.Errorf("%+v became %+v", want, got)
	}
	if _, err := decodeJob("nonsense", spec); !errors.Is(err, ErrProtocol) {
		t.Errorf("an unknown kernel: %v", err)
	}
	if _, err := encodeJob(fakeJob{1, 1}); err == nil {
		t.Error("a job without an encoding was encoded")
	}
}

func FuzzFrame(f *testing.F) {
	for typ := typeHello; typ <= typeDrain; typ++ {
		b, err := appendFrame(nil, typ, leaseMessage{Lease: 1, W: 2}, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, m := range []any{
			&helloMessage{}, &beginMessage{}, &beganMessage{}, &endMessage{}, &leaseMessage{},
			&cancelMessage{}, &resultMessage{}, &failedMessage{},
		} {
			if err := frame.decode(m); err != nil && !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
		}
	})
}

func FuzzJob(f *testing.F) {
	spec, err := encodeJob(remoteJob())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(spec)
	f.Fuzz(func(t *testing.T, data []byte) {
		job, err := decodeJob("mandelbrot", data)
		if err != nil {
			return
		}
		again, err := encodeJob(job)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeJob("mandelbrot", again); err != nil {
			t.Fatalf("what was decoded and encoded again is refused: %v", err)
		}
	})
}

// TestTurns checks that a coordinator that asks for much does not keep another
// from its turn.
func TestTurns(t *testing.T) {
	turns := newTurns(1)
	first, err := turns.take(t.Context(), "greedy")
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 4)
	var wg sync.WaitGroup
	for waiting, owner := range []string{"greedy", "greedy", "greedy", "modest"} {
		wg.Go(func() {
			done, err := turns.take(context.Background(), owner)
			if err != nil {
				t.Error(err)
				return
			}
			order <- owner
			done()
		})
		for turns.waiting() <= waiting {
			time.Sleep(time.Millisecond)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.take(cancelled, "gone"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled take: %v", err)
	}
	first()
	wg.Wait()
	if got := []string{<-order, <-order}; !slices.Equal(got, []string{"greedy", "modest"}) {
		t.Errorf("the order is %v", got)
	}
	if turns.free != 1 || len(turns.queues) != 0 {
		t.Errorf("%d slots are free, %d queues left", turns.free, len(turns.queues))
	}
}

// waiting returns how many wait for a turn.
func (t *turns) waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.queues {
		n += len(q.waiting)
	}
	return n
}
