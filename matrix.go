package gpurun

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"unsafe"

	"github.com/dustin/go-humanize"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
)

// matrix is what blas32.General and blas64.General are: a matrix stored row by
// row, element (i, j) at data[i*stride+j].
type matrix[T float32 | float64] struct {
	rows, cols, stride int
	data               []T
}

func (m matrix[T]) empty() bool { return m.rows == 0 || m.cols == 0 }

// extent returns how far data has to reach.
func (m matrix[T]) extent() int {
	if m.empty() {
		return 0
	}
	return (m.rows-1)*m.stride + m.cols
}

// tight returns m with a stride that means something: what a matrix of one row, or
// without elements, comes with may be any number, and is not to be multiplied with.
func (m matrix[T]) tight() matrix[T] {
	m.stride = usedStride(m.rows, m.cols, m.stride)
	return m
}

func usedStride(rows, cols, stride int) int {
	if rows <= 1 || cols == 0 {
		return max(1, cols)
	}
	return stride
}

// check returns an error if m, which the caller calls name, is no matrix.
func (m matrix[T]) check(name string) error {
	switch {
	case m.rows < 0 || m.cols < 0:
		return shapeError("%s is %d×%d: rows and columns must not be negative", name, m.rows, m.cols)
	case m.empty():
		return nil // a matrix without elements needs neither stride nor data
	case m.stride < m.cols:
		return shapeError("%s has rows of %d elements, and a stride of %d: the stride must be no less", name, m.cols, m.stride)
	case !reaches(m.data, m.rows, m.cols, m.stride):
		return shapeError("%s is %d×%d with a stride of %d, and has only %d elements of data: it must have (rows−1)·stride + columns",
			name, m.rows, m.cols, m.stride, len(m.data))
	}
	return nil
}

// reaches reports whether data holds (rows−1)·stride + cols elements, a number
// that need not fit into an int.
func reaches[T float32 | float64](data []T, rows, cols, stride int) bool {
	return rows <= 0 || len(data) >= cols && (rows == 1 || (len(data)-cols)/stride >= rows-1)
}

func shapeError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrShape}, args...)...)
}

// product returns α·op(a)·op(b) + β·c as a job, or says why there is none.
func product[T float32 | float64](tA, tB blas.Transpose, alpha T, a, b matrix[T], beta T, c matrix[T]) (kernels.MatMul[T], error) {
	p := kernels.MatMul[T]{
		Alpha: alpha, A: a.data, LDA: a.tight().stride, B: b.data, LDB: b.tight().stride,
		Beta: beta, C: c.data, LDC: c.tight().stride, M: c.rows, N: c.cols,
	}
	for _, m := range []struct {
		name string
		matrix[T]
	}{{"a", a}, {"b", b}, {"c", c}} {
		if err := m.check(m.name); err != nil {
			return p, err
		}
	}
	var err error
	if p.TransA, err = transposed("tA", tA); err != nil {
		return p, err
	}
	if p.TransB, err = transposed("tB", tB); err != nil {
		return p, err
	}
	m, k := a.rows, a.cols
	if p.TransA {
		m, k = k, m
	}
	kb, n := b.rows, b.cols
	if p.TransB {
		kb, n = n, kb
	}
	p.K = k
	switch {
	case k != kb:
		return p, shapeError("op(a) is %d×%d and op(b) is %d×%d: the second must have as many rows as the first has columns", m, k, kb, n)
	case m != c.rows || n != c.cols:
		return p, shapeError("c is %d×%d, and the product %d×%d: c must have its size", c.rows, c.cols, m, n)
	}
	return p, nil
}

// transposed tells what t means; for real numbers the conjugate transpose is the
// transpose.
func transposed(name string, t blas.Transpose) (bool, error) {
	switch t {
	case blas.NoTrans:
		return false, nil
	case blas.Trans, blas.ConjTrans:
		return true, nil
	}
	return false, shapeError("%s is %q: it must be blas.NoTrans, blas.Trans or blas.ConjTrans", name, rune(t))
}

// overlap reports whether a and b, which have been checked, share memory. Two
// parts of one matrix do not, if they have no element in common.
func overlap[T float32 | float64](a, b matrix[T]) bool {
	if a.empty() || b.empty() {
		return false
	}
	if b.rows < a.rows {
		a, b = b, a
	}
	a, b = a.tight(), b.tight()
	// In bytes, as offsets from a.
	size := int(unsafe.Sizeof(T(0)))
	start := int(uintptr(unsafe.Pointer(unsafe.SliceData(b.data))) - uintptr(unsafe.Pointer(unsafe.SliceData(a.data))))
	if start >= a.extent()*size || start+b.extent()*size <= 0 {
		return false
	}
	row, stride := b.cols*size, b.stride*size
	for i := range a.rows {
		from := i * a.stride * size
		to := from + a.cols*size
		// The last row of b that starts before this one ends: earlier ones end earlier.
		if to <= start {
			continue
		}
		last := min((to-1-start)/stride, b.rows-1)
		if start+last*stride+row > from {
			return true
		}
	}
	return false
}

// operand returns m as it lies in memory, to be read transposed if trans. It
// copies only what has no such form. name is what the caller calls it.
func operand(ctx context.Context, name string, m mat.Matrix) (x matrix[float64], trans bool, err error) {
	for {
		if missing(m) {
			return x, false, shapeError("%s is nil: it must be a matrix", name)
		}
		u, ok := m.(mat.Untransposer)
		if !ok {
			break
		}
		m, trans = u.Untranspose(), !trans
	}
	rows, cols := m.Dims()
	if rows <= 0 || cols <= 0 {
		return x, false, shapeError("%s is %d×%d: it must have elements", name, rows, cols)
	}
	switch m := m.(type) {
	case mat.RawMatrixer:
		raw := m.RawMatrix()
		x = matrix[float64]{raw.Rows, raw.Cols, raw.Stride, raw.Data}
	case mat.RawVectorer:
		raw := m.RawVector()
		x = matrix[float64]{raw.N, 1, raw.Inc, raw.Data}
	}
	if x.rows == rows && x.cols == cols && x.stride > 0 {
		return x.tight(), trans, x.check(name)
	}
	x, err = copyElements(ctx, name, m)
	return x, trans, err
}

// copyElements returns the elements of m, which the caller calls name, in memory of
// their own, or ctx's error.
func copyElements(ctx context.Context, name string, m mat.Matrix) (x matrix[float64], err error) {
	rows, cols := m.Dims()
	if err := checkMatrixMemory[float64](name, rows, cols); err != nil {
		return x, err
	}
	x = matrix[float64]{rows, cols, cols, make([]float64, rows*cols)}
	const often = 1 << 12 // At may be anybody's
	for i := range rows {
		for j := range cols {
			if at := i*cols + j; at%often == 0 && ctx.Err() != nil {
				return x, ctx.Err()
			}
			x.data[i*cols+j] = m.At(i, j)
		}
	}
	return x, nil
}

// copyMatrix puts the elements of from to where those of to are, which has its size.
// It returns ctx's error, with a part of them, if ctx is done before.
func copyMatrix[T float32 | float64](ctx context.Context, to, from matrix[T]) error {
	const often = 1 << 20 // elements: within a millisecond or two
	since := 0
	for i := range from.rows {
		for j := 0; j < from.cols; j += often {
			n := min(often, from.cols-j)
			if since += n; since > often {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				since = n
			}
			copy(to.data[i*to.stride+j:][:n], from.data[i*from.stride+j:][:n])
		}
	}
	return nil
}

// missing reports whether m is nil, or a nil pointer.
func missing(m mat.Matrix) bool {
	if m == nil {
		return true
	}
	v := reflect.ValueOf(m)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// totalMemory is asked of the system once: a small product is done sooner than that
// is answered.
var totalMemory = sync.OnceValue(device.TotalMemory)

// checkMatrixMemory returns an error if a matrix that is to be allocated does not
// fit into this machine's memory.
func checkMatrixMemory[T float32 | float64](name string, rows, cols int) error {
	total := totalMemory()
	if float64(unsafe.Sizeof(T(0)))*float64(rows)*float64(cols) <= 0.8*float64(total) {
		return nil
	}
	return fmt.Errorf("%w: %s is %d×%d, which is more than 80 %% of this machine's %s: multiply it in parts",
		ErrTooLarge, name, rows, cols, humanize.IBytes(uint64(total)))
}
