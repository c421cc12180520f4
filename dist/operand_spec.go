package dist

import "github.com/gpurun/gpurun/kernels"

// operandSpec is what coordinator and host know of a job's operands: the matrices of a product,
// or the arrays that a user's kernel reads. They have numbers from 0 on.
type operandSpec interface {
	// count returns how many there may be, and reads which of them are read at all.
	count() int
	reads(operand int) bool

	// stored returns all of an operand, as it is stored, and elementOf the bytes of an element.
	stored(operand int) kernels.Tile
	elementOf(operand int) int

	// same reports whether two jobs are one, but for their operands.
	same(other operandSpec) bool
}

// operandsOf returns what hosts are told of the operands of job, if it has any.
func operandsOf(job kernels.Job) (operandSpec, bool) {
	if p, ok := productOf(job); ok {
		return p, true
	}
	if c, ok := job.(*kernels.Custom); ok {
		return specOfCustom(c), true
	}
	return nil, false
}

// readOperand puts a part of an operand of job into to, packed.
func readOperand(job kernels.Job, to []byte, operand int, t kernels.Tile) error {
	switch job := job.(type) {
	case *kernels.MatMul[float32]:
		return readPart(job, kernels.Elements[float32](to), operand, t)
	case *kernels.MatMul[float64]:
		return readPart(job, kernels.Elements[float64](to), operand, t)
	case *kernels.Custom:
		return job.Args[operand].Array.Read(to, t)
	}
	return nil
}
