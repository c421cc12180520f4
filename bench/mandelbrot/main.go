// Command mandelbrot measures images of the Mandelbrot set, the views that
// 'gpurun bench mandel' measures too, with magnitudes: by this module's CPU
// kernels, and by others that do the same on the CPU.
//
//	go run ./bench/mandelbrot
//	go run ./bench/mandelbrot -views full,seahorse -rivals gcc,clang -rounds 15
//	go run ./bench/mandelbrot -threads 1 -rivals opencl
//
// The others, as far as they are installed:
//
//	gcc …, clang …   C with AVX-512 intrinsics, in folder c: the same arithmetic, and the same bits
//	  simple         four vectors of neighbouring pixels side by side, every step tested
//	  blocks         the first 16 steps tested, then blocks of 8, done again where a lane has escaped
//	  refill         the same, but lanes take the next pixel as soon as theirs has escaped
//	numba            Numba, prange over rows: the better of one orbit after the other, and vectors of them
//	numpy            NumPy, all pixels at a time, without those that have escaped
//	pool             multiprocessing with the functions of numba: the best of several sizes of chunks
//	opencl           this module's kernel on the first OpenCL device, in a table of its own; copying the
//	                 result back is in the time
//
// Debian has them as gcc, clang, python3-numba, python3-numpy and pocl-opencl-icd.
// What is not installed is left out, with a line that says so; C is left out
// where the processor has no AVX-512.
//
// Each contestant and each number of threads is a process of its own; in each
// round all take turns with an image in both types, and an image is repeated for
// as long as -slice. Numbers are medians over the rounds in Giter/s, and medians
// of the rounds' ratios, gpurun ÷ the other: above 1 gpurun is faster. Giter/s are
// 10⁹ steps of the definition a second, and the bound is what the FMA units could
// do: four of their operations a step. One thread means GOMAXPROCS=1 for gpurun.
//
// Images are smaller copies of the views, so that one takes at most about -steps
// steps, and for NumPy and multiprocessing an eighth of that. Before an image is
// timed, all that came out is compared with this module's.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gpurun/gpurun/internal/views"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

func main() {
	names := flag.String("views", strings.Join(views.Names(), ","), "the views, separated by commas")
	chosen := flag.String("rivals", "gcc,clang,numba,numpy,pool,opencl", "what to compare with, separated by commas")
	threads := flag.String("threads", defaultThreads(), "numbers of threads, separated by commas")
	rounds := flag.Int("rounds", 7, "how often to measure everything")
	slice := flag.Duration("slice", 60*time.Millisecond, "how long to repeat an image, at least")
	steps := flag.Float64("steps", 1e8, "the steps that an image may take, about")
	child := flag.String("child", "", "be the process of one contestant; for this command's own use")
	flag.Parse()
	if *child != "" {
		exitOn(serve(*child, os.Stdin, os.Stdout), 1)
		return
	}
	r := run{rounds: *rounds, slice: *slice, steps: *steps, chosen: strings.Split(*chosen, ",")}
	exitOn(r.parse(*names, *threads), 2)
	exitOn(r.measure(), 1)
}

func exitOn(err error, code int) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mandelbrot:", err)
		os.Exit(code)
	}
}

// defaultThreads is one, and all.
func defaultThreads() string {
	if n := runtime.NumCPU(); n > 1 {
		return fmt.Sprintf("1,%d", n)
	}
	return "1"
}

// run is what the flags ask for.
type run struct {
	views   []views.View
	threads []int
	chosen  []string // of the rivals
	rounds  int
	slice   time.Duration
	steps   float64
}

func (r *run) parse(names, threads string) error {
	var err error
	if r.views, err = views.Named(strings.Split(names, ",")); err != nil {
		return err
	}
	for text := range strings.SplitSeq(threads, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("threads %q: want a positive number", text)
		}
		r.threads = append(r.threads, n)
	}
	if r.rounds < 1 || !(r.steps > 0) {
		return fmt.Errorf("%d rounds of images of %g steps: want a positive number", r.rounds, r.steps)
	}
	return nil
}

// measure prints a table for each number of threads.
func (r *run) measure() error {
	folder, err := os.MkdirTemp("", "mandelbrot")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	fmt.Printf("%s, %s/%s, %d CPUs, %s; medians of %d rounds\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu.Best(), r.rounds)
	all, err := contenders(folder, r.chosen)
	if err != nil {
		return err
	}
	for _, n := range r.threads {
		contestants, err := start(all, n)
		if err == nil {
			one := table{run: r, folder: folder, contestants: contestants, threads: n}
			err = one.print()
		}
		for _, c := range contestants {
			c.stop()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// types are the element types, in the order of the rows.
var types = []kernels.DType{kernels.Float32, kernels.Float64}
