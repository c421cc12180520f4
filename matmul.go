package gpurun

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// Gemm64 computes c = α·op(a)·op(b) + β·c, where op(x) is x, or its transpose if
// tA or tB says so. op(a) is m×k, op(b) is k×n and c is m×n. They are gonum's
// matrices, stored row by row with any stride from the row's length on. None is
// copied as a whole on the CPU, but a vector whose elements do not lie side by side.
// What lies between the rows is not touched.
//
// The arithmetic is defined operation by operation. For each element of c,
// acc = β·c, or 0 where β = 0, and c itself where β = 1; then for p = 0, 1, … k−1
//
//	acc = fma(α·a[i,p], b[p,j], acc)
//
// with α·a rounded by itself. So the result is the same to the last bit on every
// processor and for any number of threads; only which NaN a NaN is may differ.
// Where β = 0, c is not read, and where α = 0 or k = 0, a and b are not. Nothing
// else is left out: 0·∞ is NaN.
//
// c must not share elements with a or b; several parts of one matrix are fine.
// Nothing else may write to the three, or read c, until Gemm64 has returned.
//
// Where Config.Devices names OpenCL devices, those compute the product, and the
// CPU with them if it is named too; where it is left to the engine, GPUs do if
// they are predicted to be sooner, and if they fail, the CPU after them. That is a
// job: it waits for others, and takes a copy of c where β ≠ 0. All other products
// are computed on the CPU, in place; but with Config.Verify as a job, too.
// They do not wait for jobs, nor for each other: each takes as many threads as are
// its share of GOMAXPROCS when it begins, and a small one runs on the calling
// goroutine.
//
// Hosts take part, beside these devices, in products that are predicted to take 50 ms
// here at least, and as long as a line of 1 GiB/s takes for the matrices; and in all of
// them where Config.Devices is "none". They fetch the parts of a, b and c that they need,
// and keep them for as long as the product runs.
//
// The error matches ErrShape if the matrices do not fit together or are not whole,
// ErrOverlap if c overlaps a or b, ErrTooLarge if the copy of c for devices that
// were named does not fit into this machine's memory, ErrDevice, ErrTileFailed or
// ErrNoDevice if those devices do not have the type or failed, ErrClosed, and is ctx's
// error if ctx was done first. c is undefined after that, and after devices failed.
// Gemm64 returns within 100 ms of ctx being done.
func (e *Engine) Gemm64(ctx context.Context, tA, tB blas.Transpose, alpha float64, a, b blas64.General, beta float64, c blas64.General) error {
	return gemm(ctx, e, e.spare.MatMul64, tA, tB,
		alpha, matrix[float64]{a.Rows, a.Cols, a.Stride, a.Data}, matrix[float64]{b.Rows, b.Cols, b.Stride, b.Data},
		beta, matrix[float64]{c.Rows, c.Cols, c.Stride, c.Data})
}

// Gemm32 is Gemm64 in float32: every operation is rounded to float32.
func (e *Engine) Gemm32(ctx context.Context, tA, tB blas.Transpose, alpha float32, a, b blas32.General, beta float32, c blas32.General) error {
	return gemm(ctx, e, e.spare.MatMul32, tA, tB,
		alpha, matrix[float32]{a.Rows, a.Cols, a.Stride, a.Data}, matrix[float32]{b.Rows, b.Cols, b.Stride, b.Data},
		beta, matrix[float32]{c.Rows, c.Cols, c.Stride, c.Data})
}

func gemm[T float32 | float64](ctx context.Context, e *Engine, compute compute[T], tA, tB blas.Transpose,
	alpha T, a, b matrix[T], beta T, c matrix[T]) error {
	p, err := product(tA, tB, alpha, a, b, beta, c)
	switch {
	case err != nil:
		return err
	case overlap(c, a):
		return overlapError("a")
	case overlap(c, b):
		return overlapError("b")
	}
	return multiply(ctx, e, compute, p)
}

// MatMul computes dst = a·b, as gonum's mat.Dense.Mul does, by the arithmetic of
// Gemm64 with α = 1 and β = 0.
//
// An empty dst is given the size of the product; any other must have it. Matrices
// and vectors of gonum, their transposes, and what else is a mat.RawMatrixer or
// mat.RawVectorer are read where they lie. Any other mat.Matrix is copied once,
// with its zeros: a triangular or banded matrix counts as if it were stored whole.
// dst may overlap a or b, or be one of them: then the product goes to temporary
// memory, and is copied.
//
// Its errors are those of Gemm64, but for ErrOverlap; and it matches ErrTooLarge
// if what has to be allocated does not fit into this machine's memory. After an
// error dst is empty if it was before; otherwise its elements are undefined if the
// error is of ctx or of devices.
func (e *Engine) MatMul(ctx context.Context, dst *mat.Dense, a, b mat.Matrix) error {
	if dst == nil {
		return shapeError("dst is nil: it must be a matrix, if an empty one")
	}
	x, transA, err := operand(ctx, "a", a)
	if err != nil {
		return err
	}
	y, transB, err := operand(ctx, "b", b)
	if err != nil {
		return err
	}
	m, k := x.rows, x.cols
	if transA {
		m, k = k, m
	}
	kb, n := y.rows, y.cols
	if transB {
		kb, n = n, kb
	}
	if k != kb {
		return shapeError("a is %d×%d and b is %d×%d: b must have as many rows as a has columns", m, k, kb, n)
	}
	fresh := dst.IsEmpty()
	to, finish, err := destination(dst, m, n, x, y)
	if err != nil {
		return err
	}
	if err = multiply(ctx, e, e.spare.MatMul64, kernels.MatMul[float64]{
		TransA: transA, TransB: transB, M: m, N: n, K: k,
		Alpha: 1, A: x.data, LDA: x.stride, B: y.data, LDB: y.stride, C: to.data, LDC: to.stride,
	}); err == nil {
		err = finish(ctx)
	}
	if err != nil && fresh {
		dst.Reset()
	}
	return err
}

// destination returns where to put the rows×cols product of a and b, so that it
// is in dst after finish.
func destination(dst *mat.Dense, rows, cols int, a, b matrix[float64]) (to matrix[float64], finish func(context.Context) error, err error) {
	to = stored(dst)
	fresh := dst.IsEmpty()
	switch {
	case !fresh && (to.rows != rows || to.cols != cols):
		return to, nil, shapeError("dst is %d×%d, and the product %d×%d: dst must have its size, or be empty", to.rows, to.cols, rows, cols)
	case fresh:
		if err := checkMatrixMemory[float64]("dst", rows, cols); err != nil {
			return to, nil, err
		}
		// A matrix that has been reset keeps its memory, which may be an operand's
		// too.
		kept := to.data[:cap(to.data)]
		to = matrix[float64]{1, len(kept), len(kept), kept}
	}
	if overlap(to, a) || overlap(to, b) {
		if err := checkMatrixMemory[float64]("dst", rows, cols); err != nil {
			return to, nil, err
		}
		product := matrix[float64]{rows, cols, cols, make([]float64, rows*cols)}
		return product, func(ctx context.Context) error {
			if fresh {
				dst.ReuseAs(rows, cols)
			}
			return copyMatrix(ctx, stored(dst), product)
		}, nil
	}
	if fresh {
		dst.ReuseAs(rows, cols)
		to = stored(dst)
	}
	return to, func(context.Context) error { return nil }, nil
}

// stored returns the memory of m.
func stored(m *mat.Dense) matrix[float64] {
	raw := m.RawMatrix()
	return matrix[float64]{raw.Rows, raw.Cols, raw.Stride, raw.Data}.tight()
}

func overlapError(name string) error {
	return fmt.Errorf("%w: c shares elements with %s: give c memory of its own", ErrOverlap, name)
}

// compute computes a product, and returns false if it was stopped.
type compute[T float32 | float64] func(p kernels.MatMul[T], stop *atomic.Bool) bool

// multiply has p computed, and keeps the report.
func multiply[T float32 | float64](ctx context.Context, e *Engine, compute compute[T], p kernels.MatMul[T]) error {
	var failed *failure
	if !e.inPlace(p.Flops()) {
		wide := p // so that p itself is not allocated
		who, err := e.spreadOver(&wide)
		if err != nil {
			return err
		}
		if !who.none() {
			if failed, err = spread(ctx, e, who, wide); failed == nil {
				return err
			}
		}
	}
	end, err := e.beginProduct(ctx)
	if err != nil {
		return err
	}
	defer end()
	var stop atomic.Bool
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	}
	start := time.Now()
	done := compute(p, &stop)
	report := productReport(e.spare, &p, time.Since(start), done)
	failed.tell(report)
	if !done {
		err = ctx.Err()
	}
	e.keep(report, err)
	if e.server != nil {
		e.metrics.Add(&dist.Report{Devices: []dist.DeviceReport{{ID: e.spare.ID(), Tiles: report.Devices[0].Tiles, Busy: time.Since(start)}}})
	}
	return err
}
