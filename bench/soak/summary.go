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

// What a series is said to be.
const (
	flat    = "flat"
	grows   = "grows"
	falls   = "falls"
	unclear = "unclear"
)

const (
	// surely is how many deviations a slope must have not to be taken for chance. Of
	// ten series that are flat one has 2 in every third run, and 3 in one of 40.
	surely = 3

	// tellable is the part of the level by which a series may change in an hour without
	// being seen to.
	tellable = 0.1
)

// judge says what a series of a level is whose slope an hour is known to within a deviation.
func judge(level, slope, deviation float64) string {
	switch bound := max(surely*deviation, 1e-9*level); { // constants may have slopes from rounding
	case slope > bound:
		return grows
	case slope < -bound:
		return falls
	case bound <= tellable*level:
		return flat
	}
	return unclear
}

// summarize prints what was done, and for each series what came of it after the warm-up.
func summarize(w io.Writer, title string, samples []sample, events []event, warmUp float64) {
	last := samples[len(samples)-1]
	fmt.Fprintf(w, "%s\n%d jobs in %.0f s, %d wrong, %d failed;", title, last.Jobs, last.seconds, last.Wrong, last.Failed)
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
	fmt.Fprintf(t, "after %.0f s\tfirst tenth\tlast tenth\tslope an hour\t± \t%% of level\t± \tit is\t\n", warmUp)
	for _, s := range series {
		var x, y []float64
		for _, one := range samples {
			if one.seconds >= warmUp {
				x, y = append(x, one.seconds/3600), append(y, s.of(one))
			}
		}
		if len(x) < 10 {
			fmt.Fprintf(t, "%s\t–\t–\t–\t–\t–\t–\ttoo short\t\n", s.name)
			continue
		}
		slope, deviation := trend(x, y)
		level, tenth := median(y), len(y)/10
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%+.2f\t%.2f\t%+.1f\t%.1f\t%s\t\n", s.name, median(y[:tenth]), median(y[len(y)-tenth:]),
			slope, deviation, 100*slope/level, 100*deviation/level, judge(level, slope, deviation))
	}
	t.Flush()
	fmt.Fprintf(w, "\n%[1]s: the slope is within %[5]d × ± of 0, and %[5]d × ± is at most %.0[6]f %% of the level (the median);\n"+
		"%[2]s: it is within, but that is more, so the run was too short to tell; %[3]s, %[4]s: it is beyond.\n",
		flat, unclear, grows, falls, surely, 100*tellable)
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
