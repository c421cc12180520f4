//go:build linux

package network

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// settings is what a worker is told, in the environment variable workerVariable.
type settings struct {
	Key, IP string

	// Seconds is how long the worker's device takes for the whole image of view,
	// and 0 for one whose results are noise and take no time.
	Seconds float64
}

const (
	workerVariable = "GPURUN_BENCH_WORKER"
	ready          = "the worker listens"

	// The ports of a worker: of its host, and of the bare connections.
	hostPort = "9473"
	barePort = "9474"
)

// TestMain has this program be a worker too.
func TestMain(m *testing.M) {
	text := os.Getenv(workerVariable)
	if text == "" {
		goleak.VerifyTestMain(m)
		return
	}
	var s settings
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = work(s)
	}
	fmt.Fprintln(os.Stderr, "worker:", err)
	os.Exit(1)
}

// view covers y from −1.3 to 0.35: a symmetric one would hide bad shares. Its
// results are 11 MB.
var view = gpurun.View{Center: complex(-0.5, -0.475), Span: 3, Width: 1600, Height: 880, MaxIter: 1000, EscapeRadius: 2}

// work serves until it is killed.
func work(s settings) error {
	key, err := dist.ParseKey(s.Key)
	if err != nil {
		return err
	}
	trust, err := dist.TrustKey(key)
	if err != nil {
		return err
	}
	device := dist.Device(noise{})
	if s.Seconds > 0 {
		image, err := pretend.Compute(view)
		if err != nil {
			return err
		}
		device = &pretend.Sleeper{Name: "sleeper", Image: image, Rate: image.Total / s.Seconds}
	}
	bare, err := net.Listen("tcp", net.JoinHostPort(s.IP, barePort))
	if err != nil {
		return err
	}
	go serveBare(bare)
	l, err := net.Listen("tcp", net.JoinHostPort(s.IP, hostPort))
	if err != nil {
		return err
	}
	host := dist.NewHost(s.IP, []dist.Device{device}, []dist.DeviceInfo{{ID: device.ID(), Kind: "cpu", F32: "exact", F64: "exact"}}, nil)
	fmt.Println(ready)
	return host.Serve(context.Background(), l, trust)
}

// serveBare sends to each connection as many bytes as it asks for, again and
// again.
func serveBare(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var want [8]byte
			for {
				if _, err := io.ReadFull(conn, want[:]); err != nil {
					return
				}
				for left := int(binary.LittleEndian.Uint64(want[:])); left > 0; {
					n, err := conn.Write(pretend.Noise[:min(left, 256<<10)])
					if err != nil {
						return
					}
					left -= n
				}
			}
		}()
	}
}

// noise is a device that takes no time. Each of its results is another part of
// pretend.Noise.
type noise struct{}

func (noise) ID() string                                                 { return "noise" }
func (noise) Slots() int                                                 { return 1 }
func (noise) Close() error                                               { return nil }
func (noise) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return noise{}, nil }

func (noise) Run(_ context.Context, _ kernels.Tile, r *kernels.Result) error {
	for _, plane := range r.Planes {
		copy(plane, pretend.Noise[rand.IntN(len(pretend.Noise)-len(plane)):])
	}
	return nil
}
