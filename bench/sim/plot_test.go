package sim

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	plotWidth  = 26 * vg.Centimeter
	plotHeight = 19 * vg.Centimeter
	resolution = 110 // dots per inch
)

// Colours that can be told apart, also by the colour-blind; shapes and dashes differ too.
var (
	blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	green  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	purple = color.RGBA{0x88, 0x66, 0xbb, 0xff}
	grey   = color.RGBA{0x66, 0x66, 0x66, 0xff}
)

// curve is a line of a panel: the rows of a series, of jobs whose name begins with of.
type curve struct {
	name, series, of string
	color            color.Color
	shape            draw.GlyphDrawer
	x, y             func(r row) float64
}

func column(name string) func(row) float64 { return func(r row) float64 { return r.value(name) } }

// first returns the number with which the row's note begins.
func first(r row) float64 {
	number, _, _ := strings.Cut(r.note, " ")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// plotAll writes scale.png to folder.
func plotAll(folder string, rows []row) error {
	ratio, devices, second := column("makespan ÷ ideal"), column("devices"), column("tiles a second")
	images := []curve{
		{"image of the whole set, none lost", "weak", "lopsided", blue, draw.CircleGlyph{}, devices, ratio},
		{"the same, devices fail once an hour", "churn", "lopsided", orange, draw.TriangleGlyph{}, devices, ratio},
		{"image of a valley, likewise", "churn", "valley", green, draw.SquareGlyph{}, devices, ratio},
		{"product, none lost", "weak", "product", purple, draw.CrossGlyph{}, devices, ratio},
	}
	rates := []curve{
		{"in the mean", "weak", "lopsided", blue, draw.CircleGlyph{}, devices, second},
		{"in the busiest second", "weak", "lopsided", orange, draw.TriangleGlyph{}, devices, column("at most")},
	}
	queue := []curve{{"", "tile", "", blue, draw.CircleGlyph{}, first, ratio}}
	line := []curve{{"", "line", "", blue, draw.CircleGlyph{}, first, ratio}}

	a := panel("makespan ÷ ideal", "devices, ten on a host", rows, images, true, false)
	limit(a, wanted, "1.05")
	a.Y.Max = 1.08
	b := panel("tiles a second", "devices, ten on a host", rows, rates, true, true)
	limit(b, 1e6/microseconds, fmt.Sprintf("all that the queue can do at %d µs a tile", microseconds))
	b.Y.Min, b.Y.Max = 10, 3e6
	c := panel("makespan ÷ ideal", "time of the queue for a tile, µs, with 1000 devices", rows, queue, true, false)
	limit(c, wanted, "1.05")
	d := panel("makespan ÷ ideal", "bytes of all results ÷ what the line carries in the ideal time", rows, line, false, false)
	limit(d, wanted, "1.05")
	d.X.Min = 0
	for _, p := range []*plot.Plot{a, c, d} {
		p.Y.Min = 1
	}
	plots := [][]*plot.Plot{{a, b}, {c, d}}

	image := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(resolution))}
	whole := draw.Crop(draw.New(image), vg.Points(6), -vg.Points(10), vg.Points(6), -vg.Points(6))
	areas := plot.Align(plots, draw.Tiles{Rows: 2, Cols: 2, PadX: vg.Points(22), PadY: vg.Points(20)}, whole)
	for i := range plots {
		for j, p := range plots[i] {
			p.Draw(areas[i][j])
		}
	}
	f, err := os.Create(filepath.Join(folder, "scale.png"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := image.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// wanted is the makespan ÷ ideal that is to be had with 10,000 devices.
const wanted = 1.05

// microseconds is what a tile takes of the queue in the runs of all devices.
const microseconds = 12

// panel returns a plot of the curves, on logarithmic axes if so wanted.
func panel(y, x string, rows []row, curves []curve, logX, logY bool) *plot.Plot {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.X.Label.Padding, p.Y.Label.Padding = vg.Points(4), vg.Points(4)
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(ticks), plot.TickerFunc(ticks)
	if logX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	}
	if logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size, p.Legend.Padding, p.Legend.XOffs = vg.Points(9), vg.Points(2), vg.Points(6)
	p.Add(plotter.NewGrid())
	for i, c := range curves {
		var points plotter.XYs
		for _, r := range rows {
			if r.series == c.series && strings.HasPrefix(r.note, c.of) {
				points = append(points, plotter.XY{X: c.x(r), Y: c.y(r)})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			continue // of numbers that are none
		}
		line.Color, line.Width = c.color, vg.Points(1.2)
		line.Dashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(2)}, {vg.Points(2), vg.Points(2)}, {vg.Points(8), vg.Points(2), vg.Points(2), vg.Points(2)}}[i]
		dots.Color, dots.Shape, dots.Radius = c.color, c.shape, vg.Points(3.2)
		p.Add(line, dots)
		if c.name != "" {
			p.Legend.Add(c.name, line, dots)
		}
	}
	return p
}

// limit adds a level line.
func limit(p *plot.Plot, at float64, name string) {
	line := plotter.NewFunction(func(float64) float64 { return at })
	line.Color, line.Dashes, line.Width = grey, []vg.Length{vg.Points(1), vg.Points(2)}, vg.Points(1.2)
	p.Add(line)
	p.Y.Max = max(p.Y.Max, at*1.02)
	p.Legend.Add(name, line)
}

// ticks returns four to ten round numbers: gonum's own are three, and have too few digits.
func ticks(low, high float64) (all []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, part := range []float64{2, 2.5, 2} {
		if (high-low)/step < 4 {
			step /= part
		}
	}
	for i := math.Ceil(low/step - 1e-9); i*step <= high*(1+1e-9); i++ {
		at := math.Round(i*step*1e6)/1e6 + 0 // which is never -0
		all = append(all, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'f', -1, 64)})
	}
	return all
}

// decades are the ticks of a logarithmic axis: 1, 2 and 5 times each power of ten, of which
// the first has a label, and all have where there are few.
func decades(low, high float64) (all []plot.Tick) {
	few := high < 200*low
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if at := power * digit; at >= low*0.999 && at <= high*1.001 {
				tick := plot.Tick{Value: at}
				if digit == 1 || few {
					tick.Label = strconv.FormatFloat(at, 'f', -1, 64)
				}
				all = append(all, tick)
			}
		}
	}
	return all
}
