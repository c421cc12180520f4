package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/internal/views"
	"github.com/gpurun/gpurun/kernels"
)

// picture is an image to compute: a view at some size, in one type.
type picture struct {
	t             kernels.DType
	re, im, span  float64
	width, height int
	maxIter       int
}

// r2 is the square of the escape radius.
const r2 = views.EscapeRadius * views.EscapeRadius

// String is the picture in a request: type, centre, span, size in pixels, the limit
// of the steps, and the square of the escape radius.
func (p picture) String() string {
	return fmt.Sprint(p.t, " ", p.re, " ", p.im, " ", p.span, " ", p.width, " ", p.height, " ", p.maxIter, " ", r2)
}

func parsePicture(text string) (picture, error) {
	var p picture
	var t string
	var radius float64
	_, err := fmt.Sscan(text, &t, &p.re, &p.im, &p.span, &p.width, &p.height, &p.maxIter, &radius)
	for _, p.t = range types {
		if p.t.String() == t {
			break
		}
	}
	if err == nil && p.String() != strings.TrimSpace(text) {
		err = fmt.Errorf("picture %q is read as %q", text, p)
	}
	return p, err
}

func (p picture) job() *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{T: p.t, MaxIter: p.maxIter, R2: r2, Magnitudes: true}
	job.CX, job.CY = kernels.Axes(p.t, p.re, p.im, p.span, p.width, p.height)
	return job
}

// steps returns the steps that the definition takes for the picture whose counts
// these are: none for a pixel that the interior test settles.
func (p picture) steps(counts []uint32) float64 {
	job, sum := p.job(), 0
	for i, n := range counts {
		switch {
		case n > 0:
			sum += int(n)
		case !job.Interior(i%p.width, i/p.width):
			sum += p.maxIter
		}
	}
	return float64(sum)
}

// divisors are what the sides of a view may be divided by. Those of 1920 pixels are
// whole groups of 64 then, so that no kernel in groups has lanes without a pixel.
var divisors = []int{1, 2, 3, 5, 6, 10, 15, 30}

// sized returns the largest picture of v that takes about so many steps at most.
func sized(v views.View, t kernels.DType, steps float64) (picture, error) {
	at := func(divisor int) picture {
		return picture{t, v.Re, v.Im, v.Span, v.Width / divisor, v.Height / divisor, v.MaxIter}
	}
	sample := at(15)
	devices, err := device.Open([]string{"cpu"}, 0)
	if err != nil {
		return sample, err
	}
	defer devices[0].Close()
	job := sample.job()
	result := kernels.NewResult(job, job.Bounds())
	runner, err := devices[0].Begin(context.Background(), job)
	if err != nil {
		return sample, err
	}
	defer runner.Close()
	if err := runner.Run(context.Background(), job.Bounds(), result); err != nil {
		return sample, err
	}
	each := sample.steps(kernels.Elements[uint32](result.Planes[0])) / float64(sample.width*sample.height)
	var p picture
	for _, d := range divisors {
		if p = at(d); each*float64(p.width*p.height) <= steps {
			break
		}
	}
	return p, nil
}
