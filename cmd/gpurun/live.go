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
	rates  map[string]float64 // work a second, by deviceName

	width, height int // columns and lines of the terminal
}

const (
	// otherLines are those of the bar and of the cursor below the table.
	otherLines = 2

	columnGap = "  "
)

// lines returns the lines to show: none where there is one device, or no room.
func (t liveTable) lines() []string {
	room := t.height - otherLines
	if t.report == nil || len(t.report.Devices) < 2 || room < 2 {
		return nil
	}
	rows := [][]string{{"device", "state", "tiles", "leases", "rate", "share", "in", "out", "last error"}}
	devices := t.report.Devices
	more := 0
	if 1+len(devices) > room {
		more = len(devices) - (room - 2)
		devices = devices[:len(devices)-more]
	}
	for _, d := range devices {
		rows = append(rows, t.row(d))
	}
	lines := aligned(rows)
	if more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	for i, line := range lines {
		lines[i] = runewidth.Truncate(line, max(t.width-1, 1), "…")
	}
	return lines
}

func (t liveTable) row(d gpurun.DeviceReport) []string {
	unit := "iter/s"
	if t.report.Job == "matmul" {
		unit = "FLOP/s"
	}
	wrong := d.SetAside
	if wrong == "" {
		wrong = d.LastError
	}
	name := deviceName(d)
	return []string{
		plain(name), d.State, strconv.Itoa(d.Tiles), strconv.Itoa(d.InFlight), si(t.rates[name], unit),
		fmt.Sprintf("%.0f %%", 100*d.Share), humanize.IBytes(uint64(max(0, d.BytesIn))), humanize.IBytes(uint64(max(0, d.BytesOut))),
		plain(strings.TrimPrefix(wrong, name+": ")),
	}
}

// textColumns are those on the left of which the text begins; of the others it ends on
// the right.
var textColumns = map[int]bool{0: true, 1: true, 8: true}

// aligned joins the cells of each row, so that columns line up.
func aligned(rows [][]string) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	var lines []string
	for _, row := range rows {
		var cells []string
		for i, cell := range row {
			if textColumns[i] {
				cells = append(cells, runewidth.FillRight(cell, widths[i]))
			} else {
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
		if seconds > 0 {
			per[name] = max(0, (done-first.work[name])/seconds)
		}
	}
	return per
}

// writeLive writes the table of the job that live shows.
func writeLive(w io.Writer, live func() *gpurun.Report, measured *rates, width, height int) error {
	r := live()
	if r == nil {
		return nil
	}
	t := liveTable{r, measured.add(r, time.Now()), width, height}
	for _, line := range t.lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
