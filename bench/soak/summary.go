//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"gonum.org/v1/gonum/stat"
)

// summarize prints what was done, and for each series what came of it after the warm-up.
func summarize(w io.Writer, samples []sample, events []event, warmUp float64) {
	last := samples[len(samples)-1]
	fmt.Fprintf(w, "%d jobs in %.0f s, %d wrong, %d failed;", last.Jobs, last.seconds, last.Wrong, last.Failed)
	for _, act := range acts {
		n := 0
		for _, e := range events {
			if e.act == act {
				n++
			}
		}
		fmt.Fprintf(w, " %s %d", act, n)
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "after %.0f s\tfirst tenth\tlast tenth\tslope an hour\t± \t\n", warmUp)
	for _, s := range series {
		var x, y []float64
		for _, one := range samples {
			if v := s.of(one); one.seconds >= warmUp && !math.IsNaN(v) {
				x, y = append(x, one.seconds/3600), append(y, v)
			}
		}
		if len(x) < 10 {
			fmt.Fprintf(t, "%s\t–\t–\t–\t–\t\n", s.name)
			continue
		}
		slope, deviation := trend(x, y)
		tenth := len(y) / 10
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%+.2f\t%.2f\t\n", s.name, median(y[:tenth]), median(y[len(y)-tenth:]), slope, deviation)
	}
	t.Flush()
}

// trend returns the slope of y over x by least squares, and its standard deviation.
// Samples that follow each other are alike, so that there are fewer by which to tell than
// they are: n·(1−r)/(1+r), where r is the correlation of each residual with the next.
func trend(x, y []float64) (slope, deviation float64) {
	start, slope := stat.LinearRegression(x, y, nil, false)
	residuals := make([]float64, len(y))
	squares := 0.0
	for i := range y {
		residuals[i] = y[i] - start - slope*x[i]
		squares += residuals[i] * residuals[i]
	}
	if squares == 0 {
		return slope, 0
	}
	n := float64(len(x))
	deviation = math.Sqrt(squares / (n - 2) / (stat.Variance(x, nil) * (n - 1)))
	r := max(0, stat.Correlation(residuals[:len(residuals)-1], residuals[1:], nil))
	return slope, deviation * math.Sqrt((1+r)/(1-r))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
