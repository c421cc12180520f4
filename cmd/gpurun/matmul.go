package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

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
	size  dimensions
	dtype string
}

func matmulCommand() *cobra.Command {
	var f matmulFlags
	cmd := &cobra.Command{
		Use:   "matmul",
		Short: "Multiply two random matrices, and say how fast that was",
		Long: `Multiply a random M×K matrix by a random K×N matrix, and say how fast that was.
The matrices are the same in every run. An element of the result takes 2·K
operations: K multiplications and K additions, fused in pairs.`,
		Example: `  gpurun matmul --size 4096
  gpurun matmul --size 20000x10x300 --dtype f32 --json
  gpurun matmul --size 8192 --dtype f32 --device all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.Var(&f.size, "size", "the size of the product: N, or MxNxK for an M×K matrix by a K×N matrix")
	flags.StringVar(&f.dtype, "dtype", "f64", "f32 or f64")
	f.jobFlags.add(cmd, false)
	for _, name := range []string{"mem", "tile"} {
		flags.Lookup(name).Usage += "; it has no effect where the CPU alone computes, which does so in place"
	}
	fixed(cmd, "dtype", "f32", "f64")
	return cmd
}

func (f *matmulFlags) run(cmd *cobra.Command) error {
	if f.size == (dimensions{}) {
		return usagef("no size: name it with --size N, or --size MxNxK")
	}
	if slices.Contains(f.device, "none") {
		return usagef("device none: no hosts take part in products: name a device, or leave --device out")
	}
	if err := checkDType(f.dtype); err != nil {
		return err
	}
	eng, err := gpurun.Open(cmd.Context(), f.config())
	if err != nil {
		return err
	}
	defer eng.Close()
	all, _ := gpurun.AllDevices() // the first is this machine's CPU, whatever else fails
	if err := f.size.fit(f.dtype, all[0].Memory); err != nil {
		return err
	}
	trace, err := f.createTrace()
	if err != nil {
		return err
	}
	defer trace.discard()
	multiply, err := newProduct(cmd.Context(), f.size, f.dtype)
	if err != nil {
		return err
	}
	if err := multiply(cmd.Context(), eng); err != nil {
		return err
	}
	report := eng.Report()
	if err := f.writeTrace(trace, report); err != nil {
		return err
	}
	if !f.quiet {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d×%d by %d×%d, %s, in %.3g s by %s: %.3g GFLOP/s\n",
			f.size.m, f.size.k, f.size.k, f.size.n, f.dtype, report.Seconds, shares(report), float64(report.Flops)/max(report.Seconds, 1e-9)/1e9)
	}
	if !f.json {
		return nil
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(report)
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
