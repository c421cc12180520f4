package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

// serveKernel is the verb by which a worker starts the process of a kernel.
const serveKernel = "serve-kernel"

// kernelCommand returns how a worker starts the process of a kernel.
func kernelCommand() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to run kernels by it: %w", err)
	}
	return []string{self, serveKernel}, nil
}

func serveKernelCommand() *cobra.Command {
	return &cobra.Command{
		Use:    serveKernel + " DEVICE MEMORY",
		Short:  "Run a kernel for the worker that has started this process",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			memory, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return usagef("%q is no number of bytes", args[1])
			}
			return gpurun.ServeKernels(cmd.Context(), args[0], memory)
		},
	}
}
