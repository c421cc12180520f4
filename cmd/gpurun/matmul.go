package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/gpurun/gpurun"
)

// matmulFlags are the flags of the verb matmul.
type matmulFlags struct {
	jobFlags
	hostFlags
	size   dimensions
	dtype  string
	output string
	shared bool
}

func matmulCommand() *cobra.Command {
	var f matmulFlags
	cmd := &cobra.Command{
		Use:   "matmul (A.npy B.npy -o C.npy | --size N|MxNxK)",
		Short: "Multiply two matrices, of files or random ones",
		Long: `Multiply the matrices in two of NumPy's .npy files, and write the product to a
third; or multiply random ones, and say how fast that was.

The files hold float32 or float64, both the same, in C or in Fortran order. They
may be larger than the memory, of which --mem bounds what is taken; the product
is the same to the last bit whatever it is. It appears whole or not at all.

A random M×K matrix and a K×N matrix are the same in every run. An element of
the product takes 2·K operations: K multiplications and K additions, fused in
pairs.

Hosts that --hosts names, or that join, take part in what is worth sending: products
that would take 50 ms here at least, and as long as their matrices on a line of
1 GiB/s; with --device none in all. They fetch the parts of the matrices that they need,
or, with --shared-fs, read the files themselves.`,
		Example: `  gpurun matmul A.npy B.npy -o C.npy
  gpurun matmul A.npy B.npy -o C.npy --mem 1GiB --device all --json
  gpurun matmul --size 4096
  gpurun matmul --size 20000x10x300 --dtype f32 --json
  gpurun matmul --size 16384 --hosts gpu1:9473,gpu2:9473 --key cluster.key`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return usagef("%d files: name two, A.npy and B.npy, or none and a --size", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.Var(&f.size, "size", "the size of the product: N, or MxNxK for an M×K matrix by a K×N matrix")
	flags.StringVar(&f.dtype, "dtype", "f64", "f32 or f64")
	flags.StringVarP(&f.output, "output", "o", "", "the file to write the product of two files to, .npy")
	flags.BoolVar(&f.shared, "shared-fs", false, "the hosts read the two files by themselves, by the same paths; one that has others takes no part")
	f.jobFlags.add(cmd)
	f.hostFlags.add(cmd)
	for _, name := range []string{"mem", "tile"} {
		flags.Lookup(name).Usage += "; no effect on random matrices where the CPU alone computes"
	}
	if err := cmd.MarkFlagFilename("output", "npy"); err != nil {
		panic(err)
	}
	fixed(cmd, "dtype", "f32", "f64")
	return cmd
}

func (f *matmulFlags) run(cmd *cobra.Command, files []string) error {
	if err := f.check(cmd, files); err != nil {
		return err
	}
	start := time.Now()
	bar := f.bar(cmd.ErrOrStderr())
	config := f.config(cmd.ErrOrStderr(), bar)
	f.hostFlags.set(config)
	config.SharedFiles = f.shared
	if served, err := f.launched(cmd, config, bar); served || err != nil {
		return err
	}
	if config.Launch == nil {
		if err := f.checkAlone(); err != nil {
			return err
		}
	}
	what := f.output
	report, err := f.compute(cmd, config, bar, func(eng *gpurun.Engine) error {
		if len(files) > 0 {
			bar.watch(eng.Live)
			return eng.MatMulFiles(cmd.Context(), f.output, files[0], files[1])
		}
		what = fmt.Sprintf("%d×%d by %d×%d, %s", f.size.m, f.size.k, f.size.k, f.size.n, f.dtype)
		return f.multiplyRandom(cmd.Context(), eng, bar)
	})
	if err != nil {
		f.noteState(cmd, start)
		return err
	}
	return f.tell(cmd, what, report)
}

// check returns an error if the command line asks for nothing that can be done.
func (f *matmulFlags) check(cmd *cobra.Command, files []string) error {
	switch changed := cmd.Flags().Changed; {
	case len(files) > 0 && (changed("size") || changed("dtype")):
		return usagef("two files have a size and a type: leave --size and --dtype out")
	case f.shared && len(files) == 0:
		return usagef("--shared-fs is about two files: name them")
	case f.state != "" && len(files) == 0:
		return usagef("--state is about two files: name them")
	case len(files) > 0 && f.output == "":
		return usagef("no output: name the product's file with -o C.npy")
	case len(files) > 0 && !strings.EqualFold(filepath.Ext(f.output), ".npy"):
		return usagef("output %s is not .npy", f.output)
	case len(files) > 0:
		return nil
	case f.output != "":
		return usagef("a product of random matrices is not written: name two files, or leave -o out")
	case f.size == (dimensions{}):
		return usagef("nothing to multiply: name two files, A.npy B.npy -o C.npy, or a --size N or MxNxK of random matrices")
	}
	return checkDType(f.dtype)
}

// checkAlone returns an error if the command line asks for what takes other machines, and
// names none.
func (f *matmulFlags) checkAlone() error {
	switch {
	case len(f.hosts) > 0 || f.listen != "":
	case slices.Equal(f.device, []string{"none"}):
		return usagef("device none: nobody is left to multiply: name --hosts, or an address to --listen at, or a device")
	case f.shared:
		return usagef("--shared-fs is about hosts: name --hosts, or an address to --listen at")
	}
	return nil
}

// multiplyRandom multiplies two random matrices on the devices of eng, which bar shows.
func (f *matmulFlags) multiplyRandom(ctx context.Context, eng *gpurun.Engine, bar *progress) error {
	all, _ := gpurun.AllDevices() // the first is this machine's CPU, whatever else fails
	if err := f.size.fit(f.dtype, all[0].Memory); err != nil {
		return err
	}
	multiply, err := newProduct(ctx, f.size, f.dtype)
	if err != nil {
		return err
	}
	bar.watch(eng.Live)
	return multiply(ctx, eng)
}

// tell prints the last line of a run, of which what is the result, and the report.
func (f *matmulFlags) tell(cmd *cobra.Command, what string, report *gpurun.Report) error {
	if !f.silent() {
		noteSetAside(cmd, report)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s, in %.3g s%s%s: %.3g GFLOP/s\n",
			what, report.Seconds, shares(report), f.resumed(report), (1-report.Resumed)*float64(report.Flops)/max(report.Seconds, 1e-9)/1e9)
	}
	if !f.json {
		return nil
	}
	return printJSON(cmd, report)
}

// checkDType returns an error if name is no element type of products.
func checkDType(name string) error {
	if name != "f32" && name != "f64" {
		return usagef("dtype %s is neither f32 nor f64", name)
	}
	return nil
}

// elementSize returns the bytes of an element of the type.
func elementSize(dtype string) int {
	if dtype == "f32" {
		return 4
	}
	return 8
}

// The matrices are made of these seeds.
const seedA, seedB = 1, 2

// product multiplies two matrices on the devices of eng, the same two each time.
type product func(ctx context.Context, eng *gpurun.Engine) error

// newProduct makes the random matrices of a product in dtype, f32 or f64.
func newProduct(ctx context.Context, d dimensions, dtype string) (product, error) {
	if dtype == "f32" {
		return product32(ctx, d)
	}
	return product64(ctx, d)
}

func product64(ctx context.Context, d dimensions) (product, error) {
	a, b, c, err := operands[float64](ctx, d)
	if err != nil {
		return nil, err
	}
	general := func(rows, cols int, data []float64) blas64.General {
		return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
	}
	return func(ctx context.Context, eng *gpurun.Engine) error {
		return eng.Gemm64(ctx, blas.NoTrans, blas.NoTrans, 1, general(d.m, d.k, a), general(d.k, d.n, b), 0, general(d.m, d.n, c))
	}, nil
}

func product32(ctx context.Context, d dimensions) (product, error) {
	a, b, c, err := operands[float32](ctx, d)
	if err != nil {
		return nil, err
	}
	general := func(rows, cols int, data []float32) blas32.General {
		return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
	}
	return func(ctx context.Context, eng *gpurun.Engine) error {
		return eng.Gemm32(ctx, blas.NoTrans, blas.NoTrans, 1, general(d.m, d.k, a), general(d.k, d.n, b), 0, general(d.m, d.n, c))
	}, nil
}

// operands returns two random matrices, and room for their product.
func operands[T float32 | float64](ctx context.Context, d dimensions) (a, b, c []T, err error) {
	if a, err = random[T](ctx, d.m, d.k, seedA); err != nil {
		return nil, nil, nil, err
	}
	if b, err = random[T](ctx, d.k, d.n, seedB); err != nil {
		return nil, nil, nil, err
	}
	return a, b, make([]T, d.m*d.n), nil
}

// random returns rows·cols numbers from −1 to 1.
func random[T float32 | float64](ctx context.Context, rows, cols int, seed uint64) ([]T, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	x := make([]T, rows*cols)
	for i := range x {
		if i%(1<<20) == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		x[i] = T(2*rng.Float64() - 1)
	}
	return x, nil
}

// dimensions is a flag of the size of a product, written N or MxNxK.
type dimensions struct{ m, n, k int }

func (d *dimensions) Set(s string) error {
	parts := strings.Split(strings.ReplaceAll(s, "×", "x"), "x")
	if len(parts) == 1 {
		parts = []string{s, s, s}
	}
	var sides [3]int
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if len(parts) != len(sides) || err != nil || n < 1 {
			return fmt.Errorf("want N such as 4096, or MxNxK such as 1000x500x200, each at least 1")
		}
		sides[i] = n
	}
	*d = dimensions{sides[0], sides[1], sides[2]}
	return nil
}

func (d *dimensions) String() string {
	if *d == (dimensions{}) {
		return ""
	}
	return fmt.Sprintf("%dx%dx%d", d.m, d.n, d.k)
}

func (d *dimensions) Type() string { return "N|MxNxK" }

// fit returns an error if the three matrices do not fit into so much memory.
func (d *dimensions) fit(dtype string, memory int64) error {
	size := float64(elementSize(dtype))
	m, n, k := float64(d.m), float64(d.n), float64(d.k)
	if size*(m*k+k*n+m*n) <= 0.8*float64(memory) {
		return nil
	}
	return fmt.Errorf("%w: the matrices of %v in %s take more than 80 %% of this machine's %s: ask for smaller ones",
		gpurun.ErrTooLarge, d, dtype, humanize.IBytes(uint64(memory)))
}
