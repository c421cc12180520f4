package gpurun

import (
	"image/color"
	"math"
	"sync"
)

// color returns the colour of the pixel with index i: p.Color(f.Smooth(i)), or
// p.Inside() where it never escaped.
//
// There are a few thousand colours, and which of them it is takes three logarithms, which
// take longer than the pixel itself. f.place is exact enough to tell, but for one pixel in
// some hundreds that is close to where the next colour begins; that one is computed by the
// definition, so that no colour differs.
func (f *Field) color(p *Palette, i int) color.RGBA {
	n := f.Counts[i]
	if n == 0 {
		return p.Inside()
	}
	if f.Magnitudes != nil {
		if at, ok := f.place.of(n, f.Magnitudes[i]); ok {
			return p.colors[at%paletteSize]
		}
	}
	return p.Color(f.Smooth(i))
}

// palettePlace tells which colour of the palette a pixel has, counted from that of μ = 0
// without going round: with s = log₂ |z|² it is ⌊1280·log₂(1+μ)⌋, where
// 1+μ = n + 2 − log₂ s + log₂ log₂ R².
type palettePlace struct {
	table   *doubleLogTable
	log2log float64 // log₂ log₂ R²
	margin  float64 // how far what is rounded down may be off
}

func newPalettePlace(radius float64) palettePlace {
	// Between two entries of the table log₂ log₂ |z|² differs from a straight line by an
	// eighth of their distance squared times the second derivative at most. They are at
	// most h·|z|² apart, and the derivative times |z|⁴ falls from the entry below R² on. The
	// derivative of log₂(1+μ) is at most 1/ln 2. The rest is approximateLog2 and rounding.
	const h = 1.0 / (1 << doubleLogBits)
	logR2 := 2 * math.Log(radius)
	least := logR2 - 2*h
	table := h * h / 8 * (1/least + 1/(least*least)) / math.Ln2
	return palettePlace{
		table:   doubleLogs(),
		log2log: math.Log2(logR2 / math.Ln2),
		margin:  perOctave * (table/math.Ln2 + 1e-7),
	}
}

// perOctave is how many colours there are for one doubling of 1+μ.
const perOctave = paletteSize / octavesPerTurn

// of returns the place of a pixel that escaped at step n with that magnitude, or false if it
// cannot tell.
func (p *palettePlace) of(n uint32, magnitude float32) (at uint32, ok bool) {
	bits := math.Float32bits(magnitude)
	// What is below the least magnitude, negative, infinite or no number is not in the table.
	entry := bits>>doubleLogShift - doubleLogFirst
	if entry >= uint32(len(p.table)) {
		return 0, false
	}
	e := &p.table[entry]
	mu1 := float64(n) + 2 + p.log2log - (e.value + e.slope*float64(bits%(1<<doubleLogShift)))
	if mu1 < 1.001 {
		return 0, false
	}
	place := approximateLog2(mu1) * perOctave
	at = uint32(place)
	rest := place - float64(at)
	return at, rest > p.margin && rest < 1-p.margin
}

const (
	// doubleLogBits are the bits of the mantissa that a float32 is looked up by; the others are
	// interpolated.
	doubleLogBits  = 7
	doubleLogShift = 23 - doubleLogBits

	// doubleLogLeast is the least exponent in the table: pixels escape with |z|² > R² ≥ 4.
	doubleLogLeast = 2
	doubleLogFirst = (127 + doubleLogLeast) << doubleLogBits
)

// doubleLogTable holds log₂ log₂ of every float32 from 4 on that has a mantissa of so few
// bits, and how much it grows for each step in the bits below.
type doubleLogTable [(128 - doubleLogLeast) << doubleLogBits]struct{ value, slope float64 }

var doubleLogs = sync.OnceValue(func() *doubleLogTable {
	at := func(i int) float64 {
		mantissa := 1 + float64(i%(1<<doubleLogBits))/(1<<doubleLogBits)
		return math.Log2(math.Log2(math.Ldexp(mantissa, doubleLogLeast+i>>doubleLogBits)))
	}
	table := new(doubleLogTable)
	for i := range table {
		table[i].value = at(i)
		table[i].slope = (at(i+1) - at(i)) / (1 << doubleLogShift)
	}
	return table
})

const (
	log2TableBits = 8

	mantissaBits = 52
	exponentBias = 1023
)

// log2Table holds, for the numbers from 1 to 2 in equal steps, the inverse and the
// logarithm of the middle of each step.
var log2Table = func() (table [1 << log2TableBits]struct{ inverse, log2 float64 }) {
	for i := range table {
		middle := 1 + (float64(i)+0.5)/float64(len(table))
		table[i].inverse, table[i].log2 = 1/middle, math.Log2(middle)
	}
	return table
}()

// approximateLog2 returns log₂ x with an error below 10⁻⁸, for a normal x > 0: that of a
// number near x from a table, and two terms of the logarithm's series for what is
// between them, which is less than 2⁻⁹.
func approximateLog2(x float64) float64 {
	bits := math.Float64bits(x)
	exponent := int(bits>>mantissaBits) - exponentBias
	e := &log2Table[bits>>(mantissaBits-log2TableBits)%(1<<log2TableBits)]
	mantissa := math.Float64frombits(bits%(1<<mantissaBits) | exponentBias<<mantissaBits)
	r := mantissa*e.inverse - 1
	return float64(exponent) + e.log2 + r*(math.Log2E-r*(math.Log2E/2))
}
