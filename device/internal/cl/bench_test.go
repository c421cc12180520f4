package cl

import (
	"context"
	"testing"
)

// The least that a call of OpenCL costs.
func BenchmarkCall(b *testing.B) {
	_, q := requireContext(b)
	e, err := q.EnqueueMarker()
	if err != nil {
		b.Fatal(err)
	}
	defer e.Release()
	if err := q.Finish(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := e.Status(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetArg(b *testing.B) {
	ctx, _ := requireContext(b)
	k := requireSpin(b, ctx)
	for b.Loop() {
		if err := k.SetArg(1, uint32(1)); err != nil {
			b.Fatal(err)
		}
	}
}

// A trivial kernel from enqueueing it to knowing that it is done.
func BenchmarkRoundTrip(b *testing.B) {
	ctx, q := requireContext(b)
	k := requireSpin(b, ctx)
	b.Run("Wait", func(b *testing.B) {
		for b.Loop() {
			e := spin(b, q, k, 1)
			if err := e.Wait(context.Background()); err != nil {
				b.Fatal(err)
			}
			e.Release()
		}
	})
	b.Run("Finish", func(b *testing.B) {
		for b.Loop() {
			e := spin(b, q, k, 1)
			if err := q.Finish(); err != nil {
				b.Fatal(err)
			}
			e.Release()
		}
	})
}

// Listing all devices once the library is loaded.
func BenchmarkList(b *testing.B) {
	requireDevice(b)
	for b.Loop() {
		platforms, err := GetPlatformIDs()
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range platforms {
			if _, err := p.GetDeviceIDs(DEVICE_TYPE_ALL); err != nil {
				b.Fatal(err)
			}
		}
	}
}
