//go:build linux

package main

import (
	"errors"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth   = 26 * vg.Centimeter
	plotHeight  = 24 * vg.Centimeter
	legendWidth = 5.2 * vg.Centimeter
	resolution  = 144 // dots per inch
	mostPoints  = 400 // of a curve
)

// Colours that can be told apart, also by the colour-blind.
var (
	blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	grey   = color.RGBA{0x44, 0x44, 0x44, 0xff}

	actColors = map[string]color.Color{
		killed:     color.RGBA{0xcc, 0x33, 0x33, 0xff},
		terminated: color.RGBA{0x00, 0x9e, 0x73, 0xff},
		stopped:    color.RGBA{0x88, 0x66, 0xbb, 0xff},
	}
	dashes = []vg.Length{vg.Points(4), vg.Points(2.5)}
)

// curve is a line of a panel.
type curve struct {
	name   string
	color  color.Color
	dashed bool
	of     func(sample) float64
}

// panels are below each other, over the same time.
func panels(samples []sample) []struct {
	unit   string
	curves []curve
} {
	return []struct {
		unit   string
		curves []curve
	}{
		{"memory, MiB", []curve{
			{"coordinator, resident", blue, false, func(s sample) float64 { return s.coordinator.resident }},
			{"coordinator, heap in use", blue, true, func(s sample) float64 { return s.coordinator.heap }},
			{"worker, resident", orange, false, func(s sample) float64 { return s.worker.resident }},
			{"worker, heap in use", orange, true, func(s sample) float64 { return s.worker.heap }},
		}},
		{"descriptors, threads", []curve{
			{"coordinator, descriptors", blue, false, func(s sample) float64 { return s.coordinator.descriptors }},
			{"coordinator, threads", blue, true, func(s sample) float64 { return s.coordinator.threads }},
			{"worker, descriptors", orange, false, func(s sample) float64 { return s.worker.descriptors }},
			{"worker, threads", orange, true, func(s sample) float64 { return s.worker.threads }},
		}},
		{"goroutines", []curve{
			{"coordinator", blue, false, func(s sample) float64 { return s.coordinator.goroutines }},
			{"worker", orange, false, func(s sample) float64 { return s.worker.goroutines }},
		}},
		{"jobs a second", []curve{{"mean of 10 s", grey, false, rate(samples)}}},
	}
}

// rate returns how many jobs a second were done around the time of a sample.
func rate(samples []sample) func(sample) float64 {
	i := 0
	return func(s sample) float64 {
		for i < len(samples)-1 && samples[i].seconds < s.seconds-10 {
			i++
		}
		from := samples[i]
		if s.seconds <= from.seconds {
			return math.NaN()
		}
		return float64(s.Jobs-from.Jobs) / (s.seconds - from.seconds)
	}
}

// plotAll writes the plots of all panels to folder, as PNG and as SVG.
func plotAll(folder string, samples []sample, events []event) error {
	image := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(resolution))}
	return errors.Join(
		plotTo(filepath.Join(folder, "soak.png"), image, samples, events),
		plotTo(filepath.Join(folder, "soak.svg"), vgsvg.New(plotWidth, plotHeight), samples, events),
	)
}

func plotTo(name string, canvas vg.CanvasWriterTo, samples []sample, events []event) error {
	var plots [][]*plot.Plot
	var legends []plot.Legend
	all := panels(samples)
	end := samples[len(samples)-1].seconds
	for _, e := range events {
		end = max(end, e.seconds) // some come after the last sample
	}
	for i, panel := range all {
		p, legend := plot.New(), newLegend()
		p.Y.Label.Text = panel.unit
		p.Y.Min, p.X.Min, p.X.Max = 0, 0, end/60
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(ticks), plot.TickerFunc(ticks)
		p.Add(plotter.NewGrid(), marks(events))
		for _, c := range panel.curves {
			if err := c.add(p, &legend, samples); err != nil {
				return err
			}
		}
		p.Y.Max *= 1.05
		if i == len(all)-1 {
			p.X.Label.Text = "time, minutes"
			for _, act := range acts {
				legend.Add("a worker "+act, mark{act})
			}
		}
		plots, legends = append(plots, []*plot.Plot{p}), append(legends, legend)
	}
	whole := draw.Crop(draw.New(canvas), vg.Points(4), -vg.Points(4), vg.Points(4), -vg.Points(4))
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadY: vg.Points(10)}
	areas := plot.Align(plots, tiles, draw.Crop(whole, 0, -legendWidth, 0, 0))
	for i, row := range plots {
		area := areas[i][0]
		row[0].Draw(area)
		legends[i].Draw(draw.Canvas{Canvas: area.Canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: area.Max.X + vg.Points(10), Y: area.Min.Y}, Max: vg.Point{X: whole.Max.X, Y: area.Max.Y},
		}})
	}
	return write(name, canvas)
}

// ticks returns four to ten round numbers: gonum's own are three.
func ticks(low, high float64) (all []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, part := range []float64{2, 2.5, 2} {
		if (high-low)/step < 4 {
			step /= part
		}
	}
	for i := math.Ceil(low / step); i*step <= high; i++ {
		at := math.Round(i*step*1e6) / 1e6
		all = append(all, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'f', -1, 64)})
	}
	return all
}

func newLegend() plot.Legend {
	legend := plot.NewLegend()
	legend.Top, legend.Left, legend.Padding = true, true, vg.Points(3)
	legend.TextStyle.Font.Size = vg.Points(9)
	return legend
}

// add adds c to p, unless there is nothing of it.
func (c curve) add(p *plot.Plot, legend *plot.Legend, samples []sample) error {
	points := c.points(samples)
	if len(points) == 0 {
		return nil
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = c.color, vg.Points(1)
	if c.dashed {
		line.Dashes = dashes
	}
	p.Add(line)
	legend.Add(c.name, line)
	return nil
}

// points returns the medians of groups of samples, at the middle of each: with more of them
// a line that goes up and down would be a blot.
func (c curve) points(samples []sample) (points plotter.XYs) {
	for group := range slices.Chunk(samples, 1+len(samples)/mostPoints) {
		var values []float64
		for _, s := range group {
			if y := c.of(s); !math.IsNaN(y) {
				values = append(values, y)
			}
		}
		if len(values) > 0 {
			points = append(points, plotter.XY{X: group[len(group)/2].seconds / 60, Y: median(values)})
		}
	}
	return points
}

// marks show at the foot of a panel when something happened to a worker.
type marks []event

// Plot draws the marks.
func (m marks) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	for _, e := range m {
		at := x(e.seconds / 60)
		c.StrokeLine2(markStyle(e.act), at, c.Min.Y, at, c.Min.Y+vg.Points(8))
	}
}

// mark stands for an act in a legend.
type mark struct{ act string }

// Thumbnail draws the mark.
func (m mark) Thumbnail(c *draw.Canvas) {
	x := c.Center().X
	c.StrokeLine2(markStyle(m.act), x, c.Min.Y, x, c.Max.Y)
}

func markStyle(act string) draw.LineStyle {
	return draw.LineStyle{Color: actColors[act], Width: vg.Points(1.2)}
}

func write(name string, from vg.CanvasWriterTo) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := from.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}
