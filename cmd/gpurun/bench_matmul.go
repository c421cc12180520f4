package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

// benchMatMulFlags are the flags of the verb bench matmul.
type benchMatMulFlags struct {
	benchFlags
	sizes []string
}

func benchMatMulCommand() *cobra.Command {
	var f benchMatMulFlags
	cmd := &cobra.Command{
		Use:   "matmul",
		Short: "Measure how fast each device multiplies matrices",
		Long: `Multiply random matrices on each device by itself, and print a table of
GFLOP/s: one row a size and type, one column a device. A number is the median of
products that are repeated for at least --time, after one that does not count.
What goes to a device and comes back is in the time of each.

Above the table is what the CPU can do at best: the FMA peak, which is all its
threads at fused multiply-adds in registers, and how fast they read memory. Next
to the CPU's column is how much of the peak it reaches.`,
		Example: `  gpurun bench matmul
  gpurun bench matmul --size 1024,4096x4096x32 --dtype f32 --device cpu,ocl:0.0
  gpurun bench matmul --size 8192 --time 2s --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringSliceVar(&f.sizes, "size", []string{"256", "512", "1024", "2048", "4096"}, "the sizes of the products, separated by commas: N, or MxNxK for an M×K matrix by a K×N matrix")
	f.benchFlags.add(cmd, "product")
	return cmd
}

func (f *benchMatMulFlags) run(cmd *cobra.Command) error {
	var sizes []dimensions
	for _, text := range f.sizes {
		var size dimensions
		if err := size.Set(text); err != nil {
			return usagef("size %s: %w", text, err)
		}
		sizes = append(sizes, size)
	}
	if len(sizes) == 0 {
		return usagef("no size: name some with --size N,MxNxK,…, or leave that out")
	}
	if err := f.check(); err != nil {
		return err
	}
	all, _ := gpurun.AllDevices() // the first is this machine's CPU, whatever else fails
	for _, size := range sizes {
		for _, dtype := range f.dtypes {
			if err := size.fit(dtype, all[0].Memory); err != nil {
				return err
			}
		}
	}
	table := &matMulTable{flags: f, sizes: sizes}
	return f.benchFlags.run(cmd, table, &table.benchMachine, len(sizes))
}

// matMulTable is what bench matmul measures.
type matMulTable struct {
	benchMachine
	Products []benchProduct `json:"products"`

	flags *benchMatMulFlags
	sizes []dimensions
}

// benchProduct is one product on all devices.
type benchProduct struct {
	M     int           `json:"m"`
	N     int           `json:"n"`
	K     int           `json:"k"`
	DType string        `json:"dtype"`
	Rates []productRate `json:"rates"` // of the devices that have the type
}

// productRate is how fast a device computes a product.
type productRate struct {
	Device string  `json:"device"`
	Rate   float64 `json:"rate"`              // operations a second, the median
	OfPeak float64 `json:"of_peak,omitempty"` // of the FMA peak, for the CPU
}

func (t *matMulTable) measure(ctx context.Context, devices []benched, index int, dtype string) error {
	size := t.sizes[index]
	result := benchProduct{M: size.m, N: size.n, K: size.k, DType: dtype, Rates: []productRate{}}
	runtime.GC() // the last product's matrices go before these come
	multiply, err := newProduct(ctx, size, dtype)
	if err != nil {
		return err
	}
	for _, d := range devices {
		if !d.has(dtype) {
			continue
		}
		seconds, err := repeat(t.flags.time, func() error { return multiply(ctx, d.engine) })
		if err != nil {
			return fmt.Errorf("%v in %s on %s: %w", &size, dtype, d.ID, err)
		}
		rate := productRate{Device: d.ID, Rate: 2 * float64(size.m) * float64(size.n) * float64(size.k) / seconds}
		if peak := t.CPU.Peak[dtype]; d.Backend == "cpu" && peak > 0 {
			rate.OfPeak = rate.Rate / peak
		}
		result.Rates = append(result.Rates, rate)
	}
	t.Products = append(t.Products, result)
	return nil
}

func (t *matMulTable) print(to io.Writer) error {
	t.benchMachine.print(to, "Products, in GFLOP/s")
	w := newBenchWriter(to)
	fmt.Fprint(w, "M×N×K\ttype\t")
	for _, d := range t.Devices {
		fmt.Fprintf(w, "%s\t", d.ID)
		if d.Backend == "cpu" {
			fmt.Fprint(w, "of peak\t")
		}
	}
	fmt.Fprintln(w)
	for _, p := range t.Products {
		fmt.Fprintf(w, "%d×%d×%d\t%s\t", p.M, p.N, p.K, p.DType)
		for _, d := range t.Devices {
			rate := p.rate(d.ID)
			fmt.Fprintf(w, "%s\t", orDash("%.1f", rate.Rate/1e9))
			if d.Backend == "cpu" {
				fmt.Fprintf(w, "%s\t", orDash("%.0f %%", 100*rate.OfPeak))
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// rate returns the rate of a device, or zeros if it does not have the type.
func (p *benchProduct) rate(device string) productRate {
	for _, r := range p.Rates {
		if r.Device == device {
			return r
		}
	}
	return productRate{}
}
