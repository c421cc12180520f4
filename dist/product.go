package dist

import (
	"crypto/sha256"
	"errors"
	"math"
	"math/bits"

	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// The operands of a product, of which op(A) and op(B) are multiplied and C is what
// it may begin with.
const (
	operandA = iota
	operandB
	operandC
	operandCount
)

// productSpec is a kernels.MatMul on the wire, without its operands.
type productSpec struct {
	Type   uint8   `cbor:"1,keyasint"`
	TransA bool    `cbor:"2,keyasint,omitempty"`
	TransB bool    `cbor:"3,keyasint,omitempty"`
	M      int     `cbor:"4,keyasint"`
	N      int     `cbor:"5,keyasint"`
	K      int     `cbor:"6,keyasint"`
	Alpha  float64 `cbor:"7,keyasint"` // which holds any float32 too
	Beta   float64 `cbor:"8,keyasint"`

	// The files that A and B are, if hosts are to find them by themselves.
	FileA fileSpec `cbor:"9,keyasint,omitzero"`
	FileB fileSpec `cbor:"10,keyasint,omitzero"`
}

// fileSpec is a npy.Reference on the wire.
type fileSpec struct {
	Path   string            `cbor:"1,keyasint"`
	Size   int64             `cbor:"2,keyasint"`
	Time   int64             `cbor:"3,keyasint"`
	Sample [sha256.Size]byte `cbor:"4,keyasint"`
}

// Shared is a kernels.Source that is a file which hosts may have too.
type Shared interface {
	// Reference says which file. A host that has it by that name, and sees that it is
	// the same, reads it; any other takes no part in the job.
	Reference() npy.Reference
}

// maxOperand bounds the bytes of each matrix of a product that is taken from the wire,
// so that no offset overflows. What a host has room for is far less.
const maxOperand = 1 << 50

// productOf returns what hosts are told of job, if it is a product.
func productOf(job kernels.Job) (productSpec, bool) {
	switch job := job.(type) {
	case *kernels.MatMul[float32]:
		return specOf(job), true
	case *kernels.MatMul[float64]:
		return specOf(job), true
	}
	return productSpec{}, false
}

func specOf[T float32 | float64](p *kernels.MatMul[T]) productSpec {
	return productSpec{
		Type: uint8(p.DType()), TransA: p.TransA, TransB: p.TransB, M: p.M, N: p.N, K: p.K,
		Alpha: float64(p.Alpha), Beta: float64(p.Beta), FileA: fileOf(p.SourceA), FileB: fileOf(p.SourceB),
	}
}

func fileOf(source any) fileSpec {
	if shared, ok := source.(Shared); ok {
		return fileSpec(shared.Reference())
	}
	return fileSpec{}
}

// unopened is an operand of which a host has been told the file.
type unopened[T float32 | float64] struct{ file fileSpec }

func (u unopened[T]) Reference() npy.Reference { return npy.Reference(u.file) }

func (u unopened[T]) Read([]T, kernels.Tile) error {
	return errors.New("it has not been opened yet")
}

// file returns which file an operand is, or nothing.
func (s productSpec) file(operand int) npy.Reference {
	switch operand {
	case operandA:
		return npy.Reference(s.FileA)
	case operandB:
		return npy.Reference(s.FileB)
	}
	return npy.Reference{}
}

func (s productSpec) count() int { return operandCount }

func (s productSpec) elementOf(int) int { return s.element() }

func (s productSpec) same(of operandSpec) bool {
	other, ok := of.(productSpec)
	if !ok {
		return false
	}
	alpha, beta := sameOrNaN(s.Alpha, other.Alpha), sameOrNaN(s.Beta, other.Beta)
	s.Alpha, s.Beta, other.Alpha, other.Beta = 0, 0, 0, 0
	return s == other && alpha && beta
}

func sameOrNaN(a, b float64) bool { return a == b || a != a && b != b }

// decodeProduct returns the product that spec describes. Its matrices are nil.
func decodeProduct(spec []byte) (kernels.Job, error) {
	var s productSpec
	if err := decoding.Unmarshal(spec, &s); err != nil {
		return nil, protocolError("job: %v", err)
	}
	t := kernels.DType(s.Type)
	switch {
	case t != kernels.Float32 && t != kernels.Float64:
		return nil, protocolError("job: a product in type %d", s.Type)
	case s.M < 1 || s.N < 1 || s.K < 0:
		return nil, protocolError("job: a product of %d×%d by %d×%d", s.M, s.K, s.K, s.N)
	case t == kernels.Float32 && !(fits32(s.Alpha) && fits32(s.Beta)):
		return nil, protocolError("job: α or β is no float32")
	case len(s.FileA.Path) > npy.MaxPath || len(s.FileB.Path) > npy.MaxPath:
		return nil, protocolError("job: names of files with %d and %d bytes", len(s.FileA.Path), len(s.FileB.Path))
	}
	for _, sides := range [][2]int{{s.M, s.N}, {s.M, s.K}, {s.K, s.N}} {
		if over, n := bits.Mul64(uint64(sides[0]), uint64(sides[1])); over > 0 || n > maxOperand/8 {
			return nil, protocolError("job: a matrix of %d×%d", sides[0], sides[1])
		}
	}
	if s.Type == uint8(kernels.Float32) {
		return unopenedJob[float32](s), nil
	}
	return unopenedJob[float64](s), nil
}

func unopenedJob[T float32 | float64](s productSpec) *kernels.MatMul[T] {
	p := jobOf[T](s, [operandCount][]byte{})
	if s.FileA != (fileSpec{}) {
		p.SourceA = unopened[T]{s.FileA}
	}
	if s.FileB != (fileSpec{}) {
		p.SourceB = unopened[T]{s.FileB}
	}
	return p
}

// fits32 reports whether x is a float32. Any NaN is.
func fits32(x float64) bool { return float64(float32(x)) == x || math.IsNaN(x) }

// job returns the product of the matrices, of which those that are not read are nil.
func (s productSpec) job(matrices [operandCount][]byte) kernels.Job {
	if s.Type == uint8(kernels.Float32) {
		return jobOf[float32](s, matrices)
	}
	return jobOf[float64](s, matrices)
}

func jobOf[T float32 | float64](s productSpec, matrices [operandCount][]byte) *kernels.MatMul[T] {
	return &kernels.MatMul[T]{
		TransA: s.TransA, TransB: s.TransB, M: s.M, N: s.N, K: s.K, Alpha: T(s.Alpha), Beta: T(s.Beta),
		A: kernels.Elements[T](matrices[operandA]), LDA: s.line(operandA),
		B: kernels.Elements[T](matrices[operandB]), LDB: s.line(operandB),
		C: kernels.Elements[T](matrices[operandC]), LDC: s.N,
	}
}

// reading puts the rows and columns of t, of an operand as it is stored, into to, packed.
type reading func(operand int, to []byte, t kernels.Tile) error

// streaming returns the product of the matrices that read reads.
func (s productSpec) streaming(read reading) kernels.Job {
	if s.Type == uint8(kernels.Float32) {
		return streamingJob[float32](s, read)
	}
	return streamingJob[float64](s, read)
}

func streamingJob[T float32 | float64](s productSpec, read reading) *kernels.MatMul[T] {
	p := jobOf[T](s, [operandCount][]byte{})
	p.SourceA, p.SourceB = streamed[T]{read, operandA}, streamed[T]{read, operandB}
	return p
}

// streamed is an operand as a kernels.Source.
type streamed[T float32 | float64] struct {
	read    reading
	operand int
}

func (s streamed[T]) Read(to []T, t kernels.Tile) error {
	return s.read(s.operand, kernels.Bytes(to), t)
}

// element returns the bytes of an element.
func (s productSpec) element() int { return kernels.DType(s.Type).Size() }

// reads reports whether an operand is read at all.
func (s productSpec) reads(operand int) bool {
	if operand == operandC {
		return s.Beta != 0
	}
	return s.Alpha != 0 && s.K > 0
}

// stored returns all of an operand, as it is stored.
func (s productSpec) stored(operand int) kernels.Tile {
	switch {
	case operand == operandC:
		return kernels.Tile{W: s.N, H: s.M}
	case operand == operandA && !s.TransA:
		return kernels.Tile{W: s.K, H: s.M}
	case operand == operandA:
		return kernels.Tile{W: s.M, H: s.K}
	case !s.TransB:
		return kernels.Tile{W: s.N, H: s.K}
	}
	return kernels.Tile{W: s.K, H: s.N}
}

// alongRows reports whether the steps of the product lie along the rows of an operand
// as it is stored, so that a device reads many rows at a time.
func (s productSpec) alongRows(operand int) bool {
	return operand == operandA && !s.TransA || operand == operandB && s.TransB
}

// Rows of which many are read at a time share few sets of the processor's table of pages
// if they are about a multiple of 4 pages apart. Where they take crowdedBytes or more on a
// host, how far apart they lie differs by at least rowShift from whole pages: of 14 that
// would be a multiple of 4 apart no more than three then share a set.
const (
	pageBytes    = 4096
	crowdedBytes = 4 * pageBytes
	rowShift     = pageBytes/3/64*64 + 64
)

// line returns how many elements of memory a row of an operand takes on a host.
func (s productSpec) line(operand int) int {
	width := s.stored(operand).W
	bytes := width * s.element()
	if !s.alongRows(operand) || bytes < crowdedBytes {
		return width
	}
	if behind := (bytes + rowShift) % pageBytes; behind < 2*rowShift {
		bytes += 2*rowShift - behind
	}
	return bytes / s.element()
}

// part returns what the tile t of the product reads of an operand, as it is stored.
func (s productSpec) part(operand int, t kernels.Tile) kernels.Tile {
	switch {
	case operand == operandC:
		return t
	case operand == operandA && !s.TransA:
		return kernels.Tile{Y: t.Y, W: s.K, H: t.H}
	case operand == operandA:
		return kernels.Tile{X: t.Y, W: t.H, H: s.K}
	case !s.TransB:
		return kernels.Tile{X: t.X, W: t.W, H: s.K}
	}
	return kernels.Tile{Y: t.X, W: s.K, H: t.W}
}

// bytes returns what the operands take that are read. It does not overflow where each
// has at most maxOperand.
func (s productSpec) bytes() (n int64) {
	for operand := range operandCount {
		if s.reads(operand) {
			n += int64(s.stored(operand).H) * int64(s.line(operand)) * int64(s.element())
		}
	}
	return n
}

func readPart[T float32 | float64](p *kernels.MatMul[T], to []T, operand int, t kernels.Tile) error {
	switch operand {
	case operandA:
		return p.ReadA(to, t)
	case operandB:
		return p.ReadB(to, t)
	}
	for y := range t.H {
		copy(to[y*t.W:][:t.W], p.C[(t.Y+y)*p.LDC+t.X:])
	}
	return nil
}
