// Package kerneltest has tests of kernels run on all that can run them: the CPU, OpenCL devices, and
// hosts.
package kerneltest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// serveKernel is the first argument of a test's process that is to run a kernel for a worker.
const serveKernel = "serve-kernel"

// Main is what the TestMain of a package calls whose tests call Everywhere.
func Main(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == serveKernel {
		var memory int64
		_, err := fmt.Sscan(os.Args[3], &memory)
		if err == nil {
			err = gpurun.ServeKernels(context.Background(), os.Args[2], memory)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// hosts is how many hosts there are.
const hosts = 3

// OnDevices runs a test with the CPU and with OpenCL devices. Without such a device only the first is
// there, unless there has to be one.
func OnDevices(t *testing.T, test func(t *testing.T, config *gpurun.Config)) {
	t.Run("cpu", func(t *testing.T) { test(t, &gpurun.Config{Devices: []string{"cpu"}}) })
	t.Run("opencl", func(t *testing.T) {
		requireOpenCL(t)
		test(t, &gpurun.Config{Devices: []string{"opencl"}})
	})
}

// Everywhere is OnDevices, three hosts that have the kernels' functions in Go, and, where there is an
// OpenCL device, three that have it. There each kernel starts a process on each of them, at its first
// run at least: a test with many kernels runs fewer of them.
func Everywhere(t *testing.T, test func(t *testing.T, config *gpurun.Config)) {
	OnDevices(t, test)
	t.Run("hosts", func(t *testing.T) {
		t.Run("cpu", func(t *testing.T) { test(t, startHosts(t, "cpu")) })
		t.Run("opencl", func(t *testing.T) {
			requireOpenCL(t)
			test(t, startHosts(t, "opencl"))
		})
	})
}

func requireOpenCL(t *testing.T) {
	t.Helper()
	devices, _ := gpurun.AllDevices()
	if !slices.ContainsFunc(devices, func(d gpurun.Device) bool { return strings.HasPrefix(d.ID, "ocl:") }) {
		testenv.Missing(t, "opencl", "there is no OpenCL device here")
	}
}

// startHosts starts workers that run kernels on a device, and returns a Config by which they are reached.
func startHosts(t *testing.T, device string) *gpurun.Config {
	t.Helper()
	dir := t.TempDir()
	config := &gpurun.Config{Devices: []string{"none"}, KeyFile: filepath.Join(dir, "key")}
	if err := gpurun.WriteKeyFile(config.KeyFile); err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		addr := fmt.Sprintf("unix:%s/%d", dir, i)
		w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{
			Devices: []string{device}, Listen: addr, KeyFile: config.KeyFile, AllowKernels: true, KernelCommand: []string{os.Args[0], serveKernel},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- w.Serve(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-served // the error is ctx's
		})
		config.Hosts = append(config.Hosts, addr)
	}
	return config
}
