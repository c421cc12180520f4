// Command matmul measures matrix products on the CPU: this module's, those of
// OpenBLAS and BLIS where they are installed, and gonum's, in one run, with the
// peak of the processor's FMA units and the bandwidth of its memory beside them.
//
//	go run ./bench/matmul -shapes 256,1024x1024x32 -types f32,f64 -threads 1,2
//
// A shape is m×n×k, or n for n×n×n: C (m×n) = A (m×k) · B (k×n), row by row,
// with α = 1 and β = 0, on random data. Each library and each number of threads
// is a process of its own, since threads that one library leaves spinning slow
// the others down; in each round all take turns. Numbers are medians over the
// rounds in GFLOP/s, and medians of the rounds' ratios.
//
// OpenBLAS and BLIS are called in a loop in assembly, so that the way from Go to
// C counts for nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
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
	rivals := flag.String("rivals", "openblas,blis,gonum", "what to compare with, of openblas, blis, gonum")
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
			if err := r.table(contestants, t, n, bandwidth); err != nil {
				return err
			}
		}
		for _, c := range contestants {
			c.stop()
		}
	}
	return nil
}

func (r *run) table(contestants []*contestant, t kernels.DType, threads int, bandwidth float64) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "m×n×k\t")
	for _, c := range contestants {
		fmt.Fprintf(w, "%s\t", c.name)
	}
	fmt.Fprint(w, "of peak\tof bandwidth\t")
	for _, c := range contestants[1:] {
		fmt.Fprintf(w, "÷ %s\t", c.name)
	}
	fmt.Fprint(w, "÷ best\t\n")
	logSum := 0.0
	for _, s := range r.shapes {
		ratio, err := r.row(w, contestants, t, s, threads, bandwidth)
		if err != nil {
			return err
		}
		logSum += math.Log(ratio)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(contestants) > 1 {
		fmt.Printf("geometric mean of ours ÷ the best of the other libraries: %.3f\n", math.Exp(logSum/float64(len(r.shapes))))
	}
	return nil
}

// row measures one shape and returns ours ÷ the best library in C.
func (r *run) row(w *tabwriter.Writer, contestants []*contestant, t kernels.DType, s shape, threads int,
	bandwidth float64) (float64, error) {
	rates := make([][]float64, len(contestants)) // GFLOP/s
	var peaks []float64
	for round := range r.rounds {
		peaks = append(peaks, machine.FMAPeak(t.Size(), threads))
		for i, c := range contestants {
			if c.name == "gonum" && round > 0 && s.flops() > 1e9 {
				continue // it would take most of the time
			}
			seconds, err := c.measure(t, s, r.slice)
			if err != nil {
				return 0, err
			}
			rates[i] = append(rates[i], s.flops()/seconds/1e9)
			time.Sleep(r.pause)
		}
	}
	if r.best {
		peaks = []float64{slices.Max(peaks)}
		for i := range rates {
			rates[i] = []float64{slices.Max(rates[i])}
		}
	}
	fmt.Fprintf(w, "%v\t", s)
	for _, rate := range rates {
		fmt.Fprintf(w, "%.1f\t", median(rate))
	}
	least := float64(t.Size()) * (float64(s.m*s.k) + float64(s.k*s.n) + float64(s.m*s.n)) / 1e9 // bytes that must be moved
	fmt.Fprintf(w, "%.0f %%\t%.0f %%\t", 100*median(ratios(rates[0], peaks)), 100*least*median(rates[0])*1e9/s.flops()/bandwidth)
	best := make([]float64, len(rates[0]))
	for i, c := range contestants[1:] {
		fmt.Fprintf(w, "%.2f\t", median(ratios(rates[0], rates[i+1])))
		if c.name != "gonum" {
			for round, rate := range rates[i+1] {
				best[round] = max(best[round], rate)
			}
		}
	}
	if best[0] == 0 {
		fmt.Fprint(w, "\t\n")
		return 1, nil
	}
	ratio := median(ratios(rates[0], best))
	fmt.Fprintf(w, "%.2f\t\n", ratio)
	return ratio, nil
}

func ratios(over, under []float64) []float64 {
	var out []float64
	for i := range min(len(over), len(under)) {
		out = append(out, over[i]/under[i])
	}
	return out
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return math.NaN()
	}
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
