package sim

import (
	"context"
	"math"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// field is a job of which every part has a cost, and what the queue is told of it.
type field struct {
	job     output
	exact   tiler.Cost
	sampled tiler.Cost
	total   float64
	element int // bytes of a result, for each element
	line    int // bytes of an operand, for each row or column; 0: there is none
}

// output is a job without planes: nobody needs memory for results that nobody
// computes.
type output struct {
	w, h   int
	kernel string
	flops  float64
}

// Flops returns the operations of a product.
func (o output) Flops() float64 { return o.flops }

func (o output) Kernel() string          { return o.kernel }
func (o output) Bounds() kernels.Tile    { return kernels.Tile{W: o.w, H: o.h} }
func (o output) DType() kernels.DType    { return kernels.Float64 }
func (o output) Planes() []kernels.DType { return nil }

// pixelCost is what a pixel costs besides its iterations, as the engine has it.
const pixelCost = 8

// trueColumns is how many pixels of a row are computed at most; where an image has more,
// each stands for several.
const trueColumns = 6000

// image returns the view as an image of w×h counts. What its pixels cost is known from
// the CPU's kernels; the queue is told what one pixel in a thousand says.
func image(t testing.TB, view gpurun.View, w, h int) *field {
	view.Width = min(w, trueColumns)
	view.Height = max(1, h*view.Width/w)
	view.EscapeRadius, view.CountsOnly = 2, true
	eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	counts, err := eng.Mandelbrot(context.Background(), view)
	if err != nil {
		t.Fatal(err)
	}
	axes := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: view.MaxIter, R2: 4}
	axes.CX, axes.CY = kernels.Axes(axes.T, real(view.Center), imag(view.Center), view.Span, view.Width, view.Height)
	cost := func(i, j int) float64 {
		switch n := counts.Counts[j*view.Width+i]; {
		case n > 0:
			return float64(n)
		case axes.Interior(i, j):
			return 0
		}
		return float64(view.MaxIter)
	}
	grid := func(cols, rows int) *tiler.CostMap {
		costs := make([]float64, 0, cols*rows)
		for j := range rows {
			for i := range cols {
				costs = append(costs, cost((2*i+1)*view.Width/(2*cols), (2*j+1)*view.Height/(2*rows)))
			}
		}
		return tiler.NewCostMap(w, h, cols, rows, costs, pixelCost)
	}
	samples := float64(w) * float64(h) / 1000
	cols := max(1, int(math.Sqrt(samples*float64(w)/float64(h))))
	f := &field{job: output{w: w, h: h, kernel: "mandelbrot"}, exact: grid(view.Width, view.Height), element: 4}
	f.sampled = grid(min(cols, view.Width), min(max(1, int(samples)/cols), view.Height))
	f.total = f.exact.Cost(f.job.Bounds())
	return f
}

// uniform returns a job of w×h elements that all cost 1.
func uniform(w, h int) *field {
	return &field{job: output{w: w, h: h, kernel: "uniform"}, exact: tiler.Uniform(1), sampled: tiler.Uniform(1), total: float64(w) * float64(h), element: 4}
}

// product returns the product of two n×n matrices of float64.
func product(n int) *field {
	f := uniform(n, n)
	f.job.kernel, f.job.flops = "matmul", 2*float64(n)*float64(n)*float64(n)
	f.element, f.line = 8, 8*n
	return f
}
