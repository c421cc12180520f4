package gpurun

import (
	"image"
	"math"
	"runtime"
	"sync"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Field is a computed image, or a band of one: for every pixel when it escaped, and
// how far out it then was. The pixel in column i of the field's row j, both counted from
// its top left, has the index j·View.Width + i.
type Field struct {
	// View is what was computed, with defaults filled in and Precision resolved. For
	// a band it is the View of the whole image.
	View View

	// Y and Rows say which rows of the image these are: the Rows ones from row Y on.
	// They are 0 and View.Height but for a band.
	Y, Rows int

	// Counts holds the step at which each pixel escaped, 1 to View.MaxIter, and
	// 0 where it never did.
	Counts []uint32

	// Magnitudes holds |z|² at that step, and 0 where Counts is 0. It is nil if
	// View.CountsOnly is set.
	Magnitudes []float32

	job   *kernels.Mandelbrot
	logR2 float64 // ln R²
	place palettePlace
}

// newField returns a Field of so many rows of v, whose planes are still to be filled in.
func newField(v View, rows int) *Field {
	f := &Field{
		View: v, Rows: rows, Counts: make([]uint32, v.Width*rows),
		logR2: 2 * math.Log(v.EscapeRadius), place: newPalettePlace(v.EscapeRadius),
	}
	f.View.Precision = v.Resolve()
	if !v.CountsOnly {
		f.Magnitudes = make([]float32, v.Width*rows)
	}
	return f
}

// band returns a Field of the rows that job computes, from row y on, in the memory of f,
// which has at least as many.
func (f *Field) band(job *kernels.Mandelbrot, y int) *Field {
	b := *f
	b.job, b.Y, b.Rows = job, y, len(job.CY)
	n := b.View.Width * b.Rows
	b.Counts = b.Counts[:n]
	if b.Magnitudes != nil {
		b.Magnitudes = b.Magnitudes[:n]
	}
	return &b
}

// bytes returns the memory of the field's planes, in the order in which its job has them.
func (f *Field) bytes() [][]byte {
	planes := [][]byte{kernels.Bytes(f.Counts)}
	if f.Magnitudes != nil {
		planes = append(planes, kernels.Bytes(f.Magnitudes))
	}
	return planes
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

// Image returns the field in the colours of p, using all cores. Its bounds are where the
// field is in the whole image, from row Y on.
func (f *Field) Image(p *Palette) *image.RGBA {
	w := f.View.Width
	img := image.NewRGBA(image.Rect(0, f.Y, w, f.Y+f.Rows))
	eachRow(f.Rows, func(j int) {
		row := img.Pix[j*img.Stride:][:4*w]
		for i := range w {
			c := f.color(p, j*w+i)
			row[4*i], row[4*i+1], row[4*i+2], row[4*i+3] = c.R, c.G, c.B, c.A
		}
	})
	return img
}

// RGB puts the colours of p, which Image has too, into a slice: three bytes a pixel, for the
// rows from … to−1 of the field, counted from its top, using all cores. It
// panics if into is shorter than that or the field does not have those rows.
func (f *Field) RGB(into []byte, p *Palette, from, to int) {
	w := f.View.Width
	into = into[:3*w*(to-from)]
	_ = f.Counts[w*from : w*to]
	eachRow(to-from, func(j int) {
		row, first := into[3*w*j:][:3*w], (from+j)*w
		for i := range w {
			c := f.color(p, first+i)
			row[3*i], row[3*i+1], row[3*i+2] = c.R, c.G, c.B
		}
	})
}

// iterations returns the steps that the definition of the image takes: n for a
// pixel that escapes at step n, 0 for one that the interior test settles, and
// MaxIter for any other.
func (f *Field) iterations() int64 {
	w, h := f.View.Width, f.Rows
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
