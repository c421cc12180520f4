package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/output"
)

// mandelFlags are the flags of the verb mandel.
type mandelFlags struct {
	jobFlags
	hostFlags
	center    point
	span      float64
	size      pixels
	maxIter   int
	radius    float64
	precision string
	julia     point
	palette   string
	output    string
}

func mandelCommand() *cobra.Command {
	def := gpurun.DefaultView()
	f := mandelFlags{size: pixels{def.Width, def.Height}}
	cmd := &cobra.Command{
		Use:   "mandel",
		Short: "Compute an image of the Mandelbrot set or of a Julia set",
		Long: `Compute an image of the Mandelbrot set or of a Julia set.

The output is a picture (.png, or .tif with smaller copies of itself, for viewers
of very large ones), or the escape counts as a NumPy array of uint32 with one row
a line of pixels (.npy), 0 where a pixel never escaped. The counts are the same to
the last bit on every device.

The image is computed and written in bands of rows, and need not fit into memory.`,
		Example: `  gpurun mandel -o mandel.png
  gpurun mandel --center -0.7463,0.1102 --span 0.005 --max-iter 5000 --palette ember -o valley.png
  gpurun mandel --julia -0.8,0.156 --device all -o julia.png
  gpurun mandel --size 60000x40000 --max-iter 5000 -o large.tif
  gpurun mandel --precision f64 -o counts.npy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.jobFlags.add(cmd)
	f.hostFlags.add(cmd)
	flags := cmd.Flags()
	flags.Var(&f.center, "center", "the middle of the image (default -0.5,0; 0,0 with --julia)")
	flags.Float64Var(&f.span, "span", def.Span, "the width of the image in the complex plane")
	flags.Var(&f.size, "size", "the size of the image in pixels")
	flags.IntVar(&f.maxIter, "max-iter", def.MaxIter, "the steps after which a pixel counts as inside")
	flags.Float64Var(&f.radius, "escape-radius", 0, "the |z| beyond which a pixel has escaped, from 2 (default 256 for pictures, 2 for .npy)")
	flags.StringVar(&f.precision, "precision", "auto", "auto, f32 or f64")
	flags.Var(&f.julia, "julia", "compute the Julia set of this c")
	flags.StringVar(&f.palette, "palette", gpurun.Palettes()[0], "the colours: "+strings.Join(gpurun.Palettes(), ", "))
	flags.StringVarP(&f.output, "output", "o", "mandel.png", "the file to write, .png, .tif or .npy, or - for a PNG on stdout")
	fixed(cmd, "precision", "auto", "f32", "f64")
	fixed(cmd, "palette", gpurun.Palettes()...)
	if err := cmd.MarkFlagFilename("output", "png", "tif", "tiff", "npy"); err != nil {
		panic(err)
	}
	return cmd
}

// view returns what the flags ask for.
func (f *mandelFlags) view(cmd *cobra.Command, counts bool) (gpurun.View, error) {
	precision, err := gpurun.ParsePrecision(f.precision)
	if err != nil {
		return gpurun.View{}, err
	}
	v := gpurun.View{
		Center: f.center.value, Span: f.span, Width: f.size.width, Height: f.size.height,
		MaxIter: f.maxIter, EscapeRadius: f.radius, Precision: precision, CountsOnly: counts,
	}
	switch {
	case f.julia.given:
		v.Julia = &f.julia.value
	case !f.center.given:
		v.Center = gpurun.DefaultView().Center
	}
	// The library takes 0 for the default; typed here it is a mistake.
	switch {
	case f.maxIter == 0:
		return v, usagef("max-iter 0 is not in 1 … 2³¹−1")
	case !cmd.Flags().Changed("escape-radius"):
		if counts {
			v.EscapeRadius = 2
		}
	case f.radius == 0:
		return v, usagef("escape-radius 0 is not in 2 … 1e9")
	}
	return v, v.Validate()
}

func (f *mandelFlags) run(cmd *cobra.Command) error {
	ctx, stderr := cmd.Context(), cmd.ErrOrStderr()
	start := time.Now()
	format, err := f.format()
	if err != nil {
		return err
	}
	view, err := f.view(cmd, format == npyFormat)
	if err != nil {
		return err
	}
	palette, err := gpurun.NewPalette(f.palette)
	if err != nil {
		return err
	}
	// Devices come before the output: a driver that is being loaded may, for a
	// moment, have interrupts kill the process, and nothing must be left then.
	bar := f.bar(stderr)
	config := f.config(stderr, bar)
	f.hostFlags.set(config)
	if served, err := f.launched(cmd, config, bar); served || err != nil {
		return err
	}
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return err
	}
	bar.watch(eng.Live)
	defer eng.Close()
	defer bar.finish()
	out, err := output.Create(f.output)
	if err != nil {
		return err
	}
	defer out.Discard()
	trace, err := f.createTrace()
	if err != nil {
		return err
	}
	defer trace.Discard()
	if !f.silent() {
		noteMissingHosts(cmd, eng)
	}
	if !view.Resolvable() && !f.silent() {
		fmt.Fprintf(stderr, "gpurun: note: at span %g the pixels are closer together than %v can tell apart\n", view.Span, view.Resolve())
	}

	err = writeImage(ctx, eng, view, format, palette, out)
	bar.finish()
	if err != nil {
		f.noteState(cmd, start)
		return err
	}
	report := eng.Report()
	if err := f.writeTrace(trace, report); err != nil {
		return err
	}
	if f.state != "" {
		// Somebody who waited for the folder has it: it is theirs to finish.
		if err := gpurun.FinishState(f.state); err != nil && !errors.Is(err, gpurun.ErrStateBusy) {
			return err
		}
	}
	report.Seconds = time.Since(start).Seconds()
	return f.tell(cmd, view, report, out.Name())
}

// tell prints the report, and the last line of a run.
func (f *mandelFlags) tell(cmd *cobra.Command, v gpurun.View, report *gpurun.Report, name string) error {
	if !f.silent() {
		noteSetAside(cmd, report)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d×%d, %v, %d iterations at most, in %.2f s%s%s\n",
			name, v.Width, v.Height, v.Resolve(), v.MaxIter, report.Seconds, shares(report), f.resumed(report))
	}
	if !f.json {
		return nil
	}
	return printJSON(cmd, report)
}

// noteSetAside says of each device that was set aside why it was.
func noteSetAside(cmd *cobra.Command, report *gpurun.Report) {
	for _, d := range report.Devices {
		if d.SetAside != "" {
			name := deviceName(d)
			fmt.Fprintf(cmd.ErrOrStderr(), "gpurun: note: device %s was set aside: %s\n", name, strings.TrimPrefix(d.SetAside, name+": "))
		}
	}
}

// shares says by which device what part of the work was done, or nothing if none was.
func shares(report *gpurun.Report) string {
	var parts []string
	for _, d := range report.Devices {
		if d.Tiles == 0 && d.SetAside != "" {
			continue // said already
		}
		parts = append(parts, fmt.Sprintf("%s %.0f %%", deviceName(d), 100*d.Share))
	}
	if len(parts) == 0 {
		return ""
	}
	return " by " + strings.Join(parts, ", ")
}

// deviceName returns a device's id, with its host before it.
func deviceName(d gpurun.DeviceReport) string {
	if d.Host == "" {
		return d.ID
	}
	return d.Host + "/" + d.ID
}
