package tiler

import "math"

// Product is the size of a matrix product, M×K by K×N.
type Product struct{ M, N, K int }

// Blocks is a plan for a product through a memory that is too small for it: a block
// of C stays in memory while panels of A and B, as high and as wide as it is, go by.
// Everything is in elements.
type Blocks struct {
	Rows, Cols int // of a block

	// Depth is how many steps a panel has. Two of each operand are in memory at a
	// time; but where it is K, one is, and that of B stays for the block below.
	Depth int

	// Moved is how many elements of A and B are read, and of C written.
	Moved float64
}

// Memory returns the elements that b takes of a product of k steps.
func (b Blocks) Memory(k int) float64 {
	return float64(b.Rows)*float64(b.Cols) + panels(b.Depth, k)*(float64(b.Rows)+float64(b.Cols))
}

// panels returns the elements of all panels a row or column of the block.
func panels(depth, k int) float64 {
	if depth < k {
		depth *= 2
	}
	return float64(depth)
}

// Shallow panels leave more memory to the block, so that less is moved; with deep ones
// the block is passed over less often.
const (
	deepest = 1024

	// deepEnough: shallower panels cost time, as the block of C is passed over for each.
	// Up to that depth they may be deeper also where as much as MovedBound is moved then.
	deepEnough = 256

	// worthIt is how much more than the least may be moved for panels that are deeper,
	// or that are read while others are multiplied.
	worthIt = 1.1

	// finestAcross: plans for more columns of blocks differ by that part of their number,
	// and hardly in what is moved.
	finestAcross = 1 << 16
)

// PlanBlocks returns the plan for p in so many elements of memory that moves the
// least, or nearly so: each block reads as many rows of A and columns of B as it has,
// so blocks are as large as the memory allows, and about square. The sides of blocks
// are multiples of stepY and stepX, or all of C. It returns false if the memory is
// too small for any. p has no side of 0.
//
// No order of the operations moves much less than 2·M·N·K/√S through a memory of S
// elements: T. Smith, B. Lowery, J. Langou, R. van de Geijn, "A tight I/O lower bound
// for matrix multiplication", 2019.
func PlanBlocks(p Product, elements float64, stepX, stepY int) (Blocks, bool) {
	strips, found := p.blocks(p.K, elements, stepX, stepY)
	shallow, ok := p.blocks(1, elements, stepX, stepY)
	if !found && !ok {
		return Blocks{}, false
	}
	best, least := strips, shallow.Moved
	if !ok || found && strips.Moved < least {
		least = strips.Moved
	}
	for depth := 1; depth < p.K && depth <= deepest; depth *= 2 {
		most := worthIt * least
		if depth <= deepEnough {
			most = max(most, MovedBound(p, elements))
		}
		if b, ok := p.blocks(depth, elements, stepX, stepY); ok && b.Moved <= most {
			best = b
		}
	}
	return best, true
}

// blocks returns the plan with panels of a depth that moves the least.
func (p Product) blocks(depth int, elements float64, stepX, stepY int) (best Blocks, found bool) {
	k, n := float64(p.K), float64(p.N)
	// Wider blocks have no room for a row.
	widest := elements / (1 + panels(depth, p.K))
	first := max(1, int(n/(widest+float64(stepX))))
	for across := first; ; across += 1 + across/finestAcross {
		cols := side(p.N, across, stepX)
		readA := float64(p.M) * k * float64(across)
		if rows := p.rows(depth, elements, cols, stepY); rows > 0 {
			b := Blocks{Rows: rows, Cols: cols, Depth: depth}
			b.Moved = readA + k*n + float64(p.M)*n
			if depth < p.K {
				b.Moved += k * n * float64((p.M-1)/rows)
			}
			if !found || b.Moved < best.Moved {
				best, found = b, true
			}
		}
		if cols <= stepX || found && readA >= best.Moved {
			return best, found
		}
	}
}

// rows returns how many rows blocks of cols columns may have, all about alike; 0 if
// there is no room for any.
func (p Product) rows(depth int, elements float64, cols, step int) int {
	panels := panels(depth, p.K)
	most := (elements - panels*float64(cols)) / (float64(cols) + panels)
	if most >= float64(p.M) {
		return p.M
	}
	lines := int(max(most, 0)) / step * step
	if lines == 0 {
		return 0
	}
	return side(p.M, (p.M+lines-1)/lines, step)
}

// side returns the largest of n lines cut into parts, each but the last a multiple
// of step.
func side(n, parts, step int) int {
	lines := (n + parts - 1) / parts
	return min((lines+step-1)/step*step, n)
}

// MovedBound returns 2·M·N·K/√elements + M·K + K·N + M·N, which is what blocks that
// take all of a memory of so many elements move, where panels take none.
func MovedBound(p Product, elements float64) float64 {
	m, n, k := float64(p.M), float64(p.N), float64(p.K)
	return 2*m*n*k/math.Sqrt(elements) + m*k + k*n + m*n
}
