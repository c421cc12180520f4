package dist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
	"github.com/gpurun/gpurun/tiler"
)

// What the tests of peers that talk nonsense share. Such a peer has a session
// like any other, and what it then does follows from a string of bytes: from a
// fuzzer, or at random.

// script is the string. At its end there are only zeros.
type script []byte

func (s *script) next() int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b)
}

// take returns the next n bytes, or those that are left.
func (s *script) take(n int) []byte {
	n = min(n, len(*s))
	b := (*s)[:n]
	*s = (*s)[n:]
	return b
}

// randomScripts calls do with random scripts, and prints the seed and the one
// that fails.
func randomScripts(t *testing.T, n int, do func(t *testing.T, s script)) {
	seed := rand.Uint64()
	// Now, and not to the test's log: the panic of another goroutine loses that.
	fmt.Fprintf(os.Stderr, "%s: seed %d\n", t.Name(), seed)
	for i := range uint64(n) {
		rng := rand.New(rand.NewPCG(seed, i))
		s := make(script, rng.IntN(300))
		for j := range s {
			s[j] = byte(rng.Uint32())
		}
		func() {
			defer func() { // also where do ends the test
				if t.Failed() {
					t.Logf("seed %d, script %d: %x", seed, i, []byte(s))
				}
			}()
			do(t, s)
		}()
		if t.Failed() {
			return
		}
	}
}

// knownJob is a job whose every result is known.
type knownJob struct {
	*kernels.Mandelbrot
	spec   []byte
	planes [][]byte
}

// knownJobs have results that go with the messages, and larger ones.
var knownJobs = sync.OnceValue(func() (jobs []knownJob) {
	for i, size := range [][2]int{{9, 7}, {64, 48}, {1, 1}, {160, 120}} {
		job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: 20, R2: 4, Magnitudes: i%2 == 0}
		job.CX, job.CY = kernels.Axes(job.T, -0.5, 0, 3, size[0], size[1])
		whole := kernels.NewResult(job, job.Bounds())
		cpu.Generic.Mandelbrot(job, job.Bounds(), whole, cpu.Once(0, job.Bounds().Area()), new(atomic.Bool))
		spec, err := encodeJob(job)
		if err != nil {
			panic(err)
		}
		jobs = append(jobs, knownJob{job, spec, whole.Planes})
	}
	return jobs
})

// result returns what j has for t, plane behind plane.
func (j *knownJob) result(t kernels.Tile) (all []byte) {
	for i, d := range j.Planes() {
		plane := make([]byte, t.Area()*d.Size())
		tiler.Cut(plane, t, j.planes[i], j.Bounds().W, d.Size())
		all = append(all, plane...)
	}
	return all
}

// mustFrame returns the frame of a message, with bulk data behind it.
func mustFrame(typ messageType, message any, bulk ...byte) []byte {
	b, err := appendFrame(nil, typ, message, int64(len(bulk)))
	if err != nil {
		panic(err)
	}
	return append(b, bulk...)
}

// writePieces writes b to stream in frames of yamux as long as those of a session.
func writePieces(stream io.Writer, b []byte) error {
	for piece := range slices.Chunk(b, bulkFrame) {
		if _, err := stream.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// unwilling is a device that begins no job.
type unwilling struct{ *mandelDevice }

func (unwilling) Begin(context.Context, kernels.Job) (kernels.Runner, error) {
	return nil, errors.New("unwilling")
}

// pipedHost is a host that is connected to by pipes, and its devices: one that
// is good, one that begins no job and one that fails every tile.
type pipedHost struct {
	*Host
	devices []*mandelDevice
	ctx     context.Context
	cancel  context.CancelFunc
	serving sync.WaitGroup
}

func newPipedHost() *pipedHost {
	h := &pipedHost{devices: []*mandelDevice{
		{id: "good"}, {id: "unwilling"}, {id: "failing", fault: func(context.Context) error { return errors.New("failing") }},
	}}
	h.Host = NewHost("host", []Device{h.devices[0], unwilling{h.devices[1]}, h.devices[2]}, make([]DeviceInfo, 3), nil)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// connect returns the other end of a connection, on which the host waits for
// the greeting, and what ServeConn will return.
func (h *pipedHost) connect() (conn net.Conn, served <-chan error) {
	here, there := net.Pipe()
	ended := make(chan error, 1)
	h.serving.Go(func() { ended <- h.ServeConn(h.ctx, here, nil, "") })
	return there, ended
}

// stop ends the host, and fails the test if it has left something open.
func (h *pipedHost) stop(t testing.TB) {
	t.Helper()
	h.cancel()
	h.serving.Wait()
	for _, d := range h.devices {
		d.check(t)
	}
}

// honest has a coordinator that keeps to the protocol run a job on the host's
// good device, and calls the result wrong if it is.
func (h *pipedHost) honest(t testing.TB) {
	conn, _ := h.connect()
	r, err := newRemoteHost(h.ctx, conn, "pipe", "honest", nil, "host")
	if err != nil {
		t.Errorf("the honest coordinator cannot connect: %v", err)
		return
	}
	defer r.Close()
	job := knownJobs()[1]
	sink := newImageSink(job.Mandelbrot)
	if _, err := Run(h.ctx, job.Mandelbrot, r.Devices()[:1], sink, Options{Tiles: 4}); err != nil {
		t.Errorf("the honest coordinator's job: %v", err)
		return
	}
	for i, plane := range sink.planes {
		if !bytes.Equal(plane, job.planes[i]) {
			t.Error("the honest coordinator has a wrong result")
		}
	}
}

// brief returns a few characters of v.
func brief(v any) string { return fmt.Sprintf("%.200s", fmt.Sprintf("%+v", v)) }

// secure establishes trust over conn, which was dialled to the machine called
// dialled, or accepted if that is empty.
func secure(ctx context.Context, conn net.Conn, trust *Trust, dialled string) (net.Conn, error) {
	if dialled != "" {
		return trust.Client(ctx, conn, dialled)
	}
	return trust.Server(ctx, conn)
}
