package devicetest

import (
	"fmt"

	"github.com/gpurun/gpurun/kernels"
)

// Case is a job of the suite.
type Case struct {
	Name string
	Job  *kernels.Mandelbrot
}

// view is a region that some implementation could get wrong.
type view struct {
	name         string
	re, im, span float64
	w, h         int
	maxIter      int
	radius       float64
	julia        *complex128
}

func c(re, im float64) *complex128 {
	z := complex(re, im)
	return &z
}

// views are computed in both types; float32 sees the deepest as blocks, which
// have to be the same blocks everywhere.
var views = []view{
	{"pixel", -0.5, 0, 3, 1, 1, 1000, 256, nil},
	{"7x3", -0.5, 0, 3, 7, 3, 1000, 2, nil},
	{"full", -0.5, 0, 3, 129, 85, 500, 256, nil},
	{"full R=2", -0.5, 0, 3, 129, 85, 500, 2, nil},
	{"wide", -0.5, 0, 3, 1023, 5, 300, 2, nil},
	{"tall", -0.5, 0, 0.05, 3, 517, 300, 256, nil},
	{"large", -0.5, 0, 3, 1023, 517, 60, 256, nil},
	{"seahorse", -0.7463, 0.1102, 0.005, 97, 61, 2000, 256, nil},
	{"seahorse R=2", -0.7463, 0.1102, 0.005, 97, 61, 2000, 2, nil},
	{"real axis", -1.4, 0, 1.2, 257, 3, 1500, 256, nil},
	{"tip", -2, 0, 1e-4, 65, 33, 700, 2, nil},
	{"tip, close", -2, 0, 1e-12, 65, 33, 700, 2, nil},
	{"on |c| = 2", -1.2, 1.6, 1e-6, 64, 64, 100, 2, nil},
	{"inside the cardioid", -0.1, 0.1, 0.2, 33, 21, 5000, 2, nil},
	{"inside the period-3 bulb", -0.1225, 0.7449, 0.01, 33, 21, 3000, 256, nil},
	{"edge of the cardioid", 0.25, 0, 1e-3, 65, 65, 3000, 256, nil},
	{"edge of the period-2 disc", -0.75, 0, 1e-3, 65, 65, 3000, 2, nil},
	{"outside", 3, 3, 1, 65, 33, 1000, 256, nil},
	{"far outside", 1e6, -1e6, 1e3, 33, 33, 100, 1e9, nil},
	{"limit of f32", -0.7463, 0.1102, 3e-6, 65, 43, 1500, 256, nil},
	{"limit of f64", -0.743643887037151, 0.13182590420533, 6e-14, 65, 43, 3000, 256, nil},
	{"beyond f64", -0.743643887037151, 0.13182590420533, 1e-16, 33, 21, 500, 2, nil},
	{"limit of R=2", -1.999977112, 0, 1e-9, 65, 43, 300, 2, nil},
	{"R=1e9", -0.5, 0, 3, 65, 43, 300, 1e9, nil},
	{"one step", -0.5, 0, 8, 65, 43, 1, 2, nil},
	{"seven steps", -0.5, 0, 4, 65, 43, 7, 2, nil},
	{"eight steps", -0.5, 0, 4, 65, 43, 8, 2, nil},
	{"deep", -0.5, 0, 3, 33, 21, 20000, 256, nil},
	{"Julia", 0, 0, 3, 129, 85, 500, 256, c(-0.8, 0.156)},
	{"Julia R=2", 0, 0, 5, 129, 85, 500, 2, c(0.285, 0.01)},
	{"Julia, connected", 0, 0, 3, 65, 43, 1000, 2, c(-0.75, 0)},
	{"Julia, overflow of f32", 0, 0, 6e38, 65, 3, 40, 256, c(0, 1)},
	{"Julia, overflow of f64", 0, 0, 1.7e308, 65, 3, 40, 256, c(0, 1)},
	{"Julia, |c| = R", 0, 0, 5, 65, 43, 300, 2, c(-2, 0)},
}

// Cases returns the jobs of the suite: every view in both types, with and
// without magnitudes.
func Cases() []Case {
	var cases []Case
	for i, v := range views {
		for _, t := range []kernels.DType{kernels.Float32, kernels.Float64} {
			job := &kernels.Mandelbrot{
				T: t, MaxIter: v.maxIter, R2: t.Round(v.radius * v.radius),
				Magnitudes: (i+int(t))%4 != 0,
			}
			job.CX, job.CY = kernels.Axes(t, v.re, v.im, v.span, v.w, v.h)
			if v.julia != nil {
				job.Julia, job.CRe, job.CIm = true, t.Round(real(*v.julia)), t.Round(imag(*v.julia))
			}
			cases = append(cases, Case{fmt.Sprintf("%s/%v", v.name, t), job})
		}
	}
	return cases
}
