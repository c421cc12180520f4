package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"

	"github.com/gpurun/gpurun"
)

// liveTable is a line for each device of a job, as wide and high as the terminal is.
type liveTable struct {
	report *gpurun.Report
	rates  map[string]float64       // work a second, by deviceName
	ages   map[string]time.Duration // of the last errors, by deviceName

	width, height int // columns and lines of the terminal
}

const (
	// otherLines are those of the bar and of the cursor below the table.
	otherLines = 2

	columnGap = "  "

	// leastName and leastError are the columns that a device's name, and its last
	// error, have at least where they need them and the terminal is not narrower still.
	leastName, leastError = 20, 32
)

// The columns.
const (
	columnDevice = iota
	columnState
	columnTiles
	columnLeases
	columnLate
	columnRate
	columnShare
	columnIn
	columnOut
	columnError
)

// leastColumns are those that are left out, in this order, where errors lack room.
var leastColumns = []int{columnOut, columnIn, columnLate, columnLeases, columnTiles}

// lines returns the lines to show: none where there is one device, or no room.
func (t liveTable) lines() []string {
	room := t.height - otherLines
	if t.report == nil || len(t.report.Devices) < 2 || room < 2 {
		return nil
	}
	rows := [][]string{{"device", "state", "tiles", "leases", "late", "rate", "share", "in", "out", "last error"}}
	devices := t.report.Devices
	more := 0
	if 1+len(devices) > room {
		more = len(devices) - (room - 2)
		devices = devices[:len(devices)-more]
	}
	for _, d := range devices {
		rows = append(rows, t.row(d))
	}
	lines := aligned(rows, t.hidden(rows))
	if more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	for i, line := range lines {
		lines[i] = runewidth.Truncate(line, t.columns(), "…")
	}
	return lines
}

// columns returns how many there are: a line that fills the last one may be wrapped.
func (t liveTable) columns() int { return max(t.width-1, 1) }

// hidden returns the columns that are left out: bytes that nobody moved, as on CPUs, late
// results where there are none, and others for as long as the errors lack room.
func (t liveTable) hidden(rows [][]string) map[int]bool {
	widths := widthsOf(rows)
	free := t.columns() - len(columnGap)*(len(widths)-1)
	for _, w := range widths[:columnError] {
		free -= w
	}
	hidden := map[int]bool{}
	hide := func(column int) {
		if !hidden[column] {
			hidden[column] = true
			free += widths[column] + len(columnGap)
		}
	}
	moved := int64(0)
	for _, d := range t.report.Devices {
		moved += d.BytesIn + d.BytesOut
	}
	if t.report.Late == 0 {
		hide(columnLate)
	}
	if moved == 0 {
		hide(columnIn)
		hide(columnOut)
	}
	for _, column := range leastColumns {
		if free < min(widths[columnError], leastError) {
			hide(column)
		}
	}
	return hidden
}

func (t liveTable) row(d gpurun.DeviceReport) []string {
	unit := "iter/s"
	if t.report.Job == "matmul" {
		unit = "FLOP/s"
	}
	name := deviceName(d)
	return []string{
		shortened(plain(name), max(leastName, t.width/3)), d.State, strconv.Itoa(d.Tiles), strconv.Itoa(d.InFlight), strconv.Itoa(d.Late), si(t.rates[name], unit),
		fmt.Sprintf("%.0f %%", 100*d.Share), humanize.IBytes(uint64(max(0, d.BytesIn))), humanize.IBytes(uint64(max(0, d.BytesOut))),
		plain(t.lastError(d)),
	}
}

// lastError returns what went wrong on d last, or is empty. The cause comes first and
// the tile last, of which there may be room for none; what the line says already is left
// out.
func (t liveTable) lastError(d gpurun.DeviceReport) string {
	text := wrongOf(d)
	if text == "" {
		return ""
	}
	var band, tile string
	if rest, ok := strings.CutPrefix(text, "in the band from row "); ok {
		if row, rest, ok := strings.Cut(rest, " on: "); ok {
			band, text = ", band from row "+row+" on", rest
		}
	}
	name := deviceName(d)
	text = strings.TrimPrefix(text, name+": ")
	if rest, ok := strings.CutPrefix(text, "computing tile "); ok {
		if at, rest, ok := strings.Cut(rest, ": "); ok {
			tile, text = ", tile "+at, rest
		}
	}
	for _, known := range []string{"the tile was lost: ", "the host has gone: ", d.Host + ": "} {
		text = strings.TrimPrefix(text, known)
	}
	if age, known := t.ages[name]; known {
		text += fmt.Sprintf(", %v ago", age.Round(time.Second))
	}
	return text + tile + band
}

// wrongOf returns why d was set aside, or else its last error.
func wrongOf(d gpurun.DeviceReport) string {
	if d.SetAside != "" {
		return d.SetAside
	}
	return d.LastError
}

// shortened returns name in at most so many columns: its beginning and its end, which
// tell devices apart.
func shortened(name string, most int) string {
	width := runewidth.StringWidth(name)
	if width <= most {
		return name
	}
	head := most / 2
	return runewidth.Truncate(name, head, "") + runewidth.TruncateLeft(name, width-(most-head-1), "…")
}

// textColumns are those on the left of which the text begins; of the others it ends on
// the right.
var textColumns = map[int]bool{columnDevice: true, columnState: true, columnError: true}

// widthsOf returns the widths of the columns of rows.
func widthsOf(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	return widths
}

// aligned joins the cells of each row, so that columns line up, without the hidden ones.
func aligned(rows [][]string, hidden map[int]bool) []string {
	widths := widthsOf(rows)
	var lines []string
	for _, row := range rows {
		var cells []string
		for i, cell := range row {
			switch {
			case hidden[i]:
			case textColumns[i]:
				cells = append(cells, runewidth.FillRight(cell, widths[i]))
			default:
				cells = append(cells, runewidth.FillLeft(cell, widths[i]))
			}
		}
		lines = append(lines, strings.TrimRight(strings.Join(cells, columnGap), " "))
	}
	return lines
}

// plain returns s on one line, without what a terminal would act on.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, s)
}

// si returns x with three digits and a prefix of the SI.
func si(x float64, unit string) string {
	if x == 0 {
		return "0 " + unit
	}
	for _, prefix := range []string{"", "k", "M", "G", "T", "P"} {
		switch {
		case x < 9.995:
			return fmt.Sprintf("%.2f %s%s", x, prefix, unit)
		case x < 99.95:
			return fmt.Sprintf("%.1f %s%s", x, prefix, unit)
		case x < 999.5:
			return fmt.Sprintf("%.0f %s%s", x, prefix, unit)
		}
		x /= 1000
	}
	return fmt.Sprintf("%.3g E%s", x, unit)
}

// rateWindow is the time over which rates are measured: tiles take up to a second.
const rateWindow = 5 * time.Second

// rates measures how much work the devices do in a second, from one report of a job to
// the next.
type rates struct{ seen []workAt }

// workAt is the work that devices had done at a time, by deviceName.
type workAt struct {
	when time.Time
	work map[string]float64
}

// add takes in r, as it is now, and returns the rates over the last seconds.
func (s *rates) add(r *gpurun.Report, now time.Time) map[string]float64 {
	work := map[string]float64{}
	for _, d := range r.Devices {
		work[deviceName(d)] += d.Rate * d.BusySeconds
	}
	s.seen = append(s.seen, workAt{now, work})
	for len(s.seen) > 2 && now.Sub(s.seen[1].when) >= rateWindow {
		s.seen = s.seen[1:]
	}
	first := s.seen[0]
	seconds := now.Sub(first.when).Seconds()
	per := map[string]float64{}
	for name, done := range work {
		// Of a device that does nothing roundings may differ.
		if more := done - first.work[name]; seconds > 0 && more > done*1e-9 {
			per[name] = more / seconds
		}
	}
	return per
}

// errorAges tells how old the last errors of devices are, from one report of a job to the
// next.
type errorAges struct{ seen map[string]errorAt }

// errorAt is an error that was first seen at a time.
type errorAt struct {
	text     string
	failures int
	when     time.Time
}

// add takes in r, as it is now, and returns the ages of the errors in it, by deviceName.
func (e *errorAges) add(r *gpurun.Report, now time.Time) map[string]time.Duration {
	if e.seen == nil {
		e.seen = map[string]errorAt{}
	}
	ages := map[string]time.Duration{}
	for _, d := range r.Devices {
		name, text := deviceName(d), wrongOf(d)
		if text == "" {
			continue
		}
		if was := e.seen[name]; was.text != text || was.failures < d.Failures {
			e.seen[name] = errorAt{text, d.Failures, now}
		}
		ages[name] = now.Sub(e.seen[name].when)
	}
	return ages
}

// watched is what is measured of a job from one look to the next.
type watched struct {
	rates  rates
	errors errorAges
}

// writeLive writes the table of the job that live shows.
func writeLive(w io.Writer, live func() *gpurun.Report, seen *watched, width, height int) error {
	r := live()
	if r == nil {
		return nil
	}
	now := time.Now()
	t := liveTable{r, seen.rates.add(r, now), seen.errors.add(r, now), width, height}
	for _, line := range t.lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
