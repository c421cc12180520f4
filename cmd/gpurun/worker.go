package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

func workerCommand() *cobra.Command {
	var (
		listen string
		join   string
		device []string
		memory byteCount
		trust  trustFlags
		quiet  bool

		metrics    string
		kernels    bool
		kernelTime time.Duration
	)
	log := logFormat("text")
	cmd := &cobra.Command{
		Use:   "worker (--listen ADDR | --join ADDR)",
		Short: "Compute tiles for gpurun on other machines",
		Long: `Compute tiles for gpurun on other machines: for those that name this one with
--hosts, or for the one that it joins, which was started with --listen.

It runs until it is interrupted. SIGTERM lets it finish the tiles that it has, for
at most 30 s; a second one ends it at once.
Without --key, or your own certificates (--tls-cert, --tls-key and --tls-ca), only
addresses of this machine are served.`,
		Example: `  gpurun keygen -o cluster.key
  gpurun worker --listen :9473 --key cluster.key
  gpurun mandel --hosts gpu1:9473,gpu2:9473 --key cluster.key     # elsewhere

  gpurun mandel --listen :9473 --wait 1m --key cluster.key        # or the other way round
  gpurun worker --join head:9473 --key cluster.key

  gpurun worker --listen :9473 --tls-cert gpu1.pem --tls-key gpu1.key --tls-ca ca.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (listen == "") == (join == "") {
				return usagef("say either where to listen, such as --listen 127.0.0.1:9473, or whom to join, such as --join head:9473")
			}
			config := &gpurun.Config{Devices: device, Memory: int64(memory), Listen: listen, Metrics: metrics}
			config.AllowKernels, config.KernelTime = kernels, kernelTime
			var err error
			if config.KernelCommand, err = kernelCommand(); err != nil {
				return err
			}
			trust.set(config)
			return work(cmd, config, join, log.open(cmd.ErrOrStderr(), quiet))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "", "the address to listen at: host:port, :port or unix:/path")
	flags.StringVar(&join, "join", "", "the address of the coordinator to join, which listens there: host:port or unix:/path")
	flags.StringSliceVar(&device, "device", []string{"auto"}, "auto (all GPUs, else the CPU), all, cpu, gpu, opencl, or ids from 'gpurun devices', separated by commas")
	flags.Var(&memory, "mem", "the most memory to use on each device (default 80 % of it), and for the matrices of products (default half of this machine's)")
	trust.add(cmd)
	flags.BoolVar(&quiet, "quiet", false, "print nothing but errors and warnings")
	log.add(cmd, "how the log on stderr is written")
	flags.StringVar(&metrics, "metrics", "", metricsUsage)
	flags.BoolVar(&kernels, "allow-kernels", false, "run the kernels of coordinators that have the key: code that may do what this process may, each in a process of its own")
	flags.DurationVar(&kernelTime, "kernel-time", time.Minute, "how long a kernel may go without coming on before its process is ended")
	fixed(cmd, "device", "auto", "all", "cpu", "gpu", "opencl")
	return cmd
}

// work runs a worker that listens where config says, or else joins join.
func work(cmd *cobra.Command, config *gpurun.Config, join string, log *slog.Logger) error {
	w, err := gpurun.OpenWorker(cmd.Context(), config, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	drainOnTerm(ctx, w, cancel)
	var ids []string
	for _, d := range w.Devices() {
		ids = append(ids, d.ID)
	}
	if join != "" {
		log.Info(fmt.Sprintf("joining %s with %s", join, strings.Join(ids, ", ")))
		return w.Join(ctx, join)
	}
	log.Info(fmt.Sprintf("listening at %v with %s", w.Addr(), strings.Join(ids, ", ")))
	return w.Serve(ctx)
}

// drainOnTerm makes SIGTERM let w finish its tiles, and a second one call end.
func drainOnTerm(ctx context.Context, w *gpurun.Worker, end func()) {
	signal.Reset(syscall.SIGTERM) // which is an interrupt to the other verbs
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		for _, act := range []func(){w.Drain, end} {
			select {
			case <-signals:
				act()
			case <-ctx.Done():
				return
			}
		}
	}()
}
