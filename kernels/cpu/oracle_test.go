package cpu

import (
	"math"
	"math/big"

	"github.com/gpurun/gpurun/kernels"
)

// arithmetic is float32 or float64 arithmetic on values held as float64. One
// operation of float32 in float64, then rounded, is correctly rounded, except
// fma, which the two oracles below compute in unrelated ways.
type arithmetic struct {
	t   kernels.DType
	fma func(x, y, z float64) float64
}

func (a arithmetic) add(x, y float64) float64 { return a.t.Round(float64(x + y)) }
func (a arithmetic) mul(x, y float64) float64 { return a.t.Round(float64(x * y)) }

// exact computes fma through math/big.
func exact(t kernels.DType) arithmetic {
	return arithmetic{t, func(x, y, z float64) float64 { return bigFMA(t, x, y, z) }}
}

// quick computes fma as the generic kernels do.
func quick(t kernels.DType) arithmetic {
	if t == kernels.Float32 {
		return arithmetic{t, func(x, y, z float64) float64 {
			return float64(kernels.FMA32(float32(x), float32(y), float32(z)))
		}}
	}
	return arithmetic{t, math.FMA}
}

// bigFMA returns x·y+z rounded once to t.
func bigFMA(t kernels.DType, x, y, z float64) float64 {
	finite := func(v float64) bool { return !math.IsInf(v, 0) && !math.IsNaN(v) }
	switch {
	case !finite(x) || !finite(y) || x == 0 || y == 0:
		// The product is exact in float64, if not finite or 0.
		return float64(x*y) + z
	case !finite(z):
		return z
	}
	const enough = 1 << 13 // bits for any exponents of x·y and z
	exact := func(v float64) *big.Float { return new(big.Float).SetPrec(enough).SetFloat64(v) }
	sum := exact(x)
	sum.Mul(sum, exact(y))
	sum.Add(sum, exact(z))
	if t == kernels.Float32 {
		out, _ := sum.Float32()
		return float64(out)
	}
	out, _ := sum.Float64()
	return out
}

// escape computes pixel (i, j) of job by the definition, line by line.
func escape(job *kernels.Mandelbrot, a arithmetic, i, j int) (count uint32, mag float32) {
	x, y, cx, cy := 0.0, 0.0, job.CX[i], job.CY[j]
	if job.Julia {
		x, y, cx, cy = job.CX[i], job.CY[j], job.CRe, job.CIm
	} else {
		yy := a.mul(cy, cy)
		p := a.add(cx, -0.25)
		q := a.fma(p, p, yy)
		if a.mul(q, a.add(q, p)) <= a.mul(0.25, yy) {
			return 0, 0
		}
		if a.fma(a.add(cx, 1), a.add(cx, 1), yy) <= 0.0625 {
			return 0, 0
		}
	}
	for n := 1; n <= job.MaxIter; n++ {
		t := a.fma(-y, y, cx)
		y = a.fma(a.add(x, x), y, cy)
		x = a.fma(x, x, t)
		if r2 := a.fma(x, x, a.mul(y, y)); r2 > job.R2 {
			return uint32(n), float32(r2)
		}
	}
	return 0, 0
}
