package main

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

// launchWait is how long the process of rank 0 waits for the others where it has no device.
const launchWait = time.Minute

// launched finds the processes that a launcher has started with this one, for config. Those
// of other ranks than 0 are workers of the one that is: then it serves that, and returns
// true when it is done. Without a log of its own each has warnings in one: that of rank 0
// goes where f.config has it go.
func (f *jobFlags) launched(cmd *cobra.Command, config *gpurun.Config, bar *progress) (served bool, err error) {
	l, err := gpurun.Launched(config)
	if err != nil || l == nil {
		return false, err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(l.Threads())
	}
	config.Launch, config.Wait = l, cmp.Or(config.Wait, launchWait)
	if l.Rank == 0 {
		if config.Log == nil && !f.quiet {
			config.Log = warnings(logWriter(cmd.ErrOrStderr(), bar), l.Rank)
		}
		return false, nil
	}
	log := config.Log
	if log == nil {
		log = warnings(cmd.ErrOrStderr(), l.Rank)
	} else {
		log = log.With("rank", l.Rank)
	}
	w, err := gpurun.OpenWorker(cmd.Context(), &gpurun.Config{
		Devices: config.Devices, Memory: config.Memory, Launch: l, Join: config.Join,
		AllowKernels: config.AllowKernels, KernelCommand: config.KernelCommand,
		KeyFile: config.KeyFile, TLSCert: config.TLSCert, TLSKey: config.TLSKey, TLSCA: config.TLSCA,
	}, log)
	if err != nil {
		return true, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	drainOnTerm(ctx, w, cancel)
	return true, w.JoinLaunch(ctx)
}

// warnings returns the log that a process has by default.
func warnings(w io.Writer, rank int) *slog.Logger {
	return logFormat("text").open(w, true).With("rank", rank)
}
