package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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
	worst   float64 // the largest relative error since it was set to 0
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
		if errors.Is(err, errMissing) {
			fmt.Printf("%s takes no part: %v\n", name, err)
			continue
		}
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

// errMissing is matched by the error about a contestant that cannot be started
// here.
var errMissing = errors.New("not installed")

func startOne(name string, threads int) (*contestant, error) {
	command, err := commandOf(name, threads)
	if err != nil {
		return nil, err
	}
	c := &contestant{name: name, process: command}
	c.process.Env = append(os.Environ(), limits(name, threads)...)
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

func commandOf(name string, threads int) (*exec.Cmd, error) {
	if name == "numpy" {
		return numpyCommand()
	}
	self, err := os.Executable()
	return exec.Command(self, "-child", fmt.Sprintf("%s/%d", name, threads)), err
}

// limits returns the environment variables that limit a contestant's threads,
// where those are read when its library is loaded.
func limits(name string, threads int) []string {
	var variables []string
	switch {
	case name == "numpy":
		variables = []string{"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"}
	case usesOpenCL(name):
		variables = []string{"POCL_MAX_PTHREAD_COUNT", "POCL_CPU_MAX_CU_COUNT"} // of PoCL before and from version 4
	}
	for i, v := range variables {
		variables[i] = fmt.Sprintf("%s=%d", v, threads)
	}
	return variables
}

func (c *contestant) stop() {
	c.in.Close()
	c.process.Wait()
}

// measure returns the seconds that a product takes.
func (c *contestant) measure(t kernels.DType, s shape, slice time.Duration) (float64, error) {
	fmt.Fprintln(c.in, t, s, slice.Seconds())
	line, err := c.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("%s: %s %v: %w", c.name, t, s, err)
	}
	fail := func(err error) (float64, error) { return 0, fmt.Errorf("%s: %s %v: %w", c.name, t, s, err) }
	if message, failed := strings.CutPrefix(line, failure); failed {
		return fail(errors.New(strings.TrimSpace(message)))
	}
	var seconds, largest float64
	if _, err := fmt.Sscan(line, &seconds, &largest); err != nil {
		return fail(err)
	}
	c.worst = max(c.worst, largest)
	if err := checkError(t, s, largest); err != nil {
		return fail(err)
	}
	return seconds, nil
}

// failure is how an answer begins that is the message of an error.
const failure = "! "

// serve is a contestant's process: it answers each line of in, which is a type, a
// shape and the seconds to measure, with the seconds that the product takes and
// its largest relative error.
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
	var r ready
	for lines := bufio.NewScanner(in); lines.Scan(); {
		seconds, err := r.answer(m, strings.Fields(lines.Text()))
		if err != nil {
			fmt.Fprintf(out, "%s%v\n", failure, err)
			continue
		}
		fmt.Fprintln(out, seconds, r.worst)
	}
	return nil
}

// ready is the product that was asked for last.
type ready struct {
	text  string
	p     product
	worst float64
}

func (r *ready) answer(m multiplier, fields []string) (float64, error) {
	s, err := parseShape(fields[1])
	if err != nil {
		return 0, err
	}
	slice, err := strconv.ParseFloat(fields[2], 64)
	if err != nil {
		return 0, err
	}
	if what := fields[0] + fields[1]; what != r.text {
		if r.text != "" {
			r.p.close()
		}
		*r = ready{}
		if r.p, r.worst, err = newProduct(m, fields[0], s); err != nil {
			return 0, err
		}
		r.text = what
		runtime.GC()
	}
	return timeOf(r.p.times, slice)
}

// timeOf returns the seconds of one product: it does as many as fit in the slice,
// after at least one that does not count.
func timeOf(product func(n int) error, slice float64) (float64, error) {
	n := 1
	for {
		begin := time.Now()
		if err := product(n); err != nil {
			return 0, err
		}
		if took := time.Since(begin).Seconds(); took > slice/20 {
			n = max(1, int(float64(n)*slice/took))
			break
		}
		n *= 4
	}
	begin := time.Now()
	err := product(n)
	return time.Since(begin).Seconds() / float64(n), err
}
