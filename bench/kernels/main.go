// Command kernels measures kernels of users over arrays in memory, beside the same in plain Go,
// in gonum, and by PyOpenCL on the same OpenCL device.
//
//	go run ./bench/kernels
//	go run ./bench/kernels -elements 1000000 -rounds 15
//
// The tasks, in float32: saxpy, z = a·x + y; hypot, z = √(x² + y²); horner, a polynomial of
// degree 20; dot, the sum of x·y. Arrays begin and end in the memory of the process. PyOpenCL is
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
}

func main() {
	elements := flag.Int("elements", 1<<25, "the elements of each array")
	rounds := flag.Int("rounds", 9, "how often to measure everything")
	child := flag.String("child", "", "be the process of one contestant; for this command's own use")
	flag.Parse()
	if *child != "" {
		serve(*child, *elements)
		return
	}
	if err := measure(*elements, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

func measure(elements, rounds int) error {
	all, end, err := startAll(elements)
	defer end()
	if err != nil {
		return err
	}
	wants := map[string]answer{}
	for round := -1; round < rounds; round++ { // the first, in which things are compiled, does not count
		for _, task := range tasks {
			for _, c := range all {
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
	fmt.Printf("%d elements of float32, medians of %d rounds in ms; in parentheses ÷ gpurun on OpenCL\n", elements, rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t%s\t\n", strings.Join(tasks, "\t"))
	for _, c := range all {
		row := []string{c.name}
		for _, task := range tasks {
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
func startAll(elements int) (all []*contestant, end func(), err error) {
	folder, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return nil, func() {}, err
	}
	var running []*exec.Cmd
	end = func() {
		for _, c := range all {
			fmt.Fprintln(c.in)
			c.in.Flush()
		}
		for _, cmd := range running {
			_ = cmd.Wait()
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
	n := strconv.Itoa(elements)
	start := func(name string, command ...string) error {
		cmd := exec.Command(command[0], command[1:]...)
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
		running = append(running, cmd)
		all = append(all, &contestant{name, bufio.NewWriter(in), bufio.NewScanner(out), map[string][]float64{}})
		return nil
	}
	for _, name := range ours {
		if err := start(name, self, "-child", name, "-elements", n); err != nil {
			return all, end, err
		}
	}
	pythons := []string{"python3", "/usr/bin/python3"}
	i := slices.IndexFunc(pythons, func(p string) bool { return exec.Command(p, "-c", "import pyopencl").Run() == nil })
	if i < 0 {
		fmt.Fprintf(os.Stderr, "without PyOpenCL: neither %s has it\n", strings.Join(pythons, " nor "))
		return all, end, nil
	}
	for _, how := range []string{"resident", "copied"} {
		if err := start("PyOpenCL, "+how, pythons[i], "-B", path, how, n); err != nil {
			return all, end, err
		}
	}
	return all, end, nil
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
