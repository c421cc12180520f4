package kernels

import "unsafe"

// MatMul is a matrix product, C = α·op(A)·op(B) + β·C in float32 or float64,
// where op(A) is M×K, op(B) is K×N, C is M×N, and op(X) is X, or its transpose if
// TransX. Matrices are stored row by row: element (i, j) of X is X[i*LDX+j].
//
// For each element of C, acc = β·c, or 0 where β = 0, and c itself where β = 1;
// then for p = 0, 1, … K−1
//
//	acc = fma(α·a[i,p], b[p,j], acc)
//
// with α·a rounded by itself, and a itself where α = 1. Where β = 0, C is not
// read; where α = 0 or K = 0, A and B are not read. No multiplication by 0 is left
// out: 0·∞ is NaN.
//
// M, N and K are not negative, a row of X as it is stored is no longer than LDX,
// and X reaches to its last element at least. What lies between the rows is not
// touched. C does not overlap A or B; as a job, a product of β = 0 may have none.
//
// Where SourceA is not nil, A is there, and not in memory: A and LDA do not count.
// SourceB likewise.
type MatMul[T float32 | float64] struct {
	TransA, TransB bool
	M, N, K        int
	Alpha          T
	A              []T
	LDA            int
	B              []T
	LDB            int
	Beta           T
	C              []T
	LDC            int

	SourceA, SourceB Source[T]
}

// Source is a matrix that is not in memory, such as one in a file.
type Source[T float32 | float64] interface {
	// Read puts the rows and columns of t, which is within the matrix as it is
	// stored, into to, row by row, packed. It may be called by several goroutines
	// at once. An error ends the job.
	Read(to []T, t Tile) error
}

// Streams reports whether an operand that is read is not in memory.
func (p *MatMul[T]) Streams() bool {
	return p.Flops() > 0 && (p.SourceA != nil || p.SourceB != nil)
}

// ReadA puts the rows and columns of t, of A as it is stored, into to, packed.
func (p *MatMul[T]) ReadA(to []T, t Tile) error { return read(to, t, p.SourceA, p.A, p.LDA) }

// ReadB is ReadA of B.
func (p *MatMul[T]) ReadB(to []T, t Tile) error { return read(to, t, p.SourceB, p.B, p.LDB) }

func read[T float32 | float64](to []T, t Tile, source Source[T], data []T, ld int) error {
	if source != nil {
		return source.Read(to, t)
	}
	for y := range t.H {
		copy(to[y*t.W:][:t.W], data[(t.Y+y)*ld+t.X:])
	}
	return nil
}

// Flops returns the operations that the definition takes, a fused multiply-add
// being two: 2·M·N·K, or 0 where A and B are not read.
func (p *MatMul[T]) Flops() float64 {
	if p.Alpha == 0 {
		return 0
	}
	return 2 * float64(p.M) * float64(p.N) * float64(p.K)
}

// Part returns the product that t, which is not empty, is the result of. It does
// not stream.
func (p *MatMul[T]) Part(t Tile) MatMul[T] {
	q := *p
	q.M, q.N = t.H, t.W
	if p.C != nil {
		q.C = p.C[t.Y*p.LDC+t.X:]
	}
	if p.Flops() == 0 {
		return q
	}
	if p.TransA {
		q.A = p.A[t.Y:]
	} else {
		q.A = p.A[t.Y*p.LDA:]
	}
	if p.TransB {
		q.B = p.B[t.X*p.LDB:]
	} else {
		q.B = p.B[t.X:]
	}
	return q
}

// Moved returns the bytes of the matrices that have to be read or written.
func (p *MatMul[T]) Moved() int64 {
	elements := float64(p.M) * float64(p.N)
	if p.Beta != 0 {
		elements *= 2
	}
	if p.Alpha != 0 {
		elements += float64(p.K) * (float64(p.M) + float64(p.N))
	}
	return int64(min(elements*float64(unsafe.Sizeof(p.Alpha)), 1<<62))
}

// Kernel, Bounds, DType and Planes make a product a job, whose output is C. A
// device may read the C of the job where β ≠ 0, so that its results must go
// elsewhere as long as the job runs.
func (p *MatMul[T]) Kernel() string  { return "matmul" }
func (p *MatMul[T]) Bounds() Tile    { return Tile{W: p.N, H: p.M} }
func (p *MatMul[T]) Planes() []DType { return []DType{p.DType()} }

func (p *MatMul[T]) DType() DType {
	if unsafe.Sizeof(p.Alpha) == 8 {
		return Float64
	}
	return Float32
}
