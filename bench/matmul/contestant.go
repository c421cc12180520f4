package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// contestant is one library with one number of threads, in a process of its own.
type contestant struct {
	name    string
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// start starts the contestants of the names given. One whose library is not
// installed is left out, with a line that says so.
func start(names []string, threads int) ([]*contestant, error) {
	var out []*contestant
	for _, name := range names {
		if name == "" || name == "gonum" && threads > 1 {
			continue
		}
		c, err := startOne(name, threads)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		greeting, err := c.out.ReadString('\n')
		if err != nil {
			c.stop()
			fmt.Printf("%s takes no part\n", name)
			continue
		}
		fmt.Printf("%s: %s", name, greeting)
		out = append(out, c)
	}
	return out, nil
}

func startOne(name string, threads int) (*contestant, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &contestant{name: name, process: exec.Command(self, "-child", fmt.Sprintf("%s/%d", name, threads))}
	c.process.Stderr = os.Stderr
	if c.in, err = c.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.process.Start()
}

func (c *contestant) stop() {
	c.in.Close()
	c.process.Wait()
}

// measure returns the seconds that a product takes.
func (c *contestant) measure(t kernels.DType, s shape, slice time.Duration) (float64, error) {
	fmt.Fprintln(c.in, t, s, slice)
	line, err := c.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("%s: %s %v: %w", c.name, t, s, err)
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}

// multiplier multiplies matrices, n times, that are stored row by row without
// gaps, with α = 1 and β = 0.
type multiplier interface {
	about() string
	gemm32(n int, s shape, a, b, c []float32)
	gemm64(n int, s shape, a, b, c []float64)
}

// serve is a contestant's process: it answers each line of in.
func serve(child string, in io.Reader, out io.Writer) error {
	name, count, _ := strings.Cut(child, "/")
	threads, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(threads)
	m, err := open(name, threads)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, m.about())
	var text string
	var product func(n int)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		s, err := parseShape(fields[1])
		if err != nil {
			return err
		}
		slice, err := time.ParseDuration(fields[2])
		if err != nil {
			return err
		}
		if what := fields[0] + fields[1]; what != text {
			text, product = what, newProduct(m, fields[0], s)
			runtime.GC()
		}
		fmt.Fprintln(out, timeOf(product, slice).Seconds())
	}
	return nil
}

func newProduct(m multiplier, typ string, s shape) func(n int) {
	if typ == "f32" {
		a, b, c := random[float32](s.m*s.k), random[float32](s.k*s.n), random[float32](s.m*s.n)
		return func(n int) { m.gemm32(n, s, a, b, c) }
	}
	a, b, c := random[float64](s.m*s.k), random[float64](s.k*s.n), random[float64](s.m*s.n)
	return func(n int) { m.gemm64(n, s, a, b, c) }
}

func random[T float32 | float64](n int) []T {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]T, n)
	for i := range out {
		out[i] = T(rng.Float64() + 0.5)
	}
	return out
}

// timeOf returns the time of one product: it does as many as fit in the slice,
// after at least one that does not count.
func timeOf(product func(n int), slice time.Duration) time.Duration {
	n := 1
	for {
		begin := time.Now()
		product(n)
		took := time.Since(begin)
		if took > slice/20 {
			n = max(1, int(float64(n)*float64(slice)/float64(took)))
			break
		}
		n *= 4
	}
	begin := time.Now()
	product(n)
	return time.Duration(float64(time.Since(begin)) / float64(n))
}
