package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gpurun/gpurun/internal/machine"
	"github.com/gpurun/gpurun/kernels"
)

// table is a table of one type and number of threads.
type table struct {
	*run
	w           *tabwriter.Writer
	contestants []*contestant // the first is gpurun
	t           kernels.DType
	threads     int
	bandwidth   float64
}

// print measures and prints the table.
func (t *table) print() error {
	t.w = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t.w, "m×n×k\t")
	for _, c := range t.contestants {
		c.worst = 0
		fmt.Fprintf(t.w, "%s\t", c.name)
	}
	fmt.Fprint(t.w, "of peak\tof bandwidth\t")
	for i, c := range t.contestants {
		if over := t.counterpart(i); over == 0 {
			fmt.Fprintf(t.w, "÷ %s\t", c.name)
		} else if over > 0 {
			fmt.Fprintf(t.w, "%s ÷ %s\t", t.contestants[over].name, c.name)
		}
	}
	fmt.Fprint(t.w, "÷ best\t\n")
	logSum, count := 0.0, 0
	for _, s := range t.shapes {
		ratio, err := t.row(s)
		if err != nil {
			return err
		}
		if !math.IsNaN(ratio) {
			logSum += math.Log(ratio)
			count++
		}
	}
	if err := t.w.Flush(); err != nil {
		return err
	}
	if count > 0 {
		fmt.Printf("geometric mean of gpurun ÷ the best of the other libraries on the CPU: %.3f\n", math.Exp(logSum/float64(count)))
	}
	var largest []string
	for _, c := range t.contestants {
		largest = append(largest, fmt.Sprintf("%s %.1e", c.name, c.worst))
	}
	fmt.Printf("largest relative errors: %s\n", strings.Join(largest, ", "))
	return nil
}

// counterpart returns which contestant is this module doing what contestant i
// does, or −1 if i is this module itself or there is none.
func (t *table) counterpart(i int) int {
	name := t.contestants[i].name
	switch {
	case i == 0 || strings.HasPrefix(name, "opencl"):
		return -1
	case usesOpenCL(name):
		ours := strings.Replace(name, "clblast", "opencl", 1)
		return slices.IndexFunc(t.contestants, func(c *contestant) bool { return c.name == ours })
	}
	return 0
}

// row measures one shape and returns gpurun ÷ the best library in C, or NaN.
func (t *table) row(s shape) (float64, error) {
	rates, peaks, err := t.rates(s)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(t.w, "%v\t", s)
	for _, rate := range rates {
		fmt.Fprintf(t.w, "%s\t", number("%.1f", median(rate)))
	}
	least := float64(t.t.Size()) * (float64(s.m*s.k) + float64(s.k*s.n) + float64(s.m*s.n)) / 1e9 // bytes that must be moved
	fmt.Fprintf(t.w, "%.0f %%\t%.0f %%\t", 100*median(ratios(rates[0], peaks)), 100*least*median(rates[0])*1e9/s.flops()/t.bandwidth)
	var best []float64 // of each round
	for i, c := range t.contestants {
		over := t.counterpart(i)
		if over < 0 {
			continue
		}
		fmt.Fprintf(t.w, "%s\t", number("%.2f", median(ratios(rates[over], rates[i]))))
		if over > 0 || c.name == "gonum" {
			continue
		}
		for round, rate := range rates[i] {
			if round == len(best) {
				best = append(best, 0)
			}
			best[round] = max(best[round], rate)
		}
	}
	ratio := median(ratios(rates[0], best))
	fmt.Fprintf(t.w, "%s\t\n", number("%.2f", ratio))
	return ratio, nil
}

// rates returns the GFLOP/s of each contestant in each round, and the peaks. A
// rival that fails is named and has none.
func (t *table) rates(s shape) (rates [][]float64, peaks []float64, err error) {
	rates = make([][]float64, len(t.contestants))
	failed := make([]bool, len(t.contestants))
	for round := range t.rounds {
		peaks = append(peaks, machine.FMAPeak(t.t.Size(), t.threads))
		for i, c := range t.contestants {
			if failed[i] || c.name == "gonum" && round > 0 && s.flops() > 1e9 {
				continue // gonum would take most of the time
			}
			seconds, err := c.measure(t.t, s, t.slice)
			if err != nil {
				if i == 0 {
					return nil, nil, err
				}
				fmt.Fprintln(os.Stderr, err)
				failed[i], rates[i] = true, nil
				continue
			}
			rates[i] = append(rates[i], s.flops()/seconds/1e9)
			time.Sleep(t.pause)
		}
	}
	if t.best {
		peaks = []float64{slices.Max(peaks)}
		for i := range rates {
			if len(rates[i]) > 0 {
				rates[i] = []float64{slices.Max(rates[i])}
			}
		}
	}
	return rates, peaks, nil
}

// number formats x, if it is one.
func number(format string, x float64) string {
	if math.IsNaN(x) {
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

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return math.NaN()
	}
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
