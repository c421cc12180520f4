package gpurun

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
)

// ServeKernels is what a process does that a Worker with Config.AllowKernels has started by
// Config.KernelCommand, with the id of a device and the most memory to use on it behind it: it runs a
// kernel of a coordinator's, and ends the process when the worker has done with it. It returns only if
// it cannot begin.
func ServeKernels(ctx context.Context, id string, memory int64) error {
	conn, err := kernelConn()
	if err != nil {
		return fmt.Errorf("gpurun: no worker has started this process: %w", err)
	}
	go func() { // a kernel that never ends does not outlive a worker that is killed
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.Sleep(endPatience)
		os.Exit(1)
	}()
	devices, err := device.Open([]string{id}, memory)
	if err != nil {
		return err
	}
	pullers, infos := hosted(devices)
	host := dist.NewHost("kernel", pullers, infos, nil)
	host.AllowKernels(pullers)
	err = host.ServeConn(ctx, conn, nil, "localhost")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0) // without waiting for what may never end
	return nil
}
