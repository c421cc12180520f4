package sim

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/gpurun/gpurun"
)

var (
	scale  = flag.String("scale", "10,40", "TestScale: numbers of devices, ten of them on a host")
	folder = flag.String("folder", "", "TestScale: where to write the table; TestPlots: where it is, and where to plot it")
	seed   = flag.Uint64("seed", 1, "of what is drawn")
	length = flag.Float64("seconds", 20, "TestScale: how long a perfect schedule takes, in seconds of the clock that is pretended")
	tile   = flag.Duration("tile", 12*time.Microsecond, "TestScale: what a tile takes of the queue, with its mutex held")
)

// The views of the jobs: the whole set, lopsided, and a valley of it.
var (
	lopsided = gpurun.View{Center: complex(-0.5, -0.475), Span: 3, MaxIter: 1000}
	valley   = gpurun.View{Center: complex(-0.7463, 0.1102), Span: 0.005, MaxIter: 5000}
)

// row is one run in the table: the values of columns.
type row struct {
	series, note string
	values       []float64
}

// columns are what is told of a run.
var columns = []struct {
	name    string
	decimal int
	of      func(o outcome) float64
}{
	{"devices", 0, func(o outcome) float64 { return float64(o.devices) }},
	{"hosts", 0, func(o outcome) float64 { return float64(o.hosts) }},
	{"ideal, s", 2, func(o outcome) float64 { return o.ideal.Seconds() }},
	{"makespan ÷ ideal", 4, outcome.ratio},
	{"the report's", 4, func(o outcome) float64 { return o.overReport }},
	{"tiles", 0, func(o outcome) float64 { return float64(o.tiles) }},
	{"tiles a second", 0, func(o outcome) float64 { return float64(o.tiles) / o.makespan.Seconds() }},
	{"at most", 0, func(o outcome) float64 { return float64(o.peak) }},
	{"devices lost", 0, func(o outcome) float64 { return float64(o.gone) }},
	{"joined", 0, func(o outcome) float64 { return float64(o.joined) }},
	{"leases lost", 0, func(o outcome) float64 { return float64(o.lost) }},
	{"duplicates", 0, func(o outcome) float64 { return float64(o.duplicates) }},
	{"wasted, %", 2, func(o outcome) float64 { return 100 * o.wasted }},
	{"results, MB/s", 1, func(o outcome) float64 { return float64(o.taken) / o.makespan.Seconds() / 1e6 }},
	{"operands, MB/s", 1, func(o outcome) float64 { return float64(o.sent) / o.makespan.Seconds() / 1e6 }},
}

// value returns the value of a column.
func (r row) value(name string) float64 {
	for i, c := range columns {
		if c.name == name {
			return r.values[i]
		}
	}
	panic("sim: no column " + name)
}

// table returns the rows as tab-separated values, below their names.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("series\tof")
	for _, c := range columns {
		b.WriteString("\t" + c.name)
	}
	for _, r := range rows {
		b.WriteString("\n" + r.series + "\t" + r.note)
		for i, c := range columns {
			b.WriteString("\t" + strconv.FormatFloat(r.values[i], 'f', c.decimal, 64))
		}
	}
	return b.String() + "\n"
}

// parse is the inverse of table.
func parse(text string) (rows []row, err error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[1:] {
		fields := strings.Split(line, "\t")
		if len(fields) != 2+len(columns) {
			return nil, fmt.Errorf("%d fields in %q", len(fields), line)
		}
		r := row{series: fields[0], note: fields[1]}
		for _, field := range fields[2:] {
			v, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return nil, err
			}
			r.values = append(r.values, v)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// aligned returns a table for people.
func aligned(table string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, strings.ReplaceAll(table, "\n", "\t\n"))
	w.Flush()
	return b.String()
}

// TestScale runs jobs on ever more devices and prints how they went. With the flags as they
// are that is little, to see that it works; docs/scale.md has the others.
func TestScale(t *testing.T) {
	var rows []row
	var numbers []int
	for _, field := range strings.Split(*scale, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			t.Fatalf("-scale %q: numbers of devices are at least 1", *scale)
		}
		numbers = append(numbers, n)
	}
	run := func(series, note string, f *field, s setup) {
		s.seed, s.spread, s.swing, s.hosts = *seed, 50, 0.3, max(1, s.devices/10)
		o := simulate(t, f, s)
		r := row{series: series, note: note}
		for _, c := range columns {
			r.values = append(r.values, c.of(o))
		}
		rows = append(rows, r)
		t.Logf("%s of %s, %d devices: makespan ÷ ideal %.4f, %v of processors", series, note, o.devices, o.ratio(), o.cpu.Round(time.Millisecond))
	}
	most := slices.Max(numbers)
	largest := whole(t, lopsided, most)
	for _, n := range numbers {
		f := largest
		if n != most {
			f = whole(t, lopsided, n)
		}
		s := setup{devices: n, seconds: *length, coordinator: coordinator{tile: *tile}}
		run("weak", "lopsided", f, s)
		if n <= mostOfProduct {
			size := int(math.Cbrt(*length*float64(n)*flopsEach/2)) / lineUnit * lineUnit
			run("weak", fmt.Sprintf("product, n = %d", size), product(size), s)
		}
		s.failure = time.Hour
		run("churn", "lopsided", f, s)
		run("churn", "valley", whole(t, valley, n), s)
		s.seconds = *length / 10 * float64(most) / float64(n)
		run("strong", "lopsided", largest, s)
	}
	saturate(t, run, slices.Max(append(slices.DeleteFunc(numbers, func(n int) bool { return n > mostOfProduct }), 1)))
	text := table(rows)
	t.Log("\n" + aligned(text))
	if *folder != "" {
		if err := os.WriteFile(filepath.Join(*folder, "scale.tsv"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPlots draws what TestScale has written to the folder.
func TestPlots(t *testing.T) {
	from, to := *folder, *folder
	if *folder == "" {
		from, to = "testdata", t.TempDir()
	}
	text, err := os.ReadFile(filepath.Join(from, "scale.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := plotAll(to, rows); err != nil {
		t.Fatal(err)
	}
}

// whole returns an image with as many elements for each of n devices.
func whole(t *testing.T, view gpurun.View, n int) *field {
	width := int(math.Sqrt(float64(elementsEach*n) * 16 / 9))
	return image(t, view, width, width*9/16)
}

const (
	// elementsEach is how many elements of an image there are for each device: for 10,000
	// devices 60,000×33,750.
	elementsEach = 202_500

	// flopsEach is what a device of a product computes in a second, in the mean.
	flopsEach = 5e11

	// mostOfProduct bounds the devices of products.
	mostOfProduct = 1000
)

// saturate runs one job on coordinators that take ever longer: for a tile, and for a byte.
func saturate(t *testing.T, run func(series, note string, f *field, s setup), n int) {
	f := whole(t, lopsided, n)
	s := setup{devices: n, seconds: *length}
	for _, tile := range []float64{12, 25, 50, 100, 200, 400, 800, 1600} {
		s.coordinator = coordinator{tile: time.Duration(tile * 1e3)}
		run("tile", fmt.Sprintf("%g µs", tile), f, s)
	}
	need := float64(f.job.Bounds().Area()*f.element) / *length // bytes a second
	for _, part := range []float64{0.1, 0.25, 0.5, 0.7, 0.9, 1, 1.2, 1.5, 2} {
		s.coordinator = coordinator{line: need / part}
		run("line", fmt.Sprintf("%g", part), f, s)
	}
}
