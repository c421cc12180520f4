package cpu

import (
	"math"

	"github.com/gpurun/gpurun/kernels"
)

// generic computes the product in plain Go. A task is a part of a row of C.
func (j *job[T]) generic(threads int) { j.share(threads, plainly) }

// genericParts returns into how many parts a row of C is cut.
func (j *job[T]) genericParts() int { return ceil(j.n, betweenStops) }

// genericPart computes a part of a row of C. Its sums grow side by side, so that B is
// read row by row.
func (w *worker[T]) genericPart(task int) {
	parts := w.genericParts()
	i, from := task/parts, task%parts*betweenStops
	row := w.c[i*w.ldc:][from:min(from+betweenStops, w.n)]
	scaled(row, w.beta)
	for p := 0; p < w.k && !w.stop.Load(); p++ {
		at := i*w.lda + p
		if w.transA {
			at = p*w.lda + i
		}
		x := T(w.alpha * w.a[at])
		if w.transB {
			for q := range row {
				row[q] = fma(x, w.b[(from+q)*w.ldb+p], row[q])
			}
			continue
		}
		addScaled(row, x, w.b[p*w.ldb+from:][:len(row)])
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
