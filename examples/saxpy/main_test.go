package main

import (
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m) }

func TestRun(t *testing.T) {
	kerneltest.Everywhere(t, func(t *testing.T, config *gpurun.Config) {
		x, y := make([]float32, 100_000), make([]float32, 100_000)
		for i := range x {
			x[i], y[i] = float32(i)/7, float32(i)/3
		}
		z, err := run(0.1, x, y, config)
		if err != nil {
			t.Fatal(err)
		}
		for i := range z {
			if want := float32(0.1*x[i]) + y[i]; z[i] != want {
				t.Fatalf("element %d is %v, want %v", i, z[i], want)
			}
		}
	})
}
