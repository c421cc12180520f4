package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// cluster is some hosts, each a process of its own.
type cluster struct {
	trust   *dist.Trust
	memory  int // bytes that the bare connections read into by turns
	at      []addresses
	inputs  []io.Closer
	remotes []*dist.RemoteHost
	running []*exec.Cmd
}

func start(hosts int, key, profile string, memory int) (*cluster, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &cluster{memory: memory}
	if c.trust, err = trustOf(key); err != nil {
		return nil, err
	}
	for i := range hosts {
		s := settings{Key: key}
		if profile != "" {
			s.Profile = profile + ".host" + strconv.Itoa(i)
		}
		if err := c.startHost(self, s); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

func (c *cluster) startHost(self string, s settings) error {
	cmd := exec.Command(self, "-worker")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.inputs, c.running = append(c.inputs, in), append(c.running, cmd)
	if err := json.NewEncoder(in).Encode(s); err != nil {
		return err
	}
	var at addresses
	if err := json.NewDecoder(out).Decode(&at); err != nil {
		return fmt.Errorf("a host did not say where it listens: %w", err)
	}
	c.at = append(c.at, at)
	remote, err := dist.Dial(context.Background(), at.Host, "transport", c.trust)
	if err != nil {
		return err
	}
	c.remotes = append(c.remotes, remote)
	return nil
}

func (c *cluster) close() (err error) {
	for _, r := range c.remotes {
		r.Close()
	}
	for _, in := range c.inputs {
		in.Close()
	}
	for _, cmd := range c.running {
		err = errors.Join(err, cmd.Wait())
	}
	return err
}

// image returns a job of w×h elements of four bytes.
func image(w, h int) *kernels.Mandelbrot {
	axis := func(n int) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = 100 + float64(i)
		}
		return values
	}
	return &kernels.Mandelbrot{T: kernels.Float64, CX: axis(w), CY: axis(h), MaxIter: 1, R2: 4}
}

// counter is a sink that keeps nothing.
type counter struct{ bytes atomic.Int64 }

func (c *counter) Put(_ kernels.Tile, r *kernels.Result) error {
	for _, plane := range r.Planes {
		if string(plane[:8]) != string(pretend.Noise[:8]) {
			return errors.New("a result is not what was sent")
		}
		c.bytes.Add(int64(len(plane)))
	}
	return nil
}

// run runs job in so many tiles and returns how long that took.
func (c *cluster) run(job *kernels.Mandelbrot, tiles, hosts int) (time.Duration, error) {
	var devices []dist.Device
	for _, r := range c.remotes[:hosts] {
		devices = append(devices, r.Devices()...)
	}
	sink := &counter{}
	report, err := dist.Run(context.Background(), job, devices, sink, dist.Options{Tiles: tiles})
	if err != nil {
		return 0, err
	}
	if want := int64(kernels.ResultBytes(job, job.Bounds())); sink.bytes.Load() != want {
		return 0, fmt.Errorf("%d bytes came of %d", sink.bytes.Load(), want)
	}
	return report.Makespan, nil
}

// tilesPerSecond measures thousands of tiles a second, each of 16×16 elements,
// 1 KiB.
func tilesPerSecond(c *cluster, n sizes) (float64, error) {
	const columns = 100
	rows := (n.tiles + columns - 1) / columns
	took, err := c.run(image(16*columns, 16*rows), columns*rows, 2)
	return float64(columns*rows) / took.Seconds() / 1e3, err
}

// bulk measures MB/s of results of 4 MiB.
func bulk(c *cluster, n sizes) (float64, error) {
	const side = 1 << 10
	tiles := max(1, n.bytes/(4*side*side))
	job := image(side, side*tiles)
	took, err := c.run(job, tiles, 1)
	return float64(4*side*side*tiles) / took.Seconds() / 1e6, err
}

// roundTrip measures the median time, in µs, from asking for a tile of 1 KiB
// to having it.
func roundTrip(c *cluster, n sizes) (float64, error) {
	ctx := context.Background()
	job := image(16, 16)
	runner, err := c.remotes[0].Devices()[0].Begin(ctx, job)
	if err != nil {
		return 0, err
	}
	defer runner.Close()
	result := kernels.NewResult(job, job.Bounds())
	return medianTime(n.asks, func() error { return runner.Run(ctx, job.Bounds(), result) })
}

func medianTime(n int, f func() error) (float64, error) {
	times := make([]time.Duration, n)
	for i := range times {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return float64(times[n/2]) / 1e3, nil
}

// raw connects to a host without yamux.
func (c *cluster) raw(host int) (net.Conn, error) { return c.dial(c.at[host].Raw) }

// stream connects to a host with yamux and nothing else.
func (c *cluster) stream(host int) (net.Conn, error) {
	conn, err := c.dial(c.at[host].Yamux)
	if err != nil {
		return nil, err
	}
	mux, err := yamux.Client(conn, yamuxConfig())
	if err != nil {
		return nil, err
	}
	s, err := mux.Open()
	return muxed{s, mux}, err
}

// muxed closes its session with the stream.
type muxed struct {
	net.Conn
	session io.Closer
}

func (m muxed) Close() error { return m.session.Close() }

func (c *cluster) dial(addr string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil || c.trust == nil {
		return conn, err
	}
	return c.trust.Client(context.Background(), conn, "127.0.0.1")
}

func ask(conn net.Conn, what byte, n int) error {
	_, err := conn.Write(binary.LittleEndian.AppendUint64([]byte{what}, uint64(n)))
	return err
}

func yamuxAnswers(c *cluster, n sizes) (float64, error) { return bareAnswers(c.stream, n) }
func rawAnswers(c *cluster, n sizes) (float64, error)   { return bareAnswers(c.raw, n) }

func bareAnswers(dial func(int) (net.Conn, error), n sizes) (float64, error) {
	conn, err := dial(0)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := ask(conn, wantAnswers, n.asks); err != nil {
		return 0, err
	}
	back := make([]byte, message)
	return medianTime(n.asks, func() error {
		if _, err := conn.Write(pretend.Noise[:request]); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, back)
		return err
	})
}

func yamuxBulk(c *cluster, n sizes) (float64, error) { return c.bareBulk(c.stream, n) }
func rawBulk(c *cluster, n sizes) (float64, error)   { return c.bareBulk(c.raw, n) }

func (c *cluster) bareBulk(dial func(int) (net.Conn, error), n sizes) (float64, error) {
	conn, err := dial(0)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	size := n.bytes / chunk * chunk
	buffer := slices.Clone(pretend.Noise[:c.memory]) // its pages are there before the clock starts
	began := time.Now()
	if err := ask(conn, wantBytes, size); err != nil {
		return 0, err
	}
	for got := 0; got < size; {
		k, err := conn.Read(buffer[got%len(buffer):])
		if err != nil {
			return 0, err
		}
		got += k
	}
	return float64(size) / time.Since(began).Seconds() / 1e6, nil
}

// messagesPerSecond measures thousands of requests a second that are answered
// over bare streams to two hosts, many on the way at a time.
func messagesPerSecond(c *cluster, n sizes) (float64, error) {
	var group sync.WaitGroup
	errs := make([]error, 2)
	began := time.Now()
	for host := range errs {
		group.Go(func() { errs[host] = exchange(c, host, n.tiles/2) })
	}
	group.Wait()
	return float64(n.tiles/2*2) / time.Since(began).Seconds() / 1e3, errors.Join(errs...)
}

func exchange(c *cluster, host, n int) error {
	conn, err := c.stream(host)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ask(conn, wantMessages, n); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	// No more are on the way than the windows of both directions hold.
	credit := make(chan struct{}, 256)
	go func() {
		w := bufio.NewWriterSize(conn, 64<<10)
		for range n {
			select {
			case credit <- struct{}{}:
			default:
				if err := w.Flush(); err != nil {
					wrote <- err
					return
				}
				credit <- struct{}{}
			}
			if _, err := w.Write(pretend.Noise[:request]); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- w.Flush()
	}()
	r := bufio.NewReaderSize(conn, 64<<10)
	back := make([]byte, message)
	for range n {
		if _, err := io.ReadFull(r, back); err != nil {
			return err
		}
		<-credit
	}
	return <-wrote
}
