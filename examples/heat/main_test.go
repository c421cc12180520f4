package main

import (
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m) }

// TestHeat holds every step against plain loops, bit for bit.
func TestHeat(t *testing.T) {
	kerneltest.Everywhere(t, func(t *testing.T, config *gpurun.Config) {
		steps := 40
		if len(config.Hosts) > 0 {
			steps = 10
		}
		got, err := heat(w, h, steps, config)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range plate(steps) {
			if got[i] != want {
				t.Fatalf("place %d is at %v, want %v", i, got[i], want)
			}
		}
	})
}

const w, h = 70, 50

// plate is heat in plain loops.
func plate(steps int) []float32 {
	now := make([]float32, w*h)
	for i := range w {
		now[i] = 1
	}
	for range steps {
		next := append([]float32{}, now...)
		for j := 1; j < h-1; j++ {
			for i := 1; i < w-1; i++ {
				at := j*w + i
				sum := (now[at-1] + now[at+1]) + (now[at-w] + now[at+w]) - float32(4*now[at])
				next[at] = now[at] + float32(float32(0.2)*sum)
			}
		}
		now = next
	}
	return now
}
