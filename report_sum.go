package gpurun

import (
	"fmt"
	"slices"
	"time"

	"github.com/gpurun/gpurun/dist"
)

// reportSum adds the reports of an image's bands up to that of the image.
type reportSum struct {
	report *Report // nil before the first

	ideal  float64       // seconds that the makespans would be if all devices were busy throughout
	began  time.Duration // of the first band
	weight float64       // of all bands
	done   float64       // of what was computed of them now
	shares []float64     // of the devices in report, times the weights
}

// add adds the report of a band, which begins at row y and was begun at began. Its weight
// in the devices' shares of the work is what it took: iterations, and its pixels.
func (s *reportSum) add(r *Report, began time.Duration, y, pixels int, iterations int64) {
	if s.report == nil {
		s.report, s.began = &Report{Job: r.Job, Devices: []DeviceReport{}}, began
	}
	sum := s.report
	sum.Makespan += r.Makespan
	if r.MakespanOverIdeal > 0 {
		s.ideal += r.Makespan / r.MakespanOverIdeal
	}
	if s.ideal > 0 {
		sum.MakespanOverIdeal = sum.Makespan / s.ideal
	}
	sum.BytesMoved += r.BytesMoved
	sum.Retries += r.Retries
	sum.Duplicates += r.Duplicates
	sum.Lost += r.Lost
	sum.Late += r.Late
	if r.PeakBytes >= sum.PeakBytes {
		sum.PeakBytes, sum.BudgetBytes = r.PeakBytes, r.BudgetBytes
	}
	for _, span := range r.spans {
		sum.spans = append(sum.spans, shifted(span, began-s.began, y))
	}
	for _, a := range r.asides {
		a.at += began - s.began
		a.why = inBand(a.why, y)
		sum.asides = append(sum.asides, a)
	}
	weight := float64(iterations) + float64(pixels)
	s.weight += weight
	weight *= 1 - r.Resumed
	s.done += weight
	sum.Resumed = 1 - s.done/max(s.weight, 1)
	for _, d := range r.Devices {
		d.SetAside = inBand(d.SetAside, y)
		s.addDevice(d, weight)
	}
	for i := range sum.Devices {
		sum.Devices[i].Share = s.shares[i] / max(s.done, 1e-300)
	}
	sum.setWork(sum.Iterations + iterations)
}

// clone returns a copy of s, without the spans, that can be added to.
func (s *reportSum) clone() reportSum {
	c := *s
	if s.report != nil {
		report := *s.report
		report.spans, report.asides, report.Devices = nil, slices.Clip(report.asides), slices.Clone(report.Devices)
		c.report, c.shares = &report, slices.Clone(s.shares)
	}
	return c
}

// shifted returns span as one of the whole image, in which its band began later and lies
// lower by so much.
func shifted(span dist.Span, later time.Duration, lower int) dist.Span {
	for _, t := range []*time.Duration{&span.Granted, &span.Start, &span.End, &span.Ended} {
		*t += later
	}
	if span.Late > 0 {
		span.Late += later
	}
	span.Tile.Y += lower
	return span
}

// inBand returns why a device was set aside, which may name rows of the band that
// begins at row y.
func inBand(why string, y int) string {
	if why == "" || y == 0 {
		return why
	}
	return fmt.Sprintf("in the band from row %d on: %s", y, why)
}

// addDevice adds d's part in a band of that weight. A device that was set aside in one
// band may have worked on others, and is said to have been.
func (s *reportSum) addDevice(d DeviceReport, weight float64) {
	for i := range s.report.Devices {
		sum := &s.report.Devices[i]
		if sum.Host != d.Host || sum.ID != d.ID {
			continue
		}
		sum.Tiles += d.Tiles
		sum.BusySeconds += d.BusySeconds
		sum.BytesIn += d.BytesIn
		sum.BytesOut += d.BytesOut
		sum.State, sum.InFlight = d.State, d.InFlight
		sum.Failures += d.Failures
		sum.Late += d.Late
		if d.LastError != "" {
			sum.LastError, sum.LastErrorSeconds = d.LastError, d.LastErrorSeconds
		}
		if d.SetAside != "" {
			sum.SetAside = d.SetAside
		}
		s.shares[i] += weight * d.Share
		return
	}
	s.report.Devices = append(s.report.Devices, d)
	s.shares = append(s.shares, weight*d.Share)
}
