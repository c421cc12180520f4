// Schedule measures how well the queue shares a job out: the makespan divided by
// what it would be if all devices were busy from first to last.
//
// The devices compute nothing: they sleep for as long as a device of their rate
// would take for the tile, by the true iteration counts of the image. The view
// is skewed: a symmetric one would hide bad shares.
//
//	go run ./bench/schedule
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// view covers y from −1.3 to 0.35.
var view = gpurun.View{Center: complex(-0.5, -0.475), Span: 3, Width: 1200, Height: 660, MaxIter: 1000, EscapeRadius: 2, CountsOnly: true}

var chunkCounts = []int{2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}

func main() {
	seconds := flag.Float64("seconds", 2, "how long a perfect schedule of the job takes")
	rounds := flag.Int("rounds", 5, "runs of each; the median counts")
	flag.Parse()
	if err := bench(*seconds, *rounds); err != nil {
		log.Fatal(err)
	}
}

func bench(seconds float64, rounds int) error {
	image, err := pretend.Compute(view)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "devices\tauto\tbest N\t")
	for _, n := range chunkCounts {
		fmt.Fprintf(t, "N=%d\t", n)
	}
	fmt.Fprintf(t, "static blocks\tround robin of 64\t\n")
	for _, rates := range [][]float64{{1, 1}, {1, 4}, {1, 1, 1, 1, 1, 1, 1, 1}} {
		if err := row(t, image, rates, seconds, rounds); err != nil {
			return err
		}
	}
	return t.Flush()
}

// row measures one set of devices.
func row(t *tabwriter.Writer, image *pretend.Image, rates []float64, seconds float64, rounds int) error {
	counts := append([]int{0}, chunkCounts...)
	ratios := make([][]float64, len(counts))
	for range rounds {
		for i, n := range counts {
			r, err := run(image, rates, seconds, n)
			if err != nil {
				return err
			}
			ratios[i] = append(ratios[i], r)
		}
	}
	medians := make([]float64, len(counts))
	for i, r := range ratios {
		slices.Sort(r)
		medians[i] = r[len(r)/2]
	}
	best := slices.Min(medians[1:])
	fmt.Fprintf(t, "%v\t%.3f\t%.3f\t", rates, medians[0], best)
	for _, m := range medians[1:] {
		fmt.Fprintf(t, "%.3f\t", m)
	}
	fmt.Fprintf(t, "%.3f\t%.3f\t\n", static(image, rates, len(rates)), static(image, rates, 64))
	return nil
}

// run returns makespan ÷ ideal for n equal tiles, or for automatic ones if n is
// 0. Ideal is what the devices' rates allow.
func run(image *pretend.Image, rates []float64, seconds float64, n int) (float64, error) {
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	devices := make([]dist.Device, len(rates))
	for i, r := range rates {
		devices[i] = &pretend.Sleeper{Name: fmt.Sprint(i), Image: image, Rate: image.Total / seconds * r / sum}
	}
	report, err := dist.Run(context.Background(), image.Job, devices, nowhere{}, dist.Options{Cost: image.Sampled, Tiles: n})
	return report.Makespan.Seconds() / seconds, err
}

// static returns the same for n equal tiles that are dealt out beforehand.
func static(image *pretend.Image, rates []float64, n int) float64 {
	sum, times := 0.0, make([]float64, len(rates))
	for i, t := range tiler.Bands(image.Job.Bounds(), (image.Job.Bounds().H+n-1)/n*image.Job.Bounds().W) {
		times[i%len(rates)] += image.Exact.Cost(t) / rates[i%len(rates)]
	}
	for _, r := range rates {
		sum += r
	}
	return slices.Max(times) / (image.Total / sum)
}

// nowhere takes results and forgets them.
type nowhere struct{}

func (nowhere) Put(kernels.Tile, *kernels.Result) error { return nil }
