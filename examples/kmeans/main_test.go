package main

import (
	"math"
	"slices"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m) }

func TestCentres(t *testing.T) {
	const rounds = 2 // enough from where they begin
	x, y := points(20_000, 4)
	var before [2][]float32
	kerneltest.Everywhere(t, func(t *testing.T, config *gpurun.Config) {
		cx, cy, err := cluster(x, y, 4, rounds, config)
		if err != nil {
			t.Fatal(err)
		}
		for k := range cx {
			if math.Abs(float64(cx[k])-float64(k%2)) > 0.01 || math.Abs(float64(cy[k])-float64(k/2)) > 0.01 {
				t.Errorf("centre %d is at (%v, %v)", k, cx[k], cy[k])
			}
		}
		// All of it is exact arithmetic in a fixed order.
		if before[0] != nil && !(slices.Equal(before[0], cx) && slices.Equal(before[1], cy)) {
			t.Errorf("the CPU has %v and %v, and this device %v and %v", before[0], before[1], cx, cy)
		}
		before = [2][]float32{cx, cy}
	})
}
