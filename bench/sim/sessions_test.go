package sim

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// joinVariable has this program be hosts: "ADDRESS NUMBER". They end with its standard
// input, of which the first line is the key.
const joinVariable = "GPURUN_SIM_JOIN"

func TestMain(m *testing.M) {
	if to := os.Getenv(joinVariable); to != "" {
		if err := joinAll(to, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, "sim: hosts:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func trustOf(key string) (*dist.Trust, error) {
	k, err := dist.ParseKey(strings.TrimSpace(key))
	if err != nil {
		return nil, err
	}
	return dist.TrustKey(k)
}

// joinAll has hosts join a coordinator, each with a device of no work.
func joinAll(to string, in io.Reader) error {
	addr, number, _ := strings.Cut(to, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	lines := bufio.NewReader(in)
	key, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	trust, err := trustOf(key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range n {
		host := dist.NewHost(fmt.Sprint("host", i), []dist.Device{idle{}}, []dist.DeviceInfo{{ID: "idle", Kind: "cpu", F32: "exact", F64: "exact"}}, nil)
		go host.Join(ctx, addr, trust)
	}
	_, err = io.Copy(io.Discard, lines)
	return err
}

// idle is a device whose results are noise that was there before.
type idle struct{}

func (idle) ID() string                                                 { return "idle" }
func (idle) Slots() int                                                 { return 1 }
func (idle) Close() error                                               { return nil }
func (idle) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return idle{}, nil }
func (idle) Run(_ context.Context, _ kernels.Tile, r *kernels.Result) error {
	for _, plane := range r.Planes {
		if string(plane[:4]) != string(pretend.Noise[:4]) {
			copy(plane, pretend.Noise)
		}
	}
	return nil
}

// counted is a connection of which the bytes are counted.
type counted struct {
	net.Conn
	in, out *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// sessions is a coordinator's, with hosts that are another process.
type sessions struct {
	devices []dist.Device
	in, out atomic.Int64 // bytes on all connections, TLS included
}

func startSessions(b *testing.B, n int) *sessions {
	key := dist.NewKey().Reveal()
	trust, err := trustOf(key)
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", joinVariable, l.Addr(), n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if _, err := fmt.Fprintln(in, key); err != nil {
		b.Fatal(err)
	}
	s := &sessions{}
	for range n {
		conn, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		r, err := dist.Accept(b.Context(), counted{conn, &s.in, &s.out}, "sim", trust)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { r.Close() })
		s.devices = append(s.devices, r.Devices()...)
	}
	return s
}

// nowhere takes results and forgets them.
type nowhere struct{}

func (nowhere) Put(kernels.Tile, *kernels.Result) error { return nil }

// BenchmarkSessions measures what hosts cost their coordinator: memory, when they have
// nothing to do, and the processor's time and the bytes on the line for a tile beside its
// result, of 1 KiB and of 64.
func BenchmarkSessions(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			memory := func() uint64 {
				var m runtime.MemStats
				for range 3 { // pools give back what they hold at the second
					runtime.GC()
				}
				runtime.ReadMemStats(&m)
				return m.HeapAlloc + m.StackInuse
			}
			time.Sleep(time.Second) // until what was before has gone
			memoryBefore, goroutines := memory(), runtime.NumGoroutine()
			s := startSessions(b, n)
			for range b.N {
				before := processor()
				time.Sleep(6 * time.Second)
				b.ReportMetric(float64((processor()-before).Microseconds())/6/float64(n), "idle-µs/s/host")
				b.ReportMetric(float64(memory()-memoryBefore)/1024/float64(n), "KiB/host")
				b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(n), "goroutines/host")
				s.run(b, 16, 256)
				s.run(b, 128, 64)
			}
		})
	}
}

// run has the hosts compute as many tiles in a row as in a column, each of as many elements
// in a row as in a column.
func (s *sessions) run(b *testing.B, elements, tiles int) {
	axis := make([]float64, elements*tiles)
	for i := range axis {
		axis[i] = 100
	}
	job := &kernels.Mandelbrot{T: kernels.Float64, CX: axis, CY: axis, MaxIter: 1, R2: 4}
	in, out, before := s.in.Load(), s.out.Load(), processor()
	if _, err := dist.Run(b.Context(), job, s.devices, nowhere{}, dist.Options{Tiles: tiles * tiles}); err != nil {
		b.Fatal(err)
	}
	each := func(x float64) float64 { return x / float64(tiles*tiles) }
	name := fmt.Sprintf("/tile/%dKiB", elements*elements*4>>10)
	b.ReportMetric(each(float64((processor() - before).Microseconds())), "cpu-µs"+name)
	b.ReportMetric(each(float64(s.out.Load()-out-int64(16*len(axis)*len(s.devices)))), "B-out"+name)
	b.ReportMetric(each(float64(s.in.Load()-in))-float64(4*elements*elements), "B-in-besides"+name)
}
