package gpurun

import (
	"fmt"
	"math"
	"math/cmplx"

	"github.com/gpurun/gpurun/kernels"
)

// Precision is the floating-point type that an image is computed in.
type Precision int

const (
	// Auto takes Float32 while a pixel is wider than 2⁻¹⁸ of the largest |c| in
	// the view (of the largest |z₀| for a Julia set), and else Float64. It
	// depends on the view alone, never on the devices.
	Auto Precision = iota
	Float32
	Float64
)

// String returns "auto", "f32" or "f64".
func (p Precision) String() string {
	switch p {
	case Auto:
		return "auto"
	case Float32:
		return "f32"
	case Float64:
		return "f64"
	}
	return fmt.Sprintf("Precision(%d)", int(p))
}

// ParsePrecision is the inverse of String. Its error matches ErrView.
func ParsePrecision(s string) (Precision, error) {
	for _, p := range []Precision{Auto, Float32, Float64} {
		if s == p.String() {
			return p, nil
		}
	}
	return Auto, viewError("precision", s, "is none of auto, f32, f64")
}

// View is a rectangle of the complex plane, how finely to look at it, and for
// how long to iterate. Pixels are square. The zero values of MaxIter,
// EscapeRadius and Precision stand for their defaults.
type View struct {
	// Center is the middle of the image. Its parts are finite.
	Center complex128

	// Span is the width of the image in the complex plane: positive, and finite.
	Span float64

	// Width and Height are the image's size in pixels, each at least 1.
	Width, Height int

	// MaxIter is the number of steps after which a pixel counts as inside:
	// 1 to 2³¹−1. Default 1000.
	MaxIter int

	// EscapeRadius is the |z| beyond which a pixel has escaped: at least 2, at
	// most 1e9, and for a Julia set at least |c|. The default, 256, gives
	// smooth colours without bands; 2 gives the textbook's counts.
	EscapeRadius float64

	// Precision is Auto, Float32 or Float64. Default Auto.
	Precision Precision

	// Julia, if not nil, is the c of a Julia set; the pixels are then z₀.
	// If nil, the image is of the Mandelbrot set.
	Julia *complex128

	// CountsOnly leaves out the magnitudes, which only smooth colours need.
	CountsOnly bool
}

// DefaultView returns the view of the whole Mandelbrot set that `gpurun mandel`
// shows when nothing else is asked for: centre -0.5, span 3, 1920×1280 pixels.
func DefaultView() View {
	v := View{Center: -0.5, Span: 3, Width: 1920, Height: 1280}
	return v.withDefaults()
}

const (
	defaultMaxIter      = 1000
	defaultEscapeRadius = 256
	maxEscapeRadius     = 1e9

	// maxSide bounds the coordinates' index arithmetic far from overflow; a row of
	// the image must fit into memory besides.
	maxSide = 1 << 30
)

func (v View) withDefaults() View {
	if v.MaxIter == 0 {
		v.MaxIter = defaultMaxIter
	}
	if v.EscapeRadius == 0 {
		v.EscapeRadius = defaultEscapeRadius
	}
	return v
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// Validate returns an error that matches ErrView and names the field if v is
// not a view as the fields' comments describe it.
func (v View) Validate() error {
	v = v.withDefaults()
	switch {
	case !finite(real(v.Center)) || !finite(imag(v.Center)):
		return viewError("center", v.Center, "is not finite")
	case !finite(v.Span) || v.Span <= 0:
		return viewError("span", v.Span, "is not a positive number")
	case v.Width < 1 || v.Width > maxSide:
		return viewError("width", v.Width, "is not in 1 … 2³⁰")
	case v.Height < 1 || v.Height > maxSide:
		return viewError("height", v.Height, "is not in 1 … 2³⁰")
	case v.MaxIter < 1 || v.MaxIter > kernels.MaxIterLimit:
		return viewError("max-iter", v.MaxIter, "is not in 1 … 2³¹−1")
	case v.Precision < Auto || v.Precision > Float64:
		return viewError("precision", v.Precision, "is none of auto, f32, f64")
	case !(v.EscapeRadius >= 2 && v.EscapeRadius <= maxEscapeRadius):
		return viewError("escape-radius", v.EscapeRadius, "is not in 2 … 1e9")
	}
	if v.Julia != nil {
		abs := cmplx.Abs(*v.Julia)
		if math.IsNaN(abs) || math.IsInf(abs, 0) {
			return viewError("julia", *v.Julia, "is not finite")
		}
		if abs > v.EscapeRadius {
			return viewError("julia", *v.Julia, fmt.Sprintf("is farther out than the escape radius %g: raise the escape radius to at least |c| = %g", v.EscapeRadius, abs))
		}
	}
	if reach := v.reach(); !finite(float64(float32(reach))) && v.Resolve() == Float32 || !finite(reach) {
		return viewError("span", v.Span, "reaches beyond the largest number of the precision")
	}
	return nil
}

// reach is the largest |coordinate| pair of the view: |c| at its farthest corner.
func (v View) reach() float64 {
	half := v.Span / 2
	halfHeight := float64(half*float64(v.Height)) / float64(v.Width)
	x, y := math.Abs(real(v.Center))+half, math.Abs(imag(v.Center))+halfHeight
	// Not math.Hypot: its last bit depends on the processor.
	return math.Sqrt(float64(x*x) + float64(y*y))
}

// Resolve returns the precision that v is computed in: never Auto.
func (v View) Resolve() Precision {
	if v.Precision != Auto {
		return v.Precision
	}
	if v.Span/float64(v.Width) > v.reach()/(1<<18) {
		return Float32
	}
	return Float64
}

// Resolvable reports whether neighbouring pixels of v have coordinates that
// differ in the precision of v. Where it is false the view is past the limit of
// that precision and the image shows blocks.
func (v View) Resolvable() bool {
	ulp := 1.0 / (1 << 52)
	if v.Resolve() == Float32 {
		ulp = 1.0 / (1 << 23)
	}
	return v.Span/float64(v.Width) >= v.reach()*ulp
}

// job returns the job that computes the rows from … to−1 of v, which must be valid
// and have its defaults filled in. A row has the same coordinates in every job.
func (v View) job(from, to int) *kernels.Mandelbrot {
	t := v.dtype()
	m := &kernels.Mandelbrot{
		T:          t,
		MaxIter:    v.MaxIter,
		R2:         t.Round(v.EscapeRadius * v.EscapeRadius),
		Magnitudes: !v.CountsOnly,
	}
	m.CX, _ = kernels.Axes(t, real(v.Center), imag(v.Center), v.Span, v.Width, 0)
	m.CY = kernels.RowAxis(t, imag(v.Center), v.Span, v.Width, v.Height, from, to)
	if v.Julia != nil {
		m.Julia = true
		m.CRe, m.CIm = t.Round(real(*v.Julia)), t.Round(imag(*v.Julia))
	}
	return m
}

// dtype returns the type that v is computed in.
func (v View) dtype() kernels.DType {
	if v.Resolve() == Float32 {
		return kernels.Float32
	}
	return kernels.Float64
}
