package gpurun

import (
	"image"
	"image/color"
	"math"
	"runtime"
	"sync"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Field is a computed image: for every pixel when it escaped, and how far out
// it then was. The pixel in column i of row j, counted from the top left, has
// the index j·Width + i.
type Field struct {
	// View is what was computed, with defaults filled in and Precision resolved.
	View View

	// Counts holds the step at which each pixel escaped, 1 to View.MaxIter, and
	// 0 where it never did.
	Counts []uint32

	// Magnitudes holds |z|² at that step, and 0 where Counts is 0. It is nil if
	// View.CountsOnly is set.
	Magnitudes []float32

	job   *kernels.Mandelbrot
	logR2 float64 // ln R²
}

// newField returns a Field whose planes are still to be filled in.
func newField(v View, job *kernels.Mandelbrot) *Field {
	f := &Field{
		View: v, Counts: make([]uint32, v.Width*v.Height),
		job: job, logR2: 2 * math.Log(v.EscapeRadius),
	}
	f.View.Precision = v.Resolve()
	if job.Magnitudes {
		f.Magnitudes = make([]float32, v.Width*v.Height)
	}
	return f
}

// put pastes the result of a tile into the field.
func (f *Field) put(t kernels.Tile, r *kernels.Result) error {
	tiler.Paste(kernels.Bytes(f.Counts), f.View.Width, t, r.Planes[0], kernels.Uint32.Size())
	if f.Magnitudes != nil {
		tiler.Paste(kernels.Bytes(f.Magnitudes), f.View.Width, t, r.Planes[1], kernels.Float32.Size())
	}
	return nil
}

// Smooth returns the count of the pixel with index i as a real number that has
// no jump where Counts steps, and -1 where the pixel never escaped:
//
//	μ = n + 1 − log₂(ln|z|² / ln R²)
//
// See F. García, A. Fernández, J. Barrallo, L. Martín, "Coloring dynamical
// systems in the complex plane".
// Without Magnitudes it is n.
func (f *Field) Smooth(i int) float64 {
	n := f.Counts[i]
	if n == 0 {
		return -1
	}
	if f.Magnitudes == nil {
		return float64(n)
	}
	mu := float64(n) + 1 - math.Log(math.Log(float64(f.Magnitudes[i]))/f.logR2)/math.Ln2
	// A pixel far outside can leave the disc by so much that μ falls below 0.
	return max(mu, 0)
}

// Image returns the field in the colours of p, using all cores.
func (f *Field) Image(p *Palette) *image.RGBA {
	w, h := f.View.Width, f.View.Height
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	eachRow(h, func(j int) {
		for i := range w {
			c := f.color(p, j*w+i)
			at := j*img.Stride + 4*i
			img.Pix[at], img.Pix[at+1], img.Pix[at+2], img.Pix[at+3] = c.R, c.G, c.B, c.A
		}
	})
	return img
}

func (f *Field) color(p *Palette, i int) color.RGBA {
	if f.Counts[i] == 0 {
		return p.Inside()
	}
	return p.Color(f.Smooth(i))
}

// iterations returns the steps that the definition of the image takes: n for a
// pixel that escapes at step n, 0 for one that the interior test settles, and
// MaxIter for any other.
func (f *Field) iterations() int64 {
	w, h := f.View.Width, f.View.Height
	sums := make([]int64, h)
	eachRow(h, func(j int) {
		var sum int64
		for i, n := range f.Counts[j*w : (j+1)*w] {
			if n > 0 {
				sum += int64(n)
			} else if !f.job.Interior(i, j) {
				sum += int64(f.View.MaxIter)
			}
		}
		sums[j] = sum
	})
	var total int64
	for _, s := range sums {
		total += s
	}
	return total
}

// eachRow calls do for every row 0 … h−1 on all cores, and waits.
func eachRow(h int, do func(j int)) {
	workers := min(runtime.GOMAXPROCS(0), h)
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			for j := k; j < h; j += workers {
				do(j)
			}
		})
	}
	wg.Wait()
}
