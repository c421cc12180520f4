package gpurun

import (
	"context"
	"fmt"
	"strings"

	"github.com/gpurun/gpurun/kernels"
)

// Scan puts running results of r over args, which are In, Whole and Value, into to: its element k is
// what Reduce makes of the elements 0 … k, such as a running sum. It has as many elements as the In
// arguments, and shares none with them. The errors are those of Run. Engine.Report is of the last
// step, without the elements after the last 256 if there are as many.
//
// The order is fixed, as it is in Reduce, and Reduce must not care in which order it gets its
// arguments. Of each 256 elements in turn, element k becomes Reduce(element k−1, element k), for k
// from 1, then likewise with k−2, 4, 8 … 128, all elements at a time; of the totals of each 256, which
// are made as Reduce makes those of 4096, a scan is made, and the one before comes to each:
// Reduce(total, element).
func Scan[T Number](ctx context.Context, e *Engine, r *Reduction[T], to []T, args ...Argument) error {
	n, err := reducedElements(args)
	if err != nil {
		return err
	}
	if n != len(to) {
		return kernelError("there are %d elements to scan, and room for %d: they must be as many", n, len(to))
	}
	if err := checkOverlaps(append([]Argument{Out(scanOutput, to)}, args...)); err != nil || n == 0 {
		return err
	}
	offsets := []T{0} // which the first block does not look at
	if n > scanBlock {
		totals, err := reduceBlocks(ctx, e, r, scanBlock, args)
		if err != nil {
			return err
		}
		offsets = make([]T, len(totals))
		if err := Scan(ctx, e, r.later(), offsets, In(reducedName, totals)); err != nil {
			return err
		}
	}
	full := n / scanBlock * scanBlock
	if err := scanRows(ctx, e, r, to, args, offsets, 0, full, scanBlock); err != nil {
		return err
	}
	report := e.Report()
	err = scanRows(ctx, e, r, to, args, offsets, full, n, n-full)
	if err == nil && full > 0 {
		e.setReport(report)
	}
	return err
}

// scanBlock elements are scanned by a work-group.
const scanBlock = 256

// The names that a scan's kernel has for itself.
const (
	scan        = "scan"
	scanOutput  = "scanned" + generated
	scanOffsets = "offsets" + generated
	scanFirst   = "first" + generated
)

// scanRows scans the elements from … to−1, in rows of so many.
func scanRows[T Number](ctx context.Context, e *Engine, r *Reduction[T], scanned []T, args []Argument, offsets []T, from, to, columns int) error {
	if from == to {
		return nil
	}
	var rows []Argument
	for _, a := range args {
		if a.role == kernels.In {
			size := a.typ.Size()
			a.data, a.count = a.data[from*size:to*size], to-from
		}
		rows = append(rows, a)
	}
	rows = append(rows, Value(scanFirst, int64(from/scanBlock)), Whole(scanOffsets, offsets), Out(scanOutput, scanned[from:to]))
	source, err := (&reduction{kernels.TypeOf[T](), r.Neutral, r.Map, r.Reduce, scanBlock}).scanSource(rows)
	if err != nil {
		return err
	}
	k := &Kernel{Source: source, Entry: scan, Group: [2]int{scanBlock, 1}, WholeRows: true, CPU: r.CPU.rows(), Tolerance: r.Tolerance, name: r.name}
	for i := range rows {
		if rows[i].role == kernels.In {
			rows[i].name += generated // as mapped calls the parameter
		}
	}
	if r.name != "" {
		k.name += ofRows
	}
	return e.Run(ctx, k, append(rows, Size(columns, (to-from)/columns))...)
}

// rows returns r as what Kernel.CPU is, for a part of which each row is scanned; nil if r is.
func (r *ReductionCPU[T]) rows() func(p *Part) error {
	if r == nil {
		return nil
	}
	return func(p *Part) error {
		scanned, offsets, first := Elements[T](p, scanOutput), Elements[T](p, scanOffsets), int(ValueOf[int64](p, scanFirst))
		_, y, columns, rows := p.Bounds()
		for row := range rows {
			block, values := first+y+row, scanned[row*columns:][:columns]
			if err := r.Map(p.line(block*scanBlock, row*columns, columns), values); err != nil {
				return err
			}
			for step := 1; step < columns; step *= 2 {
				for k := columns - 1; k >= step; k-- {
					values[k] = r.Reduce(values[k-step], values[k])
				}
			}
			for k := range values {
				if block > 0 {
					values[k] = r.Reduce(offsets[block-1], values[k])
				}
			}
		}
		return nil
	}
}

// scanSource returns the kernel that scans each row, with arguments of the types of args.
func (r *reduction) scanSource(args []Argument) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	params, before, err := mapped(args)
	if err != nil {
		return "", err
	}
	params = append(params, "const int tile_w", "const long tile_y")
	var s strings.Builder
	s.WriteString(r.combination())
	fmt.Fprintf(&s, "kernel void %s(%s)\n{\n", scan, strings.Join(params, ", "))
	fmt.Fprintf(&s, "local %s lanes%s[%d];\n", r.typ.OpenCL(), generated, scanBlock)
	fmt.Fprintf(&s, "const int lane%[1]s = get_local_id(0);\nconst size_t row%[1]s = get_group_id(1);\n", generated)
	fmt.Fprintf(&s, "const long block%[1]s = %[2]s + tile_y + row%[1]s, i = block%[1]s * %[3]d + lane%[1]s;\n", generated, scanFirst, scanBlock)
	fmt.Fprintf(&s, "%s value%s =\n#line 1 \"Neutral\"\n(%s);\n", r.typ.OpenCL(), generated, r.neutral)
	fmt.Fprintf(&s, "const size_t at%[1]s = row%[1]s*tile_w + lane%[1]s;\nif (lane%[1]s < tile_w) {\n%[2]s\n", generated, strings.Join(before, "\n"))
	fmt.Fprintf(&s, "value%s =\n#line 1 \"Map\"\n(%s);\n}\nlanes%[1]s[lane%[1]s] = value%[1]s;\n", generated, r.mapped)
	fmt.Fprintf(&s, "for (int step%[1]s = 1; step%[1]s < %[2]d; step%[1]s *= 2) {\nbarrier(CLK_LOCAL_MEM_FENCE);\n", generated, scanBlock)
	fmt.Fprintf(&s, "if (lane%[1]s >= step%[1]s)\nvalue%[1]s = two%[1]s(lanes%[1]s[lane%[1]s - step%[1]s], value%[1]s);\n", generated)
	fmt.Fprintf(&s, "barrier(CLK_LOCAL_MEM_FENCE);\nlanes%[1]s[lane%[1]s] = value%[1]s;\n}\n", generated)
	fmt.Fprintf(&s, "if (lane%[1]s < tile_w)\n%[2]s[at%[1]s] = block%[1]s > 0 ? two%[1]s(%[3]s[block%[1]s - 1], value%[1]s) : value%[1]s;\n}\n", generated, scanOutput, scanOffsets)
	return s.String(), nil
}
