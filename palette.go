package gpurun

import (
	"fmt"
	"image/color"
	"math"
	"strings"

	"github.com/lucasb-eyer/go-colorful"
)

// Palette maps smooth iteration counts to colours. It is immutable, and so
// safe for concurrent use. The colours go round: they repeat each time that the
// count grows by a fixed factor, so that a picture looks alike at every depth.
type Palette struct {
	name   string
	colors []color.RGBA // one turn
	inside color.RGBA
}

// paletteStops are the colours of one turn, equally far apart; the last leads
// back to the first. Between them colours are interpolated in Oklab, which
// keeps the steps even to the eye: B. Ottosson, "A perceptual color space for
// image processing", 2020.
var paletteStops = []struct {
	name  string
	stops []string
}{
	{"classic", []string{"#0b1045", "#1f4fb4", "#8fd3f4", "#fffbe6", "#ffb733", "#b4400f", "#3a0d2e"}},
	{"ember", []string{"#12040c", "#5a0f22", "#c22f1d", "#f6902b", "#ffe9a3", "#e0703a", "#5c1530"}},
	{"lagoon", []string{"#031a26", "#06515c", "#12a08a", "#a8eec1", "#fdfdf0", "#5cc3c7", "#0d4a6b"}},
	{"slate", []string{"#0e0f12", "#4a5059", "#aeb6c0", "#ffffff", "#9aa2ad", "#3c4149"}},
}

const (
	paletteSize = 4096

	// octavesPerTurn is the number of doublings of the count in one turn.
	octavesPerTurn = 3.2
)

// Palettes returns the names of the palettes, the default first.
func Palettes() []string {
	names := make([]string, len(paletteStops))
	for i, p := range paletteStops {
		names[i] = p.name
	}
	return names
}

// NewPalette returns the palette of that name. Its error matches ErrPalette.
func NewPalette(name string) (*Palette, error) {
	for _, p := range paletteStops {
		if p.name == name {
			return newPalette(name, p.stops), nil
		}
	}
	return nil, fmt.Errorf("%w %q: the palettes are %s", ErrPalette, name, strings.Join(Palettes(), ", "))
}

func newPalette(name string, hex []string) *Palette {
	stops := make([]colorful.Color, len(hex))
	for i, h := range hex {
		c, err := colorful.Hex(h)
		if err != nil {
			panic("gpurun: palette " + name + ": " + err.Error())
		}
		stops[i] = c
	}
	p := &Palette{name: name, colors: make([]color.RGBA, paletteSize), inside: color.RGBA{A: 255}}
	for i := range p.colors {
		at := float64(i) / paletteSize * float64(len(stops))
		k := int(at)
		c := stops[k].BlendOkLab(stops[(k+1)%len(stops)], at-float64(k)).Clamped()
		p.colors[i].R, p.colors[i].G, p.colors[i].B = c.RGB255()
		p.colors[i].A = 255
	}
	return p
}

// Name returns the name that NewPalette knows p by.
func (p *Palette) Name() string { return p.name }

// Color returns the colour for a smooth count mu ≥ 0.
func (p *Palette) Color(mu float64) color.RGBA {
	if !(mu > 0) {
		mu = 0
	}
	at := math.Log(1+mu) * (paletteSize / octavesPerTurn / math.Ln2)
	return p.colors[uint64(min(at, math.MaxInt64))%paletteSize]
}

// Inside returns the colour of pixels that do not escape.
func (p *Palette) Inside() color.RGBA { return p.inside }
