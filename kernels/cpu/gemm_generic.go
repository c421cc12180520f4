package cpu

import (
	"math"

	"github.com/gpurun/gpurun/kernels"
)

// generic computes the product in plain Go, row by row of C.
func (j *job[T]) generic(threads int) { j.share(threads, plainly) }

// genericRow computes row i of C. Its sums grow side by side, so that B is read
// row by row.
func (w *worker[T]) genericRow(i int) {
	row := w.c[i*w.ldc:][:w.n]
	switch w.beta {
	case 0:
		clear(row)
	case 1:
	default:
		for x := range row {
			row[x] *= w.beta
		}
	}
	for p := 0; p < w.k && !w.stop.Load(); p++ {
		at := i*w.lda + p
		if w.transA {
			at = p*w.lda + i
		}
		x := T(w.alpha * w.a[at])
		if w.transB {
			for q := range row {
				row[q] = fma(x, w.b[q*w.ldb+p], row[q])
			}
			continue
		}
		addScaled(row, x, w.b[p*w.ldb:][:w.n])
	}
}

// addScaled adds x·b to row.
func addScaled[T real](row []T, x T, b []T) {
	switch row := any(row).(type) {
	case []float64:
		x, b := float64(x), any(b).([]float64)
		for q := range row {
			row[q] = math.FMA(x, b[q], row[q])
		}
	case []float32:
		x, b := float32(x), any(b).([]float32)
		for q := range row {
			row[q] = kernels.FMA32(x, b[q], row[q])
		}
	}
}
