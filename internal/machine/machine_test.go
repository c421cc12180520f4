package machine

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/gpurun/gpurun/kernels/cpu"
)

// TestMeasure: what is measured is a number, and above 0 where there is assembly.
func TestMeasure(t *testing.T) {
	known := cpu.Best() != cpu.Generic
	bandwidth, err := MemoryBandwidth(t.Context(), 3)
	if err != nil {
		t.Error(err)
	}
	for name, value := range map[string]float64{
		"float32": FMAPeak(4, 2), "float64": FMAPeak(8, 1), "memory": bandwidth,
	} {
		if math.IsInf(value, 0) || math.IsNaN(value) || value < 0 || (value > 0) != known {
			t.Errorf("%s: %v, with the kernels %s", name, value, cpu.Best())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MemoryBandwidth(ctx, 1); known && !errors.Is(err, context.Canceled) {
		t.Errorf("after it was cancelled: %v", err)
	}
}
