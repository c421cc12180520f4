package gpurun

import (
	"math"
	"strings"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// Report says what one job took, and which device did what share of it.
type Report struct {
	Job     string  `json:"job"`     // the kernel's name
	Seconds float64 `json:"seconds"` // of the whole call
	Done    float64 `json:"done"`    // the part of the job that is done: 1 unless it failed, or still runs

	// Makespan runs from the first pull to the last result. MakespanOverIdeal
	// divides it by the mean of the devices' busy times: 1 if all were busy
	// from first to last.
	Makespan          float64 `json:"makespan"`
	MakespanOverIdeal float64 `json:"makespan_over_ideal"`

	// Iterations are the steps that the definition of an image takes, and Flops
	// the operations that that of a matrix product takes, a fused multiply-add
	// being two.
	Iterations int64 `json:"iterations,omitempty"`
	Flops      int64 `json:"flops,omitempty"`

	// Elements are those of each array that a Kernel writes.
	Elements int64 `json:"elements,omitempty"`

	// BytesMoved is what went to and from the devices' memories; for the CPU, what it
	// read of operands that were not in memory, and computed of their product.
	// BytesBound is what has to be moved for a product through the largest of these
	// memories, of S elements: 2·M·N·K/√S elements, and every matrix once. It is 0 for
	// other jobs, where hosts took part, and where nothing is moved.
	BytesMoved int64 `json:"bytes_moved"`
	BytesBound int64 `json:"bytes_bound"`

	PeakBytes   int64 `json:"peak_bytes"`   // the most allocated on any device since the engine was opened
	BudgetBytes int64 `json:"budget_bytes"` // of that device

	// PredictedSeconds and PredictedBytes are what a product on devices was predicted to
	// take, of its Makespan, and to move; 0 where nothing was predicted, as of hosts.
	PredictedSeconds float64 `json:"predicted_seconds,omitempty"`
	PredictedBytes   int64   `json:"predicted_bytes,omitempty"`

	Devices []DeviceReport `json:"devices"`

	// Resumed is the part of what is done that was so in runs before, of which
	// Config.State had kept the results: from 0 to 1. The devices have done the rest.
	Resumed float64 `json:"resumed,omitempty"`

	Retries    int `json:"retries"`    // tiles computed again after a failure
	Duplicates int `json:"duplicates"` // leases given out twice near the end
	Lost       int `json:"lost"`       // leases that went back to the queue unanswered
	Late       int `json:"late"`       // results that came, or began to, for leases that had been lost: they are refused

	spans     []dist.Span
	asides    []aside
	convicted dist.Convicted
}

// DeviceReport is the part that one device had in a job.
type DeviceReport struct {
	ID   string `json:"id"`
	Host string `json:"host"` // empty for this machine
	Kind string `json:"kind"`
	Name string `json:"name"`

	Tiles       int     `json:"tiles"`
	BusySeconds float64 `json:"busy_seconds"`
	Share       float64 `json:"share"` // of the work, but for what was resumed: all shares sum to 1
	BytesIn     int64   `json:"bytes_in"`
	BytesOut    int64   `json:"bytes_out"`
	Rate        float64 `json:"rate"` // iterations, operations or elements, a busy second

	// SetAside says why the device was left out after failures; else empty.
	SetAside string `json:"set_aside,omitempty"`

	// State is "starting" while the device is made ready for the job, "working" while it
	// has tiles to compute, of which InFlight says how many, and "idle" when it has none;
	// "set aside" if it gets no more for what it did, and "gone" if its host has left, or
	// cannot be reached: it may come back. When a job has ended those that are left are
	// idle.
	State    string `json:"state"`
	InFlight int    `json:"in_flight"`

	// Failures counts the tiles that the device failed to compute, that were lost with
	// it or took too long, or that it got wrong. LastError is about the last of them, or
	// empty, and LastErrorSeconds when that was, from the first tile of the job on.
	Failures         int     `json:"failures"`
	LastError        string  `json:"last_error,omitempty"`
	LastErrorSeconds float64 `json:"last_error_seconds,omitempty"`

	// Late counts the results that came from the device, or began to, when their tiles had
	// been lost. They were refused.
	Late int `json:"late"`
}

// fullID returns d's id with its host, as Engine.Devices has it.
func (d *DeviceReport) fullID() string {
	if d.Host == "" {
		return d.ID
	}
	return d.Host + "/" + d.ID
}

// newReport makes the report of a job that ran on devices, of this machine, and
// others; infos describes them. A device of a host that went and came back is
// one entry.
func newReport(job kernels.Job, r *dist.Report, devices []device.Device, infos []Device) *Report {
	out := &Report{
		Job:        job.Kernel(),
		Done:       r.Done,
		Makespan:   r.Makespan.Seconds(),
		Retries:    r.Retries,
		Duplicates: r.Duplicates,
		Lost:       r.Lost,
		Late:       r.Late,
		Resumed:    r.Before / max(r.Done, r.Before, math.SmallestNonzeroFloat64),
		spans:      r.Spans,
		asides:     asidesOf(r.Devices),
		convicted:  r.Convicted,
	}
	if r.Ideal > 0 {
		out.MakespanOverIdeal = r.Makespan.Seconds() / r.Ideal.Seconds()
	}
	known := map[string]Device{}
	for _, info := range infos {
		known[info.ID] = info
	}
	for _, d := range merged(r.Devices) {
		info := known[d.ID]
		host, id := "", d.ID
		if i := strings.LastIndex(d.ID, "/"); i >= 0 {
			host, id = d.ID[:i], d.ID[i+1:]
		}
		dr := DeviceReport{
			ID: id, Host: host, Kind: string(info.Kind), Name: info.Name,
			Tiles: d.Tiles, BusySeconds: d.Busy.Seconds(), Share: d.Share,
			BytesIn: d.BytesIn, BytesOut: d.BytesOut,
			State: string(d.State), InFlight: d.InFlight, Failures: d.Failures, Late: d.Late,
		}
		if d.LastError != nil {
			dr.LastError, dr.LastErrorSeconds = d.LastError.Error(), d.LastErrorAt.Seconds()
		}
		if d.SetAside != nil {
			dr.SetAside = d.SetAside.Error()
		}
		out.Devices = append(out.Devices, dr)
		out.BytesMoved += d.BytesIn + d.BytesOut
	}
	for _, d := range devices {
		if peak := d.PeakBytes(); peak >= out.PeakBytes {
			out.PeakBytes, out.BudgetBytes = peak, d.Info().Budget
		}
	}
	return out
}

// merged returns devices with those of the same id made one. It is in the state of the
// last of them, and set aside if that was.
func merged(devices []dist.DeviceReport) []dist.DeviceReport {
	var out []dist.DeviceReport
	at := map[string]int{}
	for _, d := range devices {
		i, again := at[d.ID]
		if !again {
			at[d.ID] = len(out)
			out = append(out, d)
			continue
		}
		m := &out[i]
		m.Tiles += d.Tiles
		m.Busy += d.Busy
		m.Cost += d.Cost
		m.Share += d.Share
		m.BytesIn += d.BytesIn
		m.BytesOut += d.BytesOut
		m.SetAside, m.State = d.SetAside, d.State
		m.InFlight += d.InFlight
		m.Failures += d.Failures
		m.Late += d.Late
		if d.LastError != nil {
			m.LastError, m.LastErrorAt = d.LastError, d.LastErrorAt
		}
	}
	return out
}

// setWork records how many iterations the job took, and the rates.
func (r *Report) setWork(iterations int64) {
	r.Iterations = iterations
	r.setRates(float64(iterations))
}

// setFlops records the operations that the job took, and the rates.
func (r *Report) setFlops(flops float64) {
	r.Flops = int64(min(flops, math.MaxInt64/2))
	r.setRates(flops)
}

// setElements records the elements that a kernel had to write, and the rates.
func (r *Report) setElements(elements float64) {
	r.Elements = int64(elements)
	r.setRates(elements)
}

// setRates records the rates, where the job took so much work.
func (r *Report) setRates(work float64) {
	for i := range r.Devices {
		if d := &r.Devices[i]; d.BusySeconds > 0 {
			d.Rate = d.Share * (1 - r.Resumed) * work / d.BusySeconds
		}
	}
}

// setProduct records what p took, and what has to be moved for it through the largest
// of the memories of devices.
func (r *Report) setProduct(p productJob, devices []device.Device) {
	r.setFlops(p.Flops())
	if r.BytesMoved == 0 || p.Flops() == 0 || len(devices) == 0 {
		return
	}
	bounds, size := p.Bounds(), p.DType().Size()
	var most int64
	for _, d := range devices {
		most = max(most, d.Info().Budget)
	}
	steps := int(p.Flops() / 2 / float64(bounds.W) / float64(bounds.H))
	r.BytesBound = int64(float64(size) * tiler.MovedBound(tiler.Product{M: bounds.H, N: bounds.W, K: steps}, float64(most)/float64(size)))
}

// setPrediction records what p is predicted to take on devices that share it by their
// speeds.
func (r *Report) setPrediction(predictions []device.Prediction) {
	var rate, bytes float64 // products a second
	for _, p := range predictions {
		one := 1 / max(p.Time.Seconds(), 1e-9)
		rate += one
		bytes += one * float64(p.Bytes)
	}
	if rate > 0 {
		r.PredictedSeconds, r.PredictedBytes = 1/rate, int64(bytes/rate)
	}
}

// productReport makes the report of a product that one device computed in one
// go, in the time it took.
func productReport[T float32 | float64](d device.Device, p *kernels.MatMul[T], took time.Duration, done bool) *Report {
	info := d.Info()
	dr := DeviceReport{ID: info.ID, Kind: string(info.Kind), Name: info.Name, BusySeconds: took.Seconds(), State: string(dist.StateIdle)}
	out := &Report{
		Job: "matmul", Seconds: took.Seconds(), Makespan: took.Seconds(), MakespanOverIdeal: 1,
		PeakBytes: d.PeakBytes(), BudgetBytes: info.Budget,
	}
	outcome := dist.OutcomeStopped
	if done {
		outcome = dist.OutcomeDone
		out.Done, dr.Tiles, dr.Share = 1, 1, 1
		out.Flops = int64(min(p.Flops(), math.MaxInt64/2))
		dr.Rate = p.Flops() / max(took.Seconds(), 1e-9)
	}
	out.Devices = []DeviceReport{dr}
	out.spans = []dist.Span{{Device: info.ID, Tile: kernels.Tile{W: p.N, H: p.M}, End: took, Ended: took, Outcome: outcome}}
	return out
}
