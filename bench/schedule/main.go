// Schedule measures how well the queue shares a job out: the makespan divided by
// what it would be if all devices were busy from first to last.
//
// The devices compute nothing: they sleep for as long as a device of their rate
// would take for the tile, by the true iteration counts of the image. So many of
// them fit on any machine, and do not disturb each other. The view is skewed: a
// symmetric one would hide bad shares.
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
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// view covers y from −1.3 to 0.35.
var view = gpurun.View{Center: complex(-0.5, -0.475), Span: 3, Width: 1200, Height: 660, MaxIter: 1000, EscapeRadius: 2, CountsOnly: true}

// pixelCost is what a pixel costs besides its iterations, in iterations.
const pixelCost = 8

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
	profile, err := newProfile()
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
		if err := row(t, profile, rates, seconds, rounds); err != nil {
			return err
		}
	}
	return t.Flush()
}

// row measures one set of devices.
func row(t *tabwriter.Writer, p *profile, rates []float64, seconds float64, rounds int) error {
	counts := append([]int{0}, chunkCounts...)
	ratios := make([][]float64, len(counts))
	for range rounds {
		for i, n := range counts {
			r, err := p.run(rates, seconds, n)
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
	fmt.Fprintf(t, "%.3f\t%.3f\t\n", p.static(rates, len(rates)), p.static(rates, 64))
	return nil
}

// profile is what each part of the image costs.
type profile struct {
	job     *kernels.Mandelbrot
	exact   *tiler.CostMap // of every pixel
	sampled *tiler.CostMap // of one pixel in about a thousand, as the engine has it
	total   float64
}

func newProfile() (*profile, error) {
	eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	field, err := eng.Mandelbrot(context.Background(), view)
	if err != nil {
		return nil, err
	}
	w, h := view.Width, view.Height
	p := &profile{job: &kernels.Mandelbrot{T: kernels.Float64, MaxIter: view.MaxIter, R2: 4}}
	p.job.CX, p.job.CY = kernels.Axes(p.job.T, real(view.Center), imag(view.Center), view.Span, w, h)
	cost := func(i, j int) float64 {
		switch n := field.Counts[j*w+i]; {
		case n > 0:
			return float64(n)
		case p.job.Interior(i, j):
			return 0
		}
		return float64(view.MaxIter)
	}
	grid := func(cols, rows int) *tiler.CostMap {
		costs := make([]float64, 0, cols*rows)
		for j := range rows {
			for i := range cols {
				costs = append(costs, cost((2*i+1)*w/(2*cols), (2*j+1)*h/(2*rows)))
			}
		}
		return tiler.NewCostMap(w, h, cols, rows, costs, pixelCost)
	}
	p.exact, p.sampled = grid(w, h), grid(37, 21)
	p.total = p.exact.Cost(p.job.Bounds())
	return p, nil
}

// run returns makespan ÷ ideal for n equal tiles, or for automatic ones if n is
// 0. Ideal is what the devices' rates allow.
func (p *profile) run(rates []float64, seconds float64, n int) (float64, error) {
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	devices := make([]dist.Device, len(rates))
	for i, r := range rates {
		devices[i] = &sleeper{id: fmt.Sprint(i), profile: p, rate: p.total / seconds * r / sum}
	}
	report, err := dist.Run(context.Background(), p.job, devices, nowhere{}, dist.Options{Cost: p.sampled, Tiles: n})
	return report.Makespan.Seconds() / seconds, err
}

// static returns the same for n equal tiles that are dealt out beforehand.
func (p *profile) static(rates []float64, n int) float64 {
	sum, times := 0.0, make([]float64, len(rates))
	for i, t := range tiler.Bands(p.job.Bounds(), (p.job.Bounds().H+n-1)/n*p.job.Bounds().W) {
		times[i%len(rates)] += p.exact.Cost(t) / rates[i%len(rates)]
	}
	for _, r := range rates {
		sum += r
	}
	return slices.Max(times) / (p.total / sum)
}

// sleeper is a device that takes its time and computes nothing. What a timer
// sleeps too long it takes off the next tile: that is the timer's fault, and not
// the queue's.
type sleeper struct {
	id      string
	profile *profile
	rate    float64 // cost a second
	late    time.Duration
}

func (s *sleeper) ID() string   { return s.id }
func (s *sleeper) Slots() int   { return 1 }
func (s *sleeper) Close() error { return nil }

func (s *sleeper) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return s, nil }

func (s *sleeper) Run(ctx context.Context, t kernels.Tile, _ *kernels.Result) error {
	due := time.Now().Add(time.Duration(s.profile.exact.Cost(t)/s.rate*1e9) - s.late)
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		s.late = time.Since(due)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nowhere takes results and forgets them.
type nowhere struct{}

func (nowhere) Put(kernels.Tile, *kernels.Result) error { return nil }
