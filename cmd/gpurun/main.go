// Command gpurun computes on every GPU and CPU core of this machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/output"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
	exitDrained     = 143 // as of a process that SIGTERM has ended
)

func main() { os.Exit(gpurunMain()) }

// interruptGrace is how long a command may take to end by itself after it was
// interrupted. A driver's compiler, for one, cannot be stopped.
const interruptGrace = 200 * time.Millisecond

func gpurunMain() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		time.Sleep(interruptGrace)
		output.DiscardAll()
		fmt.Fprintln(os.Stderr, interrupted)
		os.Exit(exitInterrupted)
	}()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// interrupted is what an interrupted command says.
const interrupted = "gpurun: interrupted"

// errUsage is matched by errors about how the command was called.
var errUsage = errors.New("wrong usage")

// usagef returns an error that makes the command exit with exitUsage.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

type usageError struct{ error }

func (e usageError) Is(target error) bool { return target == errUsage }
func (e usageError) Unwrap() error        { return e.error }

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "gpurun",
		Short:         "Compute on every GPU and CPU core of this machine",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	// An error that comes before the verb has started is about the command line.
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.AddCommand(devicesCommand(), mandelCommand(), matmulCommand(), benchCommand(), tuneCommand(), runCommand(), serveKernelCommand(), workerCommand(), keygenCommand(), statusCommand(), versionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err, started)
	if err != nil && code != exitInterrupted {
		fmt.Fprintln(stderr, "gpurun: "+oneLine(err))
	}
	if code == exitInterrupted {
		fmt.Fprintln(stderr, interrupted)
	}
	return code
}

func exitCode(ctx context.Context, err error, started bool) int {
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, gpurun.ErrDrained):
		return exitDrained
	case !started, errors.Is(err, errUsage),
		errors.Is(err, gpurun.ErrView), errors.Is(err, gpurun.ErrPalette), errors.Is(err, gpurun.ErrDeviceName):
		return exitUsage
	}
	return exitFailed
}

// printJSON prints v as JSON on stdout.
func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// oneLine returns the message of err on one line, without the prefix that the
// command prints itself.
func oneLine(err error) string {
	s := strings.TrimPrefix(err.Error(), "gpurun: ")
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}
