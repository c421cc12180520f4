package kernels

import (
	"errors"
	"fmt"
	"math"
)

// MaxIterLimit is the largest iteration limit that a Mandelbrot job may have.
const MaxIterLimit = math.MaxInt32

// Mandelbrot is an escape-time image of the quadratic map z → z² + c: the
// Mandelbrot set (z₀ = 0, c the pixel) or a Julia set (z₀ the pixel, c fixed).
// See B. Mandelbrot, "Fractal aspects of the iteration of z → λz(1−z)", 1980.
//
// All arithmetic is in T, float32 or float64. fma(a, b, c) is a·b+c with one
// rounding; every other operation rounds by itself, and nothing is
// re-associated. For the pixel (i, j), with c = (cx, cy), z = (x, y):
//
//	Mandelbrot: c = (CX[i], CY[j]), z = 0;   Julia: c = (CRe, CIm), z = (CX[i], CY[j])
//	Mandelbrot only: count = 0 if
//	    q·(q+p) ≤ 0.25·(cy·cy)  where p = cx−0.25, q = fma(p, p, cy·cy)
//	    or fma(cx+1, cx+1, cy·cy) ≤ 0.0625
//	for n = 1 … MaxIter:
//	    t = fma(−y, y, cx);  y = fma(x+x, y, cy);  x = fma(x, x, t)    both from the old x, y
//	    r2 = fma(x, x, y·y)
//	    count = n and stop if r2 > R2
//	count = 0 if it never stopped
//
// Plane 0 of the output holds count as uint32. Plane 1, present if Magnitudes
// is set, holds float32(r2) at the step where the pixel escaped, and 0 where
// it did not.
type Mandelbrot struct {
	// T is Float32 or Float64.
	T DType

	// CX and CY are the real parts of the columns and the imaginary parts of
	// the rows. Every value is exact in T.
	CX, CY []float64

	// Julia selects a Julia set; CRe and CIm, exact in T, are its c.
	Julia    bool
	CRe, CIm float64

	// MaxIter is in [1, MaxIterLimit].
	MaxIter int

	// R2 is the square of the escape radius R, exact in T. R ≥ 2, for a Julia
	// set R ≥ |c| too, and R ≤ 1e9.
	R2 float64

	// Magnitudes asks for plane 1.
	Magnitudes bool
}

// Validate returns an error if m is not a job as its fields' comments say, so
// that jobs from elsewhere can be told from jobs that would do harm.
func (m *Mandelbrot) Validate() error {
	exact := func(x float64) bool { return m.T.Round(x) == x }
	c := math.Sqrt(float64(m.CRe*m.CRe) + float64(m.CIm*m.CIm))
	switch {
	case m.T != Float32 && m.T != Float64:
		return fmt.Errorf("type %v is not a floating-point type", m.T)
	case len(m.CX) == 0 || len(m.CY) == 0 || len(m.CX) > maxSide || len(m.CY) > maxSide:
		return fmt.Errorf("%d×%d pixels", len(m.CX), len(m.CY))
	case m.MaxIter < 1 || m.MaxIter > MaxIterLimit:
		return fmt.Errorf("%d iterations", m.MaxIter)
	case !(m.R2 >= 4 && m.R2 <= m.T.Round(1e18)) || !exact(m.R2):
		return fmt.Errorf("escape radius of √%g", m.R2)
	case m.Julia && !(c <= math.Sqrt(m.R2)*(1+1e-6)) || !exact(m.CRe) || !exact(m.CIm):
		return fmt.Errorf("c of %g, %g with an escape radius of √%g", m.CRe, m.CIm, m.R2)
	case !all(m.CX, exact) || !all(m.CY, exact):
		return errors.New("a coordinate that is no number of the type")
	}
	return nil
}

// maxSide bounds the columns and rows of a job.
const maxSide = 1 << 30

func all(values []float64, ok func(float64) bool) bool {
	for _, v := range values {
		if !ok(v) {
			return false
		}
	}
	return true
}

// Kernel returns "mandelbrot".
func (m *Mandelbrot) Kernel() string { return "mandelbrot" }

// Bounds returns the whole image.
func (m *Mandelbrot) Bounds() Tile { return Tile{W: len(m.CX), H: len(m.CY)} }

// DType returns m.T.
func (m *Mandelbrot) DType() DType { return m.T }

// Planes returns Uint32 for the counts and, with Magnitudes, Float32.
func (m *Mandelbrot) Planes() []DType {
	if m.Magnitudes {
		return []DType{Uint32, Float32}
	}
	return []DType{Uint32}
}

// Axes returns the pixel coordinates of a w×h image centred at (re, im) that
// is span wide in the complex plane, rounded to t: with step = span/w,
//
//	cx[i] = fma(i+0.5−w/2, step, re),  cy[j] = fma(h/2−0.5−j, step, im)
//
// in float64, where w/2 and h/2 are real divisions.
func Axes(t DType, re, im, span float64, w, h int) (cx, cy []float64) {
	cx = make([]float64, w)
	step := span / float64(w)
	for i := range cx {
		cx[i] = t.Round(math.FMA(float64(i)+0.5-float64(w)/2, step, re))
	}
	return cx, RowAxis(t, im, span, w, h, 0, h)
}

// RowAxis returns the part of cy that belongs to the rows from … to−1 of the image,
// for those who look at a few of its rows at a time.
func RowAxis(t DType, im, span float64, w, h, from, to int) []float64 {
	cy := make([]float64, to-from)
	step := span / float64(w)
	for j := range cy {
		cy[j] = t.Round(math.FMA(float64(h)/2-0.5-float64(from+j), step, im))
	}
	return cy
}

// Round returns x rounded to d; Uint32 is not a type to round to.
func (d DType) Round(x float64) float64 {
	if d == Float32 {
		return float64(float32(x))
	}
	return x
}

// Sample returns a coarse copy of m: one pixel in the middle of each cell of a
// grid of cols×rows cells. cols and rows are at least 1 and at most the size
// of m. Cell (i, j) covers the columns from i·W/cols up to (i+1)·W/cols and
// the rows likewise.
func (m *Mandelbrot) Sample(cols, rows int) *Mandelbrot {
	s := *m
	s.CX, s.CY, s.Magnitudes = middles(m.CX, cols), middles(m.CY, rows), false
	return &s
}

func middles(axis []float64, cells int) []float64 {
	out := make([]float64, cells)
	for i := range out {
		out[i] = axis[(2*i+1)*len(axis)/(2*cells)]
	}
	return out
}

// MonotoneLimit returns the |c| up to which an orbit that has left the disc of
// radius R stays outside it, rounding included: for |c| ≤ MonotoneLimit(R2), if
// r2 > R2 at one step then at every later step r2 > R2 or r2 is NaN. A kernel
// may then test for escape every few steps, and compute again only the steps
// in which a test changed its answer. Where the limit is below |c|, every step
// has to be tested.
//
// Why: let u ≤ 2⁻²⁴ be the unit roundoff. r2 > R2 means that |z|² ≥ R²(1−4u),
// and a step moves z to at least |z|²(1−5u) − |c|(1+5u), which is at least
// R(1+5u), and so has r2 > R2 again, if |c| ≤ R²(1−16u) − R(1+16u). From
// there on |z| grows. Past the largest finite value x or y is infinite or NaN,
// and a non-finite x or y makes the next x non-finite.
func MonotoneLimit(r2 float64) float64 {
	const eps = 1.0 / (1 << 18)
	return r2*(1-eps) - math.Sqrt(r2)*(1+eps)
}

// Interior reports whether the interior test of m settles pixel (i, j), so
// that it takes no iteration at all.
func (m *Mandelbrot) Interior(i, j int) bool {
	switch {
	case m.Julia:
		return false
	case m.T == Float32:
		if in, sure := nearlyInterior(m.CX[i], m.CY[j]); sure {
			return in
		}
		return interior32(float32(m.CX[i]), float32(m.CY[j]))
	default:
		return interior64(m.CX[i], m.CY[j])
	}
}

// nearlyInterior is the interior test in float64, and whether that in float32 must
// agree: it does where the two sides of each comparison, which are below 104, differ
// by more than all roundings that come into them, 570 units of 2⁻²⁴. Most points are
// sure, and a fused multiply-add of float32 takes long in plain Go.
func nearlyInterior(cx, cy float64) (in, sure bool) {
	const margin = 1024.0 / (1 << 24)
	if !(math.Abs(cx) < 2 && math.Abs(cy) < 2) {
		return false, false
	}
	yy := float64(cy * cy)
	p := cx - 0.25
	q := float64(p*p) + yy
	cardioid := float64(q*(q+p)) - float64(0.25*yy)
	disc := float64((cx+1)*(cx+1)) + yy - 0.0625
	return cardioid <= 0 || disc <= 0, math.Abs(cardioid) > margin && math.Abs(disc) > margin
}
