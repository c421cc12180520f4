package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/machine"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast each device computes",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchMatMulCommand())
	return cmd
}

// benchFlags are the flags of the verb bench matmul.
type benchFlags struct {
	sizes, dtypes, device []string
	time                  time.Duration
	json, quiet           bool
}

func benchMatMulCommand() *cobra.Command {
	var f benchFlags
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
	flags := cmd.Flags()
	flags.StringSliceVar(&f.sizes, "size", []string{"256", "512", "1024", "2048", "4096"}, "the sizes of the products, separated by commas: N, or MxNxK for an M×K matrix by a K×N matrix")
	flags.StringSliceVar(&f.dtypes, "dtype", []string{"f32", "f64"}, "f32, f64, or both, separated by a comma")
	flags.StringSliceVar(&f.device, "device", []string{"all"}, "all (GPUs and CPU), cpu, gpu, opencl, or ids from 'gpurun devices', separated by commas")
	flags.DurationVar(&f.time, "time", 300*time.Millisecond, "how long to repeat each product, at least")
	flags.BoolVar(&f.json, "json", false, "print JSON instead of the table")
	flags.BoolVar(&f.quiet, "quiet", false, "show no progress, only the result")
	fixed(cmd, "dtype", "f32", "f64")
	fixed(cmd, "device", "all", "cpu", "gpu", "opencl")
	return cmd
}

func (f *benchFlags) run(cmd *cobra.Command) error {
	sizes, err := f.check()
	if err != nil {
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
	devices, err := openEach(cmd.Context(), f.device)
	defer closeEach(devices)
	if err != nil {
		return err
	}
	var bar *progress
	if !f.quiet {
		bar = newProgress(cmd.ErrOrStderr())
	}
	defer bar.finish()
	result := benchResult{
		CPU:    cpuBest{Name: all[0].Name, Threads: runtime.GOMAXPROCS(0), Peak: map[string]float64{}},
		dtypes: f.dtypes,
	}
	if err := f.measure(cmd.Context(), &result, devices, sizes, bar); err != nil {
		return err
	}
	bar.finish()
	if !f.json {
		return result.print(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}

// check returns the sizes that were asked for, or an error about the flags.
func (f *benchFlags) check() ([]dimensions, error) {
	var sizes []dimensions
	for _, text := range f.sizes {
		var size dimensions
		if err := size.Set(text); err != nil {
			return nil, usagef("size %s: %w", text, err)
		}
		sizes = append(sizes, size)
	}
	for _, dtype := range f.dtypes {
		if err := checkDType(dtype); err != nil {
			return nil, err
		}
	}
	switch {
	case len(sizes) == 0:
		return nil, usagef("no size: name some with --size N,MxNxK,…, or leave that out")
	case len(f.dtypes) == 0:
		return nil, usagef("no dtype: name f32, f64, or both")
	case len(f.device) == 0:
		return nil, usagef("no device: name one with --device, or leave that out")
	case f.time <= 0:
		return nil, usagef("time %v: it must be positive", f.time)
	}
	return sizes, nil
}

// benched is a device that is measured, and its engine, which has no other.
type benched struct {
	gpurun.Device
	engine *gpurun.Engine
}

// has reports whether the device has the element type.
func (b benched) has(dtype string) bool {
	if dtype == "f32" {
		return b.Float32 != "none"
	}
	return b.Float64 != "none"
}

// openEach opens each device of a choice by itself. Those that it has opened
// are to be closed, also after an error.
func openEach(ctx context.Context, choice []string) ([]benched, error) {
	together, err := gpurun.Open(ctx, &gpurun.Config{Devices: choice})
	if err != nil {
		return nil, err
	}
	chosen := together.Devices()
	if err := together.Close(); err != nil {
		return nil, err
	}
	if len(chosen) == 0 {
		return nil, usagef("there is nothing to measure without a device: name one, such as --device cpu")
	}
	var devices []benched
	for _, d := range chosen {
		engine, err := gpurun.Open(ctx, &gpurun.Config{Devices: []string{d.ID}})
		if err != nil {
			return devices, err
		}
		devices = append(devices, benched{d, engine})
	}
	return devices, nil
}

func closeEach(devices []benched) {
	for _, d := range devices {
		d.engine.Close()
	}
}

// benchResult is what was measured. Fields of its JSON may be added, never
// renamed.
type benchResult struct {
	CPU      cpuBest         `json:"cpu"`
	Devices  []gpurun.Device `json:"devices"`
	Products []benchProduct  `json:"products"`

	dtypes []string
}

// cpuBest is what all threads of the CPU can do at best. What is not known is
// left out.
type cpuBest struct {
	Name      string             `json:"name"`
	Threads   int                `json:"threads"`
	Peak      map[string]float64 `json:"fma_peak,omitempty"`         // operations a second, by type
	Bandwidth float64            `json:"memory_bandwidth,omitempty"` // bytes a second
}

// benchProduct is one product on all devices.
type benchProduct struct {
	M     int         `json:"m"`
	N     int         `json:"n"`
	K     int         `json:"k"`
	DType string      `json:"dtype"`
	Rates []benchRate `json:"rates"` // of the devices that have the type
}

// benchRate is how fast a device computes a product.
type benchRate struct {
	Device string  `json:"device"`
	Rate   float64 `json:"rate"`              // operations a second, the median
	OfPeak float64 `json:"of_peak,omitempty"` // of the FMA peak, for the CPU
}

// measure measures the CPU, and every product on every device, in result.
func (f *benchFlags) measure(ctx context.Context, result *benchResult, devices []benched, sizes []dimensions, bar *progress) error {
	if err := f.measureCPU(ctx, &result.CPU); err != nil {
		return err
	}
	bar.set(0)
	for _, d := range devices {
		result.Devices = append(result.Devices, d.Device)
	}
	for _, size := range sizes {
		for _, dtype := range f.dtypes {
			p, err := f.measureProduct(ctx, devices, size, dtype, result.CPU.Peak[dtype])
			if err != nil {
				return err
			}
			result.Products = append(result.Products, p)
			bar.set(float64(len(result.Products)) / float64(len(sizes)*len(f.dtypes)))
		}
	}
	return nil
}

// peakTime is how long the FMA peak is looked for, at most, however long
// products are to be repeated.
const peakTime = 300 * time.Millisecond

// measureCPU measures what bounds the CPU. The peak is the best of many, since
// others who use the CPU only ever make it less.
func (f *benchFlags) measureCPU(ctx context.Context, c *cpuBest) error {
	bandwidth, err := machine.MemoryBandwidth(ctx, c.Threads)
	if err != nil {
		return err
	}
	c.Bandwidth = 1e9 * bandwidth
	for _, dtype := range f.dtypes {
		start := time.Now()
		for again := true; again; again = time.Since(start) < min(f.time, peakTime) {
			if err := ctx.Err(); err != nil {
				return err
			}
			peak := 1e9 * machine.FMAPeak(elementSize(dtype), c.Threads)
			if peak == 0 {
				break
			}
			c.Peak[dtype] = max(c.Peak[dtype], peak)
		}
	}
	return nil
}

// measureProduct measures one product on each device that has the type.
func (f *benchFlags) measureProduct(ctx context.Context, devices []benched, size dimensions, dtype string, peak float64) (benchProduct, error) {
	result := benchProduct{M: size.m, N: size.n, K: size.k, DType: dtype, Rates: []benchRate{}}
	runtime.GC() // the last product's matrices go before these come
	multiply, err := newProduct(ctx, size, dtype)
	if err != nil {
		return result, err
	}
	for _, d := range devices {
		if !d.has(dtype) {
			continue
		}
		seconds, err := repeat(f.time, func() error { return multiply(ctx, d.engine) })
		if err != nil {
			return result, fmt.Errorf("%v in %s on %s: %w", &size, dtype, d.ID, err)
		}
		rate := benchRate{Device: d.ID, Rate: 2 * float64(size.m) * float64(size.n) * float64(size.k) / seconds}
		if d.Backend == "cpu" && peak > 0 {
			rate.OfPeak = rate.Rate / peak
		}
		result.Rates = append(result.Rates, rate)
	}
	return result, nil
}

// repeat calls f for at least that long, and returns the median of the seconds
// that it takes. The first call does not count: it compiles and allocates. Short
// ones are timed many at once, since a clock may tick only every half millisecond.
func repeat(least time.Duration, f func() error) (float64, error) {
	if err := f(); err != nil {
		return 0, err
	}
	var times []float64
	for n, total := 1, time.Duration(0); total < least; {
		start := time.Now()
		for range n {
			if err := f(); err != nil {
				return 0, err
			}
		}
		took := time.Since(start)
		if took < least/100 {
			n *= 2
			continue
		}
		times = append(times, took.Seconds()/float64(n))
		total += took
	}
	slices.Sort(times)
	return (times[(len(times)-1)/2] + times[len(times)/2]) / 2, nil
}

// print writes what bounds the CPU, and the table.
func (r *benchResult) print(w io.Writer) error {
	for _, d := range r.Devices {
		fmt.Fprintf(w, "%s: %s, %s\n", d.ID, d.Name, d.Driver)
	}
	fmt.Fprintf(w, "FMA peak of the CPU, %d threads:", r.CPU.Threads)
	for i, dtype := range r.dtypes {
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		fmt.Fprintf(w, " %s %s", dtype, orUnknown(r.CPU.Peak[dtype], "GFLOP/s"))
	}
	fmt.Fprintf(w, "; memory bandwidth: %s\n\nProducts, in GFLOP/s:\n\n", orUnknown(r.CPU.Bandwidth, "GB/s"))

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "M×N×K\ttype\t")
	for _, d := range r.Devices {
		fmt.Fprintf(t, "%s\t", d.ID)
		if d.Backend == "cpu" {
			fmt.Fprint(t, "of peak\t")
		}
	}
	fmt.Fprintln(t)
	for _, p := range r.Products {
		p.print(t, r.Devices)
	}
	return t.Flush()
}

// print writes the row of p.
func (p *benchProduct) print(w io.Writer, devices []gpurun.Device) {
	fmt.Fprintf(w, "%d×%d×%d\t%s\t", p.M, p.N, p.K, p.DType)
	for _, d := range devices {
		rate, peak := "–", "–" // as it is where the device does not have the type
		if i := slices.IndexFunc(p.Rates, func(r benchRate) bool { return r.Device == d.ID }); i >= 0 {
			rate = fmt.Sprintf("%.1f", p.Rates[i].Rate/1e9)
			if p.Rates[i].OfPeak > 0 {
				peak = fmt.Sprintf("%.0f %%", 100*p.Rates[i].OfPeak)
			}
		}
		fmt.Fprintf(w, "%s\t", rate)
		if d.Backend == "cpu" {
			fmt.Fprintf(w, "%s\t", peak)
		}
	}
	fmt.Fprintln(w)
}

// orUnknown writes a rate in a unit of 10⁹ a second. It is 0 where it is not known.
func orUnknown(rate float64, unit string) string {
	if rate == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f %s", rate/1e9, unit)
}
