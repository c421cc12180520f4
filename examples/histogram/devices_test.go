package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// onDevices runs a test on the CPU, and on OpenCL devices if there are any.
func onDevices(t *testing.T, test func(t *testing.T, device string)) {
	t.Run("cpu", func(t *testing.T) { test(t, "cpu") })
	t.Run("opencl", func(t *testing.T) {
		devices, _ := gpurun.AllDevices()
		if !slices.ContainsFunc(devices, func(d gpurun.Device) bool { return strings.HasPrefix(d.ID, "ocl:") }) {
			testenv.Missing(t, "opencl", "there is no OpenCL device here")
		}
		test(t, "opencl")
	})
}
