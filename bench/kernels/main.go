// Command kernels measures kernels of users over arrays in memory, beside the same in plain Go,
// in gonum, and by PyOpenCL on the same OpenCL device.
//
//	go run ./bench/kernels
//	go run ./bench/kernels -dtype f64 -elements 1000000 -rounds 15 -device ocl:0.1
//
// The tasks: saxpy, z = a·x + y; hypot, z = √(x² + y²); horner, a polynomial of degree 20; dot, the
// sum of x·y. gonum/floats has two of them, in float64. Arrays begin and end in the memory of the process. PyOpenCL is
// measured twice: with its arrays on the device already, and so that they are copied there and
// back, as gpurun has to.
//
// Each contestant is a process of its own, and in each round all take turns. Times are medians
// over the rounds, and ratios medians of the rounds' ratios. What was computed is compared: the
// arrays bit for bit, sums to 1e-4, as each adds in another order.
//
// Debian has PyOpenCL as python3-pyopencl, and PoCL, on which all this can be run without a GPU, as
// pocl-opencl-icd.
package main

import (
	"bufio"
	_ "embed"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

//go:embed python/pyopencl_contestant.py
var script []byte

// tasks are what is measured.
var tasks = []string{"saxpy", "hypot", "horner", "dot"}

// contestant is a process that computes a task when it is told to.
type contestant struct {
	name  string
	in    *bufio.Writer
	out   *bufio.Scanner
	times map[string][]float64 // of each task, in seconds
	cmd   *exec.Cmd
}

func main() {
	elements := flag.Int("elements", 1<<25, "the elements of each array")
	rounds := flag.Int("rounds", 9, "how often to measure everything")
	dtype := flag.String("dtype", "f32", "the type of the elements: f32 or f64")
	device := flag.String("device", "ocl:0.0", "the OpenCL device, as gpurun devices lists it")
	child := flag.String("child", "", "be the process of one contestant; for this command's own use")
	flag.Parse()
	switch {
	case *dtype != "f32" && *dtype != "f64":
		fail(fmt.Errorf("-dtype %s: it is f32 or f64", *dtype))
	case *child != "" && *dtype == "f64":
		serve[float64](*child, *device, *elements)
		return
	case *child != "":
		serve[float32](*child, *device, *elements)
		return
	}
	if err := measure(setup{*elements, *dtype, *device}, *rounds); err != nil {
		fail(err)
	}
}

// setup is what each contestant is told.
type setup struct {
	elements      int
	dtype, device string
}

func measure(s setup, rounds int) error {
	all, end, err := startAll(s)
	defer end()
	if err != nil {
		return err
	}
	wants := map[string]answer{}
	for round := -1; round < rounds; round++ { // the first, in which things are compiled, does not count
		for _, task := range tasks {
			for _, c := range all {
				if !c.does(task) {
					continue
				}
				a, err := c.ask(task)
				if err != nil {
					return err
				}
				if want, ok := wants[task]; !ok {
					wants[task] = a
				} else if a.bits != want.bits || math.Abs(a.sum-want.sum) > 1e-4*math.Abs(want.sum) {
					return fmt.Errorf("%s: %s computes something else: %v in place of %v", task, c.name, a, want)
				}
				if round >= 0 {
					c.times[task] = append(c.times[task], a.seconds)
				}
			}
		}
	}
	fmt.Printf("%d elements of %s, OpenCL device %s, medians of %d rounds in ms; in parentheses ÷ gpurun on OpenCL\n", s.elements, s.dtype, s.device, rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t%s\t\n", strings.Join(tasks, "\t"))
	for _, c := range all {
		row := []string{c.name}
		for _, task := range tasks {
			if !c.does(task) {
				row = append(row, "–")
				continue
			}
			var ratios []float64
			for i, t := range c.times[task] {
				ratios = append(ratios, t/all[0].times[task][i])
			}
			row = append(row, fmt.Sprintf("%.1f (%.2f)", 1e3*median(c.times[task]), median(ratios)))
		}
		fmt.Fprintf(w, "%s\t\n", strings.Join(row, "\t"))
	}
	return w.Flush()
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// startAll starts the contestants. The caller calls end.
func startAll(s setup) (all []*contestant, end func(), err error) {
	folder, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return nil, func() {}, err
	}
	end = func() {
		for _, c := range all {
			fmt.Fprintln(c.in)
			c.in.Flush()
		}
		for _, c := range all {
			_ = c.cmd.Wait()
		}
		os.RemoveAll(folder)
	}
	path := filepath.Join(folder, "pyopencl_contestant.py")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		return nil, end, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, end, err
	}
	n := strconv.Itoa(s.elements)
	names := ours
	if s.dtype == "f64" {
		names = append(slices.Clip(ours), gonum)
	}
	var commands [][]string
	for _, name := range names {
		commands = append(commands, []string{self, "-child", name, "-elements", n, "-dtype", s.dtype, "-device", s.device})
	}
	pythons := []string{"python3", "/usr/bin/python3"}
	i := slices.IndexFunc(pythons, func(p string) bool { return exec.Command(p, "-c", "import pyopencl").Run() == nil })
	if i < 0 {
		fmt.Fprintf(os.Stderr, "without PyOpenCL: neither %s has it\n", strings.Join(pythons, " nor "))
	} else {
		for _, how := range []string{"resident", "copied"} {
			names = append(slices.Clip(names), "PyOpenCL, "+how)
			commands = append(commands, []string{pythons[i], "-B", path, how, n, s.dtype, s.device})
		}
	}
	for i, command := range commands {
		c, err := start(names[i], command)
		if err != nil {
			return all, end, err
		}
		all = append(all, c)
	}
	return all, end, nil
}

// start starts a contestant.
func start(name string, command []string) (*contestant, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &contestant{name, bufio.NewWriter(in), bufio.NewScanner(out), map[string][]float64{}, cmd}, cmd.Start()
}

// does reports whether c can compute a task.
func (c *contestant) does(task string) bool {
	return c.name != gonum || task == "saxpy" || task == "dot"
}

// answer is what a contestant says of a task.
type answer struct {
	seconds float64
	bits    uint64 // the sum of the bits of the result's elements
	sum     float64
}

// ask has c compute a task.
func (c *contestant) ask(task string) (a answer, err error) {
	fmt.Fprintln(c.in, task)
	if err := c.in.Flush(); err != nil {
		return a, fmt.Errorf("%s: %w", c.name, err)
	}
	if !c.out.Scan() {
		return a, fmt.Errorf("%s ended", c.name)
	}
	if _, err := fmt.Sscan(c.out.Text(), &a.seconds, &a.bits, &a.sum); err != nil {
		return a, fmt.Errorf("%s says %q", c.name, c.out.Text())
	}
	return a, nil
}
