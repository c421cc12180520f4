package gpurun

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// verifier looks at the results of a job: it computes a part of each again, on this
// machine's CPU, and compares the bits; of a product it also looks at the whole.
type verifier struct {
	job       kernels.Job
	share     float64
	runner    kernels.Runner
	rows      bool // parts are whole rows
	tolerance kernels.Tolerance
}

// verifyMemory is how much a verifier takes of products whose operands are not in
// memory.
const verifyMemory = 64 << 20

func newVerifier(ctx context.Context, job kernels.Job, share float64) (*verifier, error) {
	memory := int64(verifyMemory)
	custom, ofUser := job.(*kernels.Custom)
	if ofUser {
		memory = 0
	}
	d, err := device.OpenCPU(memory)
	if err != nil {
		return nil, err
	}
	// d is not closed: a CPU holds nothing, and would keep rates, which those of a few
	// rows are not.
	runner, err := d.Begin(ctx, job)
	if err != nil {
		return nil, err
	}
	v := &verifier{job: job, share: share, runner: runner}
	if ofUser {
		v.rows, v.tolerance = custom.Rows, custom.Tolerance
	}
	return v, nil
}

// close waits until nothing is verified any more.
func (v *verifier) close() error { return v.runner.Close() }

// check returns an error that matches dist.ErrWrong if r, the result of t, is seen to be
// wrong.
func (v *verifier) check(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	for _, part := range randomParts(t, v.share, v.rows) {
		if err := v.compare(ctx, t, part, r); err != nil {
			return err
		}
	}
	switch job := v.job.(type) {
	case *kernels.MatMul[float32]:
		return freivalds(ctx, job, t, kernels.Elements[float32](r.Planes[0]))
	case *kernels.MatMul[float64]:
		return freivalds(ctx, job, t, kernels.Elements[float64](r.Planes[0]))
	}
	return nil
}

// compare computes part of t again.
func (v *verifier) compare(ctx context.Context, t, part kernels.Tile, r *kernels.Result) error {
	again := kernels.NewResult(v.job, part)
	if err := v.runner.Run(ctx, part, again); err != nil {
		return err
	}
	within := part
	within.X, within.Y = part.X-t.X, part.Y-t.Y
	for i, typ := range v.job.Planes() {
		got := make([]byte, len(again.Planes[i]))
		tiler.Cut(got, within, r.Planes[i], t.W, typ.Size())
		if at := firstDifference(typ, got, again.Planes[i], v.tolerance); at >= 0 {
			return fmt.Errorf("%w: the element in column %d of row %d is not what the CPU of the coordinator computes", dist.ErrWrong,
				part.X+at%part.W, part.Y+at/part.W)
		}
	}
	return nil
}

// firstDifference returns the index of the first element of a type that differs between
// a and b by more than the tolerance, or −1. Any NaN is any NaN.
func firstDifference(t kernels.DType, a, b []byte, tolerance kernels.Tolerance) int {
	if bytes.Equal(a, b) {
		return -1
	}
	size := t.Size()
	for i := 0; i < len(a); i += size {
		x, y := a[i:i+size], b[i:i+size]
		if !bytes.Equal(x, y) && !near(t.Float64(x), t.Float64(y), t.Float(), tolerance) {
			return i / size
		}
	}
	return -1
}

// near reports whether x and y, whose bits differ, are what tolerance allows.
func near(x, y float64, float bool, tolerance kernels.Tolerance) bool {
	if float && (math.IsNaN(x) || math.IsNaN(y)) {
		return math.IsNaN(x) && math.IsNaN(y)
	}
	if tolerance == (kernels.Tolerance{}) || math.IsInf(x, 0) || math.IsInf(y, 0) {
		return false // also +0 and −0
	}
	return math.Abs(x-y) <= tolerance.Absolute+tolerance.Relative*max(math.Abs(x), math.Abs(y))
}

// randomParts returns rows of t, or elements of one row unless they have to be rows, which hold every
// element with a probability of share at least.
func randomParts(t kernels.Tile, share float64, rows bool) []kernels.Tile {
	if t.Empty() {
		return nil
	}
	if n := share * float64(t.H); n >= 1 || t.W == 1 || rows {
		var parts []kernels.Tile
		for _, s := range randomStretch(t.H, int(math.Ceil(n))) {
			parts = append(parts, kernels.Tile{X: t.X, Y: t.Y + s[0], W: t.W, H: s[1]})
		}
		return parts
	}
	row := t.Y + rand.IntN(t.H)
	var parts []kernels.Tile
	for _, s := range randomStretch(t.W, int(math.Ceil(share*float64(t.H)*float64(t.W)))) {
		parts = append(parts, kernels.Tile{X: t.X + s[0], Y: row, W: s[1], H: 1})
	}
	return parts
}

// randomStretch returns where length neighbours of n lines begin, and how many they are;
// behind the last comes the first, so that each line is among them as often as others.
func randomStretch(n, length int) [][2]int {
	length = min(max(length, 1), n)
	from := rand.IntN(n)
	if over := from + length - n; over > 0 && length < n {
		return [][2]int{{from, length - over}, {0, over}}
	} else if length == n {
		from = 0
	}
	return [][2]int{{from, length}}
}

// freivalds returns an error that matches dist.ErrWrong if c, the elements of t, times
// a random vector of 1 and −1 is not what the operands times that vector are, by more
// than rounding explains: R. Freivalds, "Probabilistic machines can use less running
// time", 1977. An element that is off by more is found for certain if it is alone in
// its row, and with a probability of a half at least if it is not.
//
// Each element of t has been rounded K+2 times at most, relative to the sum of the
// absolute values of its terms, and as often by half the least number; the sums here,
// in float64, K+W+2 times: N. Higham, "Accuracy and Stability of Numerical Algorithms",
// 2002, section 3.1. Rows with terms that are not finite, or may not have been in
// between, are not looked at.
func freivalds[T float32 | float64](ctx context.Context, job *kernels.MatMul[T], t kernels.Tile, c []T) error {
	f := newFreivalds(job, t)
	if job.Flops() > 0 {
		if err := f.readB(ctx); err != nil {
			return err
		}
		if err := f.readA(ctx); err != nil {
			return err
		}
	}
	steps := float64(f.steps)
	unit, least, most := 0x1p-24, float64(math.SmallestNonzeroFloat32), float64(math.MaxFloat32)
	if job.DType() == kernels.Float64 {
		unit, least, most = 0x1p-53, math.SmallestNonzeroFloat64, math.MaxFloat64
	}
	const unit64 = 0x1p-53
	for i := range t.H {
		var sum, size float64
		for j, x := range c[i*t.W:][:t.W] {
			sum += float64(float64(x) * f.signs[j])
			size += math.Abs(float64(x))
		}
		want, terms := float64(job.Alpha)*f.sums[i], math.Abs(float64(job.Alpha))*f.sizes[i]
		if job.Beta != 0 {
			for j, x := range job.C[(t.Y+i)*job.LDC+t.X:][:t.W] {
				want += float64(float64(job.Beta) * float64(x) * f.signs[j])
				terms += math.Abs(float64(job.Beta) * float64(x))
			}
		}
		width := float64(t.W)
		bound := (gamma(steps+2, unit)+gamma(steps+width+3, unit64))*terms + gamma(width, unit64)*size + width*(steps+2)*least
		bound *= 1 + 0x1p-10 // its own rounding
		off := math.Abs(sum - want)
		if finite(bound) && (off > bound && finite(off) || !finite(off) && terms < most/2) {
			return fmt.Errorf("%w: row %d, times a random vector of 1 and −1, is off by %.3g, where rounding explains %.3g", dist.ErrWrong, t.Y+i, off, bound)
		}
	}
	return nil
}

// gamma is how far n roundings may take a sum of n terms, relative to the sum of their
// absolute values.
func gamma(n, unit float64) float64 {
	if n*unit >= 0.5 {
		return math.Inf(1)
	}
	return n * unit / (1 - n*unit)
}

// freivaldsSums are the sums of Freivalds' check, in float64.
type freivaldsSums[T float32 | float64] struct {
	job         *kernels.MatMul[T]
	tile        kernels.Tile
	steps       int
	signs       []float64 // the random vector
	vector      []float64 // op(B) times signs, for the columns of the tile
	absolute    []float64 // the absolute values of op(B), added up
	sums, sizes []float64 // of each row: op(A) times vector, and with absolute values
}

// verifyPiece is how many elements of an operand are read at a time.
const verifyPiece = 1 << 18

func newFreivalds[T float32 | float64](job *kernels.MatMul[T], t kernels.Tile) *freivaldsSums[T] {
	f := &freivaldsSums[T]{job: job, tile: t, signs: make([]float64, t.W), sums: make([]float64, t.H), sizes: make([]float64, t.H)}
	if job.Flops() > 0 {
		f.steps = job.K
	}
	for j := range f.signs {
		f.signs[j] = float64(1 - 2*rand.IntN(2))
	}
	f.vector, f.absolute = make([]float64, f.steps), make([]float64, f.steps)
	return f
}

// each reads all steps of lines lines of op(X), from first on, in pieces, and calls add
// with what lies side by side: the steps from step on of a line if stepsAlong, or else
// the lines from line on of a step.
func (f *freivaldsSums[T]) each(ctx context.Context, read func([]T, kernels.Tile) error, first, lines int, stepsAlong bool, add func(line, step int, x []T)) error {
	long, many := f.steps, lines
	if !stepsAlong {
		long, many = lines, f.steps
	}
	width := min(long, verifyPiece)
	height := min(max(1, verifyPiece/width), many)
	elements := make([]T, width*height)
	for y := 0; y < many; y += height {
		for x := 0; x < long; x += width {
			if err := ctx.Err(); err != nil {
				return err
			}
			piece := kernels.Tile{X: x, Y: y, W: min(width, long-x), H: min(height, many-y)}
			stored := piece
			if stepsAlong {
				stored.Y += first
			} else {
				stored.X += first
			}
			if err := read(elements[:piece.Area()], stored); err != nil {
				return err
			}
			for i := range piece.H {
				line, step := x, y+i
				if stepsAlong {
					line, step = y+i, x
				}
				add(line, step, elements[i*piece.W:][:piece.W])
			}
		}
	}
	return nil
}

func (f *freivaldsSums[T]) readB(ctx context.Context) error {
	add := func(line, step int, x []T) {
		var sum, size float64
		for i, sign := range f.signs[line:][:len(x)] {
			sum += float64(float64(x[i]) * sign)
			size += math.Abs(float64(x[i]))
		}
		f.vector[step] += sum
		f.absolute[step] += size
	}
	if f.job.TransB {
		add = func(line, step int, x []T) {
			vector, absolute, sign := f.vector[step:][:len(x)], f.absolute[step:][:len(x)], f.signs[line]
			for i, v := range x {
				vector[i] += float64(float64(v) * sign)
				absolute[i] += math.Abs(float64(v))
			}
		}
	}
	return f.each(ctx, f.job.ReadB, f.tile.X, f.tile.W, f.job.TransB, add)
}

func (f *freivaldsSums[T]) readA(ctx context.Context) error {
	add := func(line, step int, x []T) {
		vector, absolute := f.vector[step:][:len(x)], f.absolute[step:][:len(x)]
		var sum, size float64
		for i, v := range x {
			sum += float64(float64(v) * vector[i])
			size += math.Abs(float64(v)) * absolute[i]
		}
		f.sums[line] += sum
		f.sizes[line] += size
	}
	if f.job.TransA {
		add = func(line, step int, x []T) {
			sums, sizes, v, a := f.sums[line:][:len(x)], f.sizes[line:][:len(x)], f.vector[step], f.absolute[step]
			for i, y := range x {
				sums[i] += float64(float64(y) * v)
				sizes[i] += math.Abs(float64(y)) * a
			}
		}
	}
	return f.each(ctx, f.job.ReadA, f.tile.Y, f.tile.H, !f.job.TransA, add)
}
