// Package pretend has devices that take the time of a computation and do not
// compute. So many of them fit on any machine, and do not disturb each other.
package pretend

import (
	"context"
	"math"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Image is an image, and what each part of it costs.
type Image struct {
	Job     *kernels.Mandelbrot
	Exact   *tiler.CostMap // of every pixel
	Sampled *tiler.CostMap // of one pixel in about a thousand, as the engine has it
	Total   float64        // the exact cost of the whole job

	planes [][]byte // the job's result
}

// pixelCost is what a pixel costs besides its iterations, in iterations.
const pixelCost = 8

// Compute computes the image of view, on the CPU.
func Compute(view gpurun.View) (*Image, error) {
	eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	field, err := eng.Mandelbrot(context.Background(), view)
	if err != nil {
		return nil, err
	}
	w, h := view.Width, view.Height
	m := &Image{planes: [][]byte{kernels.Bytes(field.Counts)}}
	m.Job = &kernels.Mandelbrot{T: kernels.Float64, MaxIter: view.MaxIter, R2: 4, Magnitudes: !view.CountsOnly}
	m.Job.CX, m.Job.CY = kernels.Axes(m.Job.T, real(view.Center), imag(view.Center), view.Span, w, h)
	if m.Job.Magnitudes {
		m.planes = append(m.planes, kernels.Bytes(field.Magnitudes))
	}
	cost := func(i, j int) float64 {
		switch n := field.Counts[j*w+i]; {
		case n > 0:
			return float64(n)
		case m.Job.Interior(i, j):
			return 0
		}
		return float64(view.MaxIter)
	}
	grid := func(cols, rows int) *tiler.CostMap {
		costs := make([]float64, 0, cols*rows)
		for j := range rows {
			for i := range cols {
				costs = append(costs, cost((2*i+1)*w/(2*cols), (2*j+1)*h/(2*rows)))
			}
		}
		return tiler.NewCostMap(w, h, cols, rows, costs, pixelCost)
	}
	samples := w * h / 1000
	cols := int(math.Sqrt(float64(samples*w) / float64(h)))
	m.Exact, m.Sampled = grid(w, h), grid(cols, samples/cols)
	m.Total = m.Exact.Cost(m.Job.Bounds())
	return m, nil
}

// Result writes the true result of t to r.
func (m *Image) Result(t kernels.Tile, r *kernels.Result) {
	for i, d := range m.Job.Planes() {
		tiler.Cut(r.Planes[i], t, m.planes[i], m.Job.Bounds().W, d.Size())
	}
}

// Sleeper is a device that has the results of an image ready, and sleeps for as
// long as a device of its rate would take for them. What a timer sleeps too long
// it takes off the next tile: that is the timer's fault, and not the queue's.
type Sleeper struct {
	Name  string
	Image *Image
	Rate  float64 // cost a second

	late time.Duration
}

// ID, Slots, Begin and Close make it a dist.Device and a kernels.Runner.
func (s *Sleeper) ID() string   { return s.Name }
func (s *Sleeper) Slots() int   { return 1 }
func (s *Sleeper) Close() error { return nil }

func (s *Sleeper) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return s, nil }

// Run sleeps for as long as t takes.
func (s *Sleeper) Run(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	due := time.Now().Add(time.Duration(s.Image.Exact.Cost(t)/s.Rate*1e9) - s.late)
	s.Image.Result(t, r)
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		s.late = time.Since(due)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
