package main

import (
	"math"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m) }

// TestFollow looks at what physics keeps: the energy, nearly, and the momentum.
func TestFollow(t *testing.T) {
	kerneltest.Everywhere(t, func(t *testing.T, config *gpurun.Config) {
		b := ring(300)
		momentum := func() (x, y float64) {
			for i, m := range b.mass {
				x, y = x+m*b.vx[i], y+m*b.vy[i]
			}
			return x, y
		}
		energy := b.energy()
		x, y := momentum()
		steps := 50
		if len(config.Hosts) > 0 {
			steps = 5
		}
		if err := b.follow(steps, 0.001, config); err != nil {
			t.Fatal(err)
		}
		if after := b.energy(); math.Abs(after-energy) > 1e-4*math.Abs(energy) || after == energy {
			t.Errorf("the energy was %v and is %v", energy, after)
		}
		if x2, y2 := momentum(); math.Hypot(x2-x, y2-y) > 1e-13 {
			t.Errorf("the momentum was %v, %v and is %v, %v", x, y, x2, y2)
		}
	})
}

// TestTwoBodies has one body circle around another for a whole turn.
func TestTwoBodies(t *testing.T) {
	kerneltest.OnDevices(t, func(t *testing.T, config *gpurun.Config) {
		b := &bodies{[]float64{1, 1e-9}, []float64{0, 1}, []float64{0, 0}, []float64{0, 0}, []float64{0, 0}}
		pull := 1 / math.Pow(1+softening*softening, 1.5)
		b.vy[1] = math.Sqrt(pull)
		turn := 2 * math.Pi / math.Sqrt(pull)
		if err := b.follow(1000, turn/1000, config); err != nil {
			t.Fatal(err)
		}
		if math.Hypot(b.x[1]-1, b.y[1]) > 1e-3 {
			t.Errorf("after a turn it is at (%v, %v)", b.x[1], b.y[1])
		}
	})
}
