// Command matmul measures matrix products: on the CPU this module's, those of
// OpenBLAS, BLIS and NumPy where they are installed, and gonum's, and on an OpenCL
// device this module's and those of CLBlast, in one run, with the peak of the
// processor's FMA units and the bandwidth of its memory beside them.
//
//	go run ./bench/matmul -shapes 256,1024x1024x32 -types f32,f64 -threads 1,2
//	go run ./bench/matmul -rivals numpy -shapes 256,1024,2048
//	go run ./bench/matmul -rivals opencl,clblast,opencl-copy,clblast-copy -shapes 512,1024,2048 -threads 2
//
// A shape is m×n×k, or n for n×n×n: C (m×n) = A (m×k) · B (k×n), row by row,
// with α = 1 and β = 0, on random data. Each library and each number of threads
// is a process of its own, since threads that one library leaves spinning slow
// the others down; in each round all take turns. Numbers are medians over the
// rounds in GFLOP/s, and medians of the rounds' ratios. Before a product is timed,
// some elements of its result are compared with a plain product in float64.
//
// OpenBLAS and BLIS are called in a loop in assembly, so that the way from Go to
// C counts for nothing. NumPy is called in a loop in Python.
//
// opencl and opencl-copy are this module on the first OpenCL device, and clblast
// and clblast-copy are CLBlast on the same. With -copy each product begins and
// ends in the host's memory: buffers are allocated, filled, read and released.
// Without it the operands are on the device: for opencl packed, and C is copied
// back, for what a launch takes alone is not known outside package device; for
// clblast as they are, and C stays there. Threads are those of PoCL; other
// drivers take no notice.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gpurun/gpurun/internal/machine"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

const defaultShapes = "32,64,96,128,256,512,1024,2048,4096," +
	"256x256x32,1024x1024x32,4096x4096x32,256x32x256,1024x32x1024,4096x32x4096,32x256x256,32x1024x1024,32x4096x4096," +
	"4096x1x4096,1x4096x4096"

func main() {
	shapes := flag.String("shapes", defaultShapes, "what to multiply: m×n×k written MxNxK, or N, separated by commas")
	types := flag.String("types", "f32,f64", "element types")
	threads := flag.String("threads", "1,2", "numbers of threads")
	rivals := flag.String("rivals", "openblas,blis,gonum", "what to compare with, of openblas, blis, gonum, numpy, opencl, opencl-copy, clblast, clblast-copy")
	rounds := flag.Int("rounds", 9, "how often to measure everything")
	slice := flag.Duration("slice", 20*time.Millisecond, "how long to measure at a time, at least one product")
	best := flag.Bool("best", false, "take the best of the rounds instead of medians: for machines that others use too")
	pause := flag.Duration("pause", 0, "how long to wait after each, for threads that go on spinning")
	child := flag.String("child", "", "be the process of one contestant; for this command's own use")
	flag.Parse()
	if *child != "" {
		if err := serve(*child, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "matmul:", *child+":", err)
			os.Exit(1)
		}
		return
	}
	r := run{rivals: strings.Split(*rivals, ","), rounds: *rounds, slice: *slice, pause: *pause, best: *best}
	if err := r.parse(*shapes, *types, *threads); err == nil {
		err = r.measure()
		if err != nil {
			fmt.Fprintln(os.Stderr, "matmul:", err)
			os.Exit(1)
		}
	} else {
		fmt.Fprintln(os.Stderr, "matmul:", err)
		os.Exit(2)
	}
}

// run is what the flags ask for.
type run struct {
	rivals       []string
	shapes       []shape
	types        []kernels.DType
	threads      []int
	rounds       int
	slice, pause time.Duration
	best         bool
}

// shape is m×n×k: C has m rows and n columns.
type shape struct{ m, n, k int }

func (s shape) String() string { return fmt.Sprintf("%dx%dx%d", s.m, s.n, s.k) }

func (s shape) flops() float64 { return 2 * float64(s.m) * float64(s.n) * float64(s.k) }

func parseShape(text string) (shape, error) {
	var sides []int
	for side := range strings.SplitSeq(text, "x") {
		n, err := strconv.Atoi(side)
		if err != nil || n < 1 {
			return shape{}, fmt.Errorf("shape %q: sides are positive numbers", text)
		}
		sides = append(sides, n)
	}
	switch len(sides) {
	case 1:
		return shape{sides[0], sides[0], sides[0]}, nil
	case 3:
		return shape{sides[0], sides[1], sides[2]}, nil
	}
	return shape{}, fmt.Errorf("shape %q: want N or MxNxK", text)
}

func (r *run) parse(shapes, types, threads string) error {
	for text := range strings.SplitSeq(shapes, ",") {
		s, err := parseShape(text)
		if err != nil {
			return err
		}
		r.shapes = append(r.shapes, s)
	}
	for text := range strings.SplitSeq(types, ",") {
		i := slices.IndexFunc([]kernels.DType{kernels.Float32, kernels.Float64}, func(d kernels.DType) bool { return d.String() == text })
		if i < 0 {
			return fmt.Errorf("type %q: want f32 or f64", text)
		}
		r.types = append(r.types, kernels.Float32+kernels.DType(i))
	}
	for text := range strings.SplitSeq(threads, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("threads %q: want a positive number", text)
		}
		r.threads = append(r.threads, n)
	}
	return nil
}

// measure prints a table for each type and number of threads.
func (r *run) measure() error {
	fmt.Printf("%s, %s/%s, %d CPUs, %s; medians of %d rounds\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu.Best(), r.rounds)
	for _, n := range r.threads {
		bandwidth, err := machine.MemoryBandwidth(context.Background(), n)
		if err != nil {
			return err
		}
		contestants, err := start(append([]string{"gpurun"}, r.rivals...), n)
		if err != nil {
			return err
		}
		for _, t := range r.types {
			fmt.Printf("\n%s, %d threads: FMA peak %.1f GFLOP/s, reading memory %.1f GB/s\n", t, n, machine.FMAPeak(t.Size(), n), bandwidth)
			one := table{run: r, contestants: contestants, t: t, threads: n, bandwidth: bandwidth}
			if err := one.print(); err != nil {
				return err
			}
		}
		for _, c := range contestants {
			c.stop()
		}
	}
	return nil
}
