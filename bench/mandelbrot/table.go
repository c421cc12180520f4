package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/gpurun/gpurun/internal/machine"
	"github.com/gpurun/gpurun/internal/views"
	"github.com/gpurun/gpurun/kernels"
)

// table is a table for one number of threads.
type table struct {
	*run
	folder      string
	contestants []*contestant // the first is gpurun
	threads     int
	rows        []row
}

// row is what was measured of one view in one type, by rounds.
type row struct {
	pictures []picture   // of each contestant
	rates    [][]float64 // of each contestant, in steps a second; none if it failed
	peaks    []float64   // steps a second that the FMA units could do
}

// flopsPerStep are the operations that the FMA units could have done in the time
// of a step: three fused multiply-adds of two operations each, and an addition,
// which takes as long as one.
const flopsPerStep = 8

// print measures and prints the table.
func (t *table) print() error {
	fmt.Printf("\nThreads: %d. gpurun in Giter/s, and gpurun ÷ others:\n\n", t.threads)
	for _, v := range t.views {
		rows, err := t.measure(v)
		if err != nil {
			return err
		}
		t.rows = append(t.rows, rows...)
	}
	if err := t.printRates(); err != nil {
		return err
	}
	if err := t.printTypes(); err != nil {
		return err
	}
	t.printSizes()
	var verdicts []string
	for _, c := range t.contestants[1:] {
		if c.pixels == 0 {
			continue
		}
		verdict, err := c.verdict()
		if err != nil {
			return err
		}
		verdicts = append(verdicts, verdict)
	}
	fmt.Printf("pixels that differ from gpurun's: %s\n", strings.Join(verdicts, ", "))
	return nil
}

// turn is a contestant with a picture that it is ready to compute.
type turn struct {
	*contestant
	picture
	steps float64
	sum   uint64
	times int
}

// measure measures one view in all types, which take turns too, so that their
// ratio can be told.
func (t *table) measure(v views.View) ([]row, error) {
	rows := make([]row, len(types))
	turns := make([][]*turn, len(types)) // nil for a contestant that has failed
	for k, typ := range types {
		wanted := map[picture]pixels{}
		rows[k].rates = make([][]float64, len(t.contestants))
		for i, c := range t.contestants {
			one, err := t.prepare(c, v, typ, wanted)
			if err != nil && i == 0 {
				return nil, err
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				one = nil
			}
			turns[k] = append(turns[k], one)
		}
	}
	for range t.rounds {
		for k, typ := range types {
			rows[k].peaks = append(rows[k].peaks, 1e9*machine.FMAPeak(typ.Size(), t.threads)/flopsPerStep)
			for i, one := range turns[k] {
				if one == nil {
					continue
				}
				rate, err := one.rate(one.picture, one.steps, one.sum, one.times)
				if err != nil {
					return nil, err
				}
				rows[k].rates[i] = append(rows[k].rates[i], rate)
			}
		}
	}
	for k := range rows {
		for _, one := range turns[k] {
			var p picture
			if one != nil {
				p = one.picture
			}
			rows[k].pictures = append(rows[k].pictures, p)
		}
	}
	return rows, nil
}

// prepare has c compute the view, compares what came out with what is wanted of
// the picture, which gpurun is asked for the first time, and finds out how often it
// is to be repeated.
func (t *table) prepare(c *contestant, v views.View, typ kernels.DType, wanted map[picture]pixels) (*turn, error) {
	p, err := sized(v, typ, t.steps*c.part)
	if err != nil {
		return nil, err
	}
	want, known := wanted[p]
	if !known {
		if want, err = t.contestants[0].compute(p, t.folder); err != nil {
			return nil, err
		}
		wanted[p] = want
	}
	got, err := c.compute(p, t.folder)
	if err != nil {
		return nil, err
	}
	c.compare(got, want)
	times, err := c.repeats(p, t.slice)
	return &turn{c, p, p.steps(want.counts), got.sum, times}, err
}

// others returns the indices of the contestants that gpurun's kernels for the CPU
// are compared with: not of its own for OpenCL.
func (t *table) others() []int {
	var out []int
	for i, c := range t.contestants {
		if i > 0 && c.name != openCL {
			out = append(out, i)
		}
	}
	return out
}

// printRates writes a row for each view and type, and the geometric means.
func (t *table) printRates() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "view\tsize\ttype\tgpurun\tof bound\t")
	for _, c := range t.others() {
		fmt.Fprintf(w, "÷ %s\t", t.contestants[c].name)
	}
	fmt.Fprintln(w)
	logs := make([][][]float64, len(types)) // of each type and contestant: ln of the ratios
	for k := range logs {
		logs[k] = make([][]float64, len(t.contestants))
	}
	for i, r := range t.rows {
		v, k := t.views[i/len(types)], i%len(types)
		ours := r.rates[0]
		fmt.Fprintf(w, "%s\t%d×%d\t%v\t%.2f\t%s\t", v.Name, r.pictures[0].width, r.pictures[0].height, types[k],
			median(ours)/1e9, number("%.0f %%", 100*median(ratios(ours, r.peaks))))
		for _, c := range t.others() {
			ratio := median(ratios(ours, r.rates[c]))
			fmt.Fprintf(w, "%s\t", number("%.2f", ratio))
			if !math.IsNaN(ratio) {
				logs[k][c] = append(logs[k][c], math.Log(ratio))
			}
		}
		fmt.Fprintln(w)
	}
	for k, typ := range types {
		fmt.Fprintf(w, "geometric mean\t\t%v\t\t\t", typ)
		for _, c := range t.others() {
			fmt.Fprintf(w, "%s\t", number("%.2f", math.Exp(mean(logs[k][c]))))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// printTypes writes how much faster gpurun is in the smaller type, and how fast
// OpenCL is beside the CPU's own kernels.
func (t *table) printTypes() error {
	opencl := slices.IndexFunc(t.contestants, func(c *contestant) bool { return c.name == openCL })
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "view\tgpurun f32 ÷ f64\t")
	if opencl > 0 {
		fmt.Fprint(w, "f32: opencl ÷ gpurun\tf64: opencl ÷ gpurun\t")
	}
	fmt.Fprintln(w)
	for i, v := range t.views {
		f32, f64 := t.rows[len(types)*i], t.rows[len(types)*i+1]
		fmt.Fprintf(w, "%s\t%.2f\t", v.Name, median(ratios(f32.rates[0], f64.rates[0])))
		if opencl > 0 {
			for _, r := range []row{f32, f64} {
				fmt.Fprintf(w, "%s\t", number("%.3f", median(ratios(r.rates[opencl], r.rates[0]))))
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// printSizes says which contestants computed smaller pictures than gpurun, and which.
func (t *table) printSizes() {
	fmt.Println()
	for c, one := range t.contestants {
		if one.part == 1 {
			continue
		}
		var sizes []string
		for i, v := range t.views {
			p := t.rows[len(types)*i].pictures[c]
			sizes = append(sizes, fmt.Sprintf("%s %d×%d", v.Name, p.width, p.height))
		}
		fmt.Printf("sizes for %s: %s\n", one.name, strings.Join(sizes, ", "))
	}
}

// number formats x, if it is one and known.
func number(format string, x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	return fmt.Sprintf(format, x)
}

func ratios(over, under []float64) []float64 {
	var out []float64
	for i := range min(len(over), len(under)) {
		out = append(out, over[i]/under[i])
	}
	return out
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return math.NaN()
	}
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
