package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/views"
)

// benchMandelFlags are the flags of the verb bench mandel.
type benchMandelFlags struct {
	benchFlags
	views []string
}

func benchMandelCommand() *cobra.Command {
	var f benchMandelFlags
	cmd := &cobra.Command{
		Use:   "mandel",
		Short: "Measure how fast each device computes images of the Mandelbrot set",
		Long: `Compute images of the Mandelbrot set on each device by itself, and print a table
of Giter/s and Mpixel/s: one row a view and type, two columns a device. An iteration
is a step that the definition of the image takes: a pixel that escapes takes as many
as its count, one that never does takes all, and one that the test for the main
cardioid and the period-2 disc settles takes none. A number is the median of images
that are repeated for at least --time, after one that does not count. What goes to a
device and comes back is in the time of each.

The views are the whole set (full), three that mix short orbits with long ones
(seahorse, valley, elephant), two of long orbits alone, which soon repeat themselves
(inside) or do not (spiral), and one of short ones alone (outside), with the
magnitudes that smooth colours need.

Above the table is what the CPU can do at best. A step takes four operations of the
units for fused multiply-adds, so at the FMA peak there is a step for every eight
floating-point operations. Next to the CPU's column is how much of that bound it
reaches: above 100 % where orbits repeat themselves, of which it computes only the
beginning.`,
		Example: `  gpurun bench mandel
  gpurun bench mandel --view full,seahorse --dtype f32 --device cpu,ocl:0.0
  gpurun bench mandel --time 2s --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringSliceVar(&f.views, "view", views.Names(), "the views to compute, separated by commas")
	f.benchFlags.add(cmd, "image")
	fixed(cmd, "view", views.Names()...)
	return cmd
}

func (f *benchMandelFlags) run(cmd *cobra.Command) error {
	chosen, err := views.Named(f.views)
	switch {
	case err != nil:
		return usagef("%w", err)
	case len(chosen) == 0:
		return usagef("no view: name some with --view, or leave that out")
	}
	if err := f.check(); err != nil {
		return err
	}
	table := &mandelTable{flags: f, views: chosen}
	return f.benchFlags.run(cmd, table, &table.benchMachine, len(chosen))
}

// flopsPerStep are the operations that the FMA units could have done in the time
// of one step of an orbit, a fused multiply-add being two: a step is three of these
// and an addition, which takes as long.
const flopsPerStep = 8

// mandelTable is what bench mandel measures.
type mandelTable struct {
	benchMachine
	Images []benchImage `json:"images"`

	flags *benchMandelFlags
	views []views.View
}

// benchImage is one image on all devices.
type benchImage struct {
	View    string      `json:"view"`
	Width   int         `json:"width"`
	Height  int         `json:"height"`
	MaxIter int         `json:"max_iter"`
	DType   string      `json:"dtype"`
	Rates   []imageRate `json:"rates"` // of the devices that have the type
}

// imageRate is how fast a device computes an image.
type imageRate struct {
	Device  string  `json:"device"`
	Rate    float64 `json:"rate"`               // steps of the definition a second, the median
	Pixels  float64 `json:"pixels"`             // a second
	OfBound float64 `json:"of_bound,omitempty"` // of the steps that the FMA peak allows, for the CPU
}

func (t *mandelTable) measure(ctx context.Context, devices []benched, index int, dtype string) error {
	v := t.views[index]
	precision, err := gpurun.ParsePrecision(dtype)
	if err != nil {
		return err
	}
	view := gpurun.View{
		Center: complex(v.Re, v.Im), Span: v.Span, Width: v.Width, Height: v.Height,
		MaxIter: v.MaxIter, EscapeRadius: views.EscapeRadius, Precision: precision,
	}
	result := benchImage{View: v.Name, Width: v.Width, Height: v.Height, MaxIter: v.MaxIter, DType: dtype, Rates: []imageRate{}}
	for _, d := range devices {
		if !d.has(dtype) {
			continue
		}
		seconds, err := repeat(t.flags.time, func() error {
			_, err := d.engine.Mandelbrot(ctx, view)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s in %s on %s: %w", v.Name, dtype, d.ID, err)
		}
		rate := imageRate{
			Device: d.ID,
			Rate:   float64(d.engine.Report().Iterations) / seconds,
			Pixels: float64(v.Width) * float64(v.Height) / seconds,
		}
		if peak := t.CPU.Peak[dtype]; d.Backend == "cpu" && peak > 0 {
			rate.OfBound = rate.Rate / (peak / flopsPerStep)
		}
		result.Rates = append(result.Rates, rate)
	}
	t.Images = append(t.Images, result)
	return nil
}

func (t *mandelTable) print(to io.Writer) error {
	t.benchMachine.print(to, "Images, in Giter/s and Mpixel/s")
	w := newBenchWriter(to)
	fmt.Fprint(w, "view\ttype\t")
	for _, d := range t.Devices {
		fmt.Fprintf(w, "%s Giter/s\t", d.ID)
		if d.Backend == "cpu" {
			fmt.Fprint(w, "of bound\t")
		}
		fmt.Fprint(w, "Mpixel/s\t")
	}
	fmt.Fprintln(w)
	for _, image := range t.Images {
		fmt.Fprintf(w, "%s\t%s\t", image.View, image.DType)
		for _, d := range t.Devices {
			rate := image.rate(d.ID)
			fmt.Fprintf(w, "%s\t", orDash("%.2f", rate.Rate/1e9))
			if d.Backend == "cpu" {
				fmt.Fprintf(w, "%s\t", orDash("%.0f %%", 100*rate.OfBound))
			}
			fmt.Fprintf(w, "%s\t", orDash("%.1f", rate.Pixels/1e6))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// rate returns the rates of a device, or zeros if it does not have the type.
func (m *benchImage) rate(device string) imageRate {
	for _, r := range m.Rates {
		if r.Device == device {
			return r
		}
	}
	return imageRate{}
}
