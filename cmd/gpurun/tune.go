package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

func tuneCommand() *cobra.Command {
	var (
		device []string
		limit  time.Duration
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Find the fastest way to multiply matrices on this machine's OpenCL devices",
		Long: `Try ways to launch the kernel of matrix products on OpenCL devices, in float32 and
float64, and keep the fastest of each for this and later runs. The results are
the same whatever is chosen: a way that gives other bits is not kept.

What was found is in the cache (GPURUN_CACHE, or gpurun in the user's cache
folder), for this device and driver.`,
		Example: `  gpurun tune
  gpurun tune --device ocl:0.0 --limit 5m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit <= 0 {
				return usagef("limit %v: it must be positive", limit)
			}
			eng, err := gpurun.Open(cmd.Context(), &gpurun.Config{Devices: device})
			if err != nil {
				return err
			}
			defer eng.Close()
			if !slices.ContainsFunc(eng.Devices(), func(d gpurun.Device) bool { return d.Backend == "opencl" }) {
				return usagef("there is nothing to tune on the CPU: name an OpenCL device, such as --device ocl:0.0")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			err = eng.Tune(ctx, func(t gpurun.Trial) {
				if !quiet {
					printTrial(cmd, t)
				}
			})
			if cmd.Context().Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return nil // the time is up
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&device, "device", []string{"opencl"}, "opencl (every OpenCL device), gpu, or ids from 'gpurun devices', separated by commas")
	flags.DurationVar(&limit, "limit", time.Minute, "how long to try")
	flags.BoolVar(&quiet, "quiet", false, "print nothing but errors")
	fixed(cmd, "device", "opencl", "gpu")
	return cmd
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
