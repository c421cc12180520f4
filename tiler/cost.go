package tiler

import (
	"fmt"
	"math"

	"github.com/gpurun/gpurun/kernels"
)

// Cost predicts the work that a tile of one job takes, in a unit of the job's
// own choice, such as iterations or floating-point operations.
//
// Costs are finite and not negative. A part of a tile costs no more than the
// tile, and the costs of the parts of a tile add up to the cost of the tile,
// to rounding. A Cost is safe for concurrent use.
type Cost interface {
	Cost(t kernels.Tile) float64
}

// Uniform is a Cost where every element takes the same work: the value, which
// is finite and not negative.
type Uniform float64

// Cost returns u times the elements of t.
func (u Uniform) Cost(t kernels.Tile) float64 { return float64(u) * float64(t.Area()) }

// CostMap is a Cost taken from samples on a coarse grid over the job's bounds,
// plus a constant for each element. Within a cell of the grid every element
// costs the same; an element on the border of two cells costs its share of
// each. It answers in constant time, whatever the size of the tile.
//
// The costs of the parts of a tile add up to its cost exactly, as long as the
// job has fewer than 2⁴⁰ elements. For that, and so that rounding can never
// make a cost negative, costs are multiples of a quantum of about 2⁻⁴⁶ of the
// whole, and an element costs at least four quanta.
type CostMap struct {
	w, h       int // the bounds
	cols, rows int // the grid

	// sums is a summed-area table of (cols+1)×(rows+1) entries, row by row:
	// entry (i, j) is the cost of all cells left of column i and above row j,
	// without the constant. F. Crow, "Summed-area tables for texture
	// mapping", 1984.
	sums       []float64
	perElement float64
	quantum    float64
}

// NewCostMap returns a CostMap over w×h elements. samples holds for each cell
// of a grid of cols×rows, row by row, the cost of one element in that cell;
// cell (i, j) covers the columns from i·w/cols up to (i+1)·w/cols and the rows
// likewise. perElement is added for every element.
//
// Samples and perElement count as 0 where they are negative or not finite. If
// all are 0, every element costs 1. NewCostMap panics if the grid is empty or
// samples has not cols·rows values, or if w or h is negative.
func NewCostMap(w, h, cols, rows int, samples []float64, perElement float64) *CostMap {
	if cols < 1 || rows < 1 || len(samples) != cols*rows || w < 0 || h < 0 {
		panic(fmt.Sprintf("tiler: %d samples for a grid of %d×%d cells over %d×%d elements", len(samples), cols, rows, w, h))
	}
	m := &CostMap{w: w, h: h, cols: cols, rows: rows, sums: make([]float64, (cols+1)*(rows+1))}
	cell := float64(w) / float64(cols) * float64(h) / float64(rows)
	for j := range rows {
		row := 0.0
		for i := range cols {
			row += cell * plausible(samples[j*cols+i])
			m.sums[(j+1)*(cols+1)+i+1] = m.sums[j*(cols+1)+i+1] + row
		}
	}
	area := float64(w) * float64(h)
	m.perElement = plausible(perElement)
	whole := m.sums[len(m.sums)-1] + m.perElement*area
	if whole == 0 {
		m.perElement, whole = 1, max(1, area)
	}
	// The sums carry rounding errors of a few 2⁻⁵³ of the whole, far below a
	// quantum; each of the four corners of a tile is then off by half a
	// quantum and a little, together by less than three quanta. The four that
	// an element costs at least keep every tile's cost positive.
	_, exp := math.Frexp(whole)
	m.quantum = math.Ldexp(1, exp-46)
	m.perElement = max(4, math.Ceil(m.perElement/m.quantum)) * m.quantum
	return m
}

func plausible(cost float64) float64 {
	if cost > 0 && !math.IsInf(cost, 1) {
		return cost
	}
	return 0
}

// Cost returns the cost of t, which lies within the bounds.
func (m *CostMap) Cost(t kernels.Tile) float64 {
	if t.Empty() {
		return 0
	}
	left, right := m.corner(t.X, t.Y), m.corner(t.X+t.W, t.Y)
	c := m.corner(t.X+t.W, t.Y+t.H) - m.corner(t.X, t.Y+t.H) - (right - left)
	return c + m.perElement*float64(t.Area())
}

// corner returns what the cells cost left of column x and above row y, without
// the constant, rounded to a whole number of quanta.
func (m *CostMap) corner(x, y int) float64 {
	i, fx := position(x, m.cols, m.w)
	j, fy := position(y, m.rows, m.h)
	stride := m.cols + 1
	at := j*stride + i
	top := m.sums[at] + fx*(m.sums[at+1]-m.sums[at])
	bottom := m.sums[at+stride] + fx*(m.sums[at+stride+1]-m.sums[at+stride])
	return math.Round((top+fy*(bottom-top))/m.quantum) * m.quantum
}

// position returns the cell of an axis of n elements in which element border x
// lies, and how far into the cell it is, from 0 to 1.
func position(x, cells, n int) (cell int, fraction float64) {
	cell = min(x*cells/n, cells-1)
	return cell, float64(x*cells-cell*n) / float64(n)
}
