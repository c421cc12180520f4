package main

import "testing"

// TestHeat holds every step against plain loops, bit for bit.
func TestHeat(t *testing.T) {
	const w, h, steps = 70, 50, 40
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
	onDevices(t, func(t *testing.T, device string) {
		got, err := heat(w, h, steps, device)
		if err != nil {
			t.Fatal(err)
		}
		for i := range now {
			if got[i] != now[i] {
				t.Fatalf("place %d is at %v, want %v", i, got[i], now[i])
			}
		}
	})
}
