package main

import (
	"math/rand/v2"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m) }

func TestHistogram(t *testing.T) {
	kerneltest.Everywhere(t, func(t *testing.T, config *gpurun.Config) {
		for _, n := range []int{0, 1, 63, 1000, 300_001} {
			data, want := make([]byte, n), [values]int{}
			rng := rand.New(rand.NewPCG(3, uint64(n)))
			for i := range data {
				data[i] = byte(rng.NormFloat64()*30 + 100)
				want[data[i]]++
			}
			got, err := histogram(data, config)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("of %d bytes: %v, want %v", n, got, want)
			}
		}
	})
}
