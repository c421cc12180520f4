package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

// tuneFlags are the flags of the verb tune.
type tuneFlags struct {
	device []string
	limit  time.Duration
	quiet  bool
}

func tuneCommand() *cobra.Command {
	var f tuneFlags
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Find the fastest way to multiply matrices on this machine's OpenCL devices",
		Long: `Try ways to launch the kernel of matrix products on OpenCL devices, in float32 and
float64, and keep the fastest of each for later runs. The results are the same
whatever is chosen: a way that gives other bits than the CPU does is not kept.

What was found is in the cache (GPURUN_CACHE, or gpurun in the user's cache
folder), for this device and driver: the fastest so far, if it is interrupted.`,
		Example: `  gpurun tune
  gpurun tune --device ocl:0.0 --limit 5m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.device, "device", []string{"opencl"}, "opencl (every OpenCL device), gpu, or ids from 'gpurun devices', separated by commas")
	flags.DurationVar(&f.limit, "limit", time.Minute, "how long to try, for all devices together")
	flags.BoolVar(&f.quiet, "quiet", false, "print nothing but errors")
	fixed(cmd, "device", "opencl", "gpu")
	return cmd
}

func (f *tuneFlags) run(cmd *cobra.Command) error {
	if f.limit <= 0 {
		return usagef("limit %v: it must be positive", f.limit)
	}
	eng, err := gpurun.Open(cmd.Context(), &gpurun.Config{Devices: f.device})
	if err != nil {
		return err
	}
	defer eng.Close()
	untried := tunable(eng.Devices())
	if len(untried) == 0 {
		return usagef("there is nothing to tune on the CPU: name an OpenCL device, such as --device ocl:0.0")
	}
	keeps := os.Getenv("GPURUN_CACHE") != "off"
	if !keeps && !f.quiet {
		fmt.Fprintln(cmd.ErrOrStderr(), "GPURUN_CACHE is off: what is found is not kept")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.limit)
	defer cancel()
	err = eng.Tune(ctx, func(t gpurun.Trial) {
		untried = slices.DeleteFunc(untried, func(s string) bool { return s == t.Device+" in "+t.Precision })
		if !f.quiet {
			t.Kept = t.Kept && keeps
			printTrial(cmd, t)
		}
	})
	timeUp := cmd.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded)
	if err != nil && !timeUp {
		return err
	}
	if len(untried) > 0 {
		return fmt.Errorf("nothing was tried within %v on %s: raise --limit", f.limit, strings.Join(untried, ", "))
	}
	return nil
}

// tunable returns what of the devices can be tuned: "ID in PRECISION".
func tunable(devices []gpurun.Device) []string {
	var all []string
	for _, d := range devices {
		if d.Backend != "opencl" {
			continue
		}
		if d.Float32 != "none" {
			all = append(all, d.ID+" in f32")
		}
		if d.Float64 != "none" {
			all = append(all, d.ID+" in f64")
		}
	}
	return all
}

func printTrial(cmd *cobra.Command, t gpurun.Trial) {
	w := cmd.OutOrStdout()
	switch {
	case t.Err != nil:
		fmt.Fprintf(w, "%s  %s  %-60s  %v\n", t.Device, t.Precision, t.Launch, brief(t.Err))
	case t.Kept:
		fmt.Fprintf(w, "%s  %s  %-60s  %8.1f GFLOP/s, kept\n", t.Device, t.Precision, t.Launch, t.Rate/1e9)
	default:
		fmt.Fprintf(w, "%s  %s  %-60s  %8.1f GFLOP/s\n", t.Device, t.Precision, t.Launch, t.Rate/1e9)
	}
}

// brief returns the first line of err: a compiler says much.
func brief(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
