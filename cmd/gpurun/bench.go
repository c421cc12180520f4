package main

import (
	"context"
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
	cmd.AddCommand(benchMandelCommand(), benchMatMulCommand())
	return cmd
}

// benchFlags are the flags that all verbs of bench have.
type benchFlags struct {
	dtypes, device []string
	time           time.Duration
	json, quiet    bool
}

// add adds the flags to cmd, which measures what.
func (f *benchFlags) add(cmd *cobra.Command, what string) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.dtypes, "dtype", []string{"f32", "f64"}, "f32, f64, or both, separated by a comma")
	flags.StringSliceVar(&f.device, "device", []string{"all"}, "all (GPUs and CPU), cpu, gpu, opencl, or ids from 'gpurun devices', separated by commas")
	flags.DurationVar(&f.time, "time", 300*time.Millisecond, "how long to repeat each "+what+", at least")
	flags.BoolVar(&f.json, "json", false, "print JSON instead of the table")
	flags.BoolVar(&f.quiet, "quiet", false, "show no progress, only the result")
	fixed(cmd, "dtype", "f32", "f64")
	fixed(cmd, "device", "all", "cpu", "gpu", "opencl")
}

// check returns an error about the flags, if one is wrong.
func (f *benchFlags) check() error {
	for _, dtype := range f.dtypes {
		if err := checkDType(dtype); err != nil {
			return err
		}
	}
	switch {
	case len(f.dtypes) == 0:
		return usagef("no dtype: name f32, f64, or both")
	case len(f.device) == 0:
		return usagef("no device: name one with --device, or leave that out")
	case f.time <= 0:
		return usagef("time %v: it must be positive", f.time)
	}
	return nil
}

// benchTable is what a verb of bench measures. Fields of its JSON may be added,
// never renamed.
type benchTable interface {
	// measure adds a row: what index stands for, in one type, on every device
	// that has it.
	measure(ctx context.Context, devices []benched, index int, dtype string) error

	// print writes the table.
	print(w io.Writer) error
}

// run fills the table with a row for each index below rows and each type, and
// prints it. In m, which is a part of the table, it puts what is measured on.
func (f *benchFlags) run(cmd *cobra.Command, table benchTable, m *benchMachine, rows int) error {
	ctx := cmd.Context()
	devices, err := openEach(ctx, f.device)
	defer closeEach(devices)
	if err != nil {
		return err
	}
	var bar *progress
	if !f.quiet {
		bar = newProgress(cmd.ErrOrStderr())
	}
	defer bar.finish()
	if err := m.measure(ctx, f); err != nil {
		return err
	}
	for _, d := range devices {
		m.Devices = append(m.Devices, d.Device)
	}
	for i := range rows {
		for k, dtype := range f.dtypes {
			bar.set(float64(i*len(f.dtypes)+k) / float64(rows*len(f.dtypes)))
			if err := table.measure(ctx, devices, i, dtype); err != nil {
				return err
			}
		}
	}
	bar.finish()
	if !f.json {
		return table.print(cmd.OutOrStdout())
	}
	return printJSON(cmd, table)
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

// benchMachine is what is measured on: the CPU, whose best bounds what it
// reaches, and the devices.
type benchMachine struct {
	CPU     cpuBest         `json:"cpu"`
	Devices []gpurun.Device `json:"devices"`

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

// peakTime is how long the FMA peak is looked for, at most, however long
// anything is to be repeated.
const peakTime = 300 * time.Millisecond

// measure measures what bounds the CPU, this machine's first device. The peak is
// the best of many, since others who use the CPU only ever make it less.
func (m *benchMachine) measure(ctx context.Context, f *benchFlags) error {
	all, _ := gpurun.AllDevices() // the CPU is there, whatever else fails
	m.CPU = cpuBest{Name: all[0].Name, Threads: runtime.GOMAXPROCS(0), Peak: map[string]float64{}}
	m.dtypes = f.dtypes
	bandwidth, err := machine.MemoryBandwidth(ctx, m.CPU.Threads)
	if err != nil {
		return err
	}
	m.CPU.Bandwidth = 1e9 * bandwidth
	for _, dtype := range f.dtypes {
		start := time.Now()
		for again := true; again; again = time.Since(start) < min(f.time, peakTime) {
			if err := ctx.Err(); err != nil {
				return err
			}
			peak := 1e9 * machine.FMAPeak(elementSize(dtype), m.CPU.Threads)
			if peak == 0 {
				break
			}
			m.CPU.Peak[dtype] = max(m.CPU.Peak[dtype], peak)
		}
	}
	return nil
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

// print writes the devices, what bounds the CPU, and what the table after that
// is of.
func (m *benchMachine) print(w io.Writer, title string) {
	for _, d := range m.Devices {
		fmt.Fprintf(w, "%s: %s, %s\n", d.ID, d.Name, d.Driver)
	}
	fmt.Fprintf(w, "FMA peak of the CPU, %d threads:", m.CPU.Threads)
	for i, dtype := range m.dtypes {
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		fmt.Fprintf(w, " %s %s", dtype, orUnknown(m.CPU.Peak[dtype], "GFLOP/s"))
	}
	fmt.Fprintf(w, "; memory bandwidth: %s\n\n%s:\n\n", orUnknown(m.CPU.Bandwidth, "GB/s"), title)
}

// newBenchWriter returns what aligns the columns of a table.
func newBenchWriter(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// orUnknown writes a rate in a unit of 10⁹ a second. It is 0 where it is not known.
func orUnknown(rate float64, unit string) string {
	if rate == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f %s", rate/1e9, unit)
}

// orDash writes value, and a dash where it is 0, which is where it is not known.
func orDash(format string, value float64) string {
	if value == 0 {
		return "–"
	}
	return fmt.Sprintf(format, value)
}
