package metrics

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpurun/gpurun/dist"
)

// The metrics of a coordinator.
var (
	jobs       = desc("gpurun_jobs_total", "Jobs that ended: done, or failed, which those are too that were interrupted.", "kernel", "outcome")
	jobDone    = desc("gpurun_job_done_ratio", "Part of the job that is done, from 0 to 1; 0 while none runs.")
	hosts      = desc("gpurun_hosts", "Hosts that are there.")
	leases     = desc("gpurun_leases", "Leases that devices have.")
	devices    = desc("gpurun_devices", "Devices of the job that runs, by what they do.", "state")
	tiles      = desc("gpurun_tiles_total", "Tiles whose results were used.", "host", "device")
	busy       = desc("gpurun_busy_seconds_total", "Time in which the device computed tiles whose results were used.", "host", "device")
	failures   = desc("gpurun_failures_total", "Leases that failed, were lost, or had a wrong result.", "host", "device")
	late       = desc("gpurun_late_total", "Results that came, or began to, for leases that had been lost, and were refused.", "host", "device")
	bytesMoved = desc("gpurun_bytes_total", "Bytes to (in) and from (out) the memory of the device.", "host", "device", "direction")
	lost       = desc("gpurun_lost_total", "Leases that ended in no answer.")
	retries    = desc("gpurun_retries_total", "Tiles that went back to the queue, failed or lost.")
	duplicates = desc("gpurun_duplicates_total", "Leases on what another device already had.")
)

// maxSeries bounds the devices that are told apart, as hosts come with names of their
// own. The rest is counted as that of the host other.
const maxSeries = 1000

// Coordinator counts what the jobs of a process do. What is counted never becomes less,
// also where a job takes back what a wrong device did. Its methods may be called by
// several goroutines.
type Coordinator struct {
	hosts func() int
	done  func() float64

	mu     sync.Mutex
	run    *dist.Live // nil while none runs
	seen   seen       // of it
	jobs   map[[2]string]float64
	totals counted
	series map[series]*counted
}

// series says whose numbers they are.
type series struct{ host, device string }

// counted are numbers that only grow.
type counted struct {
	tiles, busy, failures, late, in, out float64
	lost, retries, duplicates            float64
}

// seen is what has been counted of a run.
type seen struct {
	totals counted
	series map[series]counted
}

// NewCoordinator returns a Coordinator without any job. hosts and done say how many hosts
// are there, and which part of the job that runs is done.
func NewCoordinator(hosts func() int, done func() float64) *Coordinator {
	return &Coordinator{hosts: hosts, done: done, jobs: map[[2]string]float64{}, series: map[series]*counted{}}
}

// Begin counts what live shows from now on. One at a time is shown.
func (c *Coordinator) Begin(live *dist.Live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run, c.seen = live, seen{}
}

// End counts what r, the report of what Begin showed, has beyond that.
func (c *Coordinator) End(r *dist.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(r, &c.seen)
	c.run, c.seen = nil, seen{}
}

// Add counts all of r, of a run that Begin has not shown.
func (c *Coordinator) Add(r *dist.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(r, &seen{})
}

// Job counts a job that has ended, done or not.
func (c *Coordinator) Job(kernel string, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	outcome := "failed"
	if done {
		outcome = "done"
	}
	c.jobs[[2]string{kernel, outcome}]++
}

// count counts what r has beyond s, and notes it there. c.mu is held.
func (c *Coordinator) count(r *dist.Report, s *seen) {
	c.totals.grow(&s.totals, counted{lost: float64(r.Lost), retries: float64(r.Retries), duplicates: float64(r.Duplicates)})
	now := map[series]counted{}
	for _, d := range r.Devices {
		key := seriesOf(d.ID)
		sum := now[key] // of earlier sessions with its host
		sum.tiles += float64(d.Tiles)
		sum.busy += d.Busy.Seconds()
		sum.failures += float64(d.Failures)
		sum.late += float64(d.Late)
		sum.in += float64(d.BytesIn)
		sum.out += float64(d.BytesOut)
		now[key] = sum
	}
	if s.series == nil {
		s.series = map[series]counted{}
	}
	for key, n := range now {
		before := s.series[key]
		c.at(key).grow(&before, n)
		s.series[key] = before
	}
}

// at returns where what key did is counted.
func (c *Coordinator) at(key series) *counted {
	if c.series[key] == nil && len(c.series) >= maxSeries {
		key = series{"other", "other"}
	}
	if c.series[key] == nil {
		c.series[key] = &counted{}
	}
	return c.series[key]
}

// seriesOf returns whose id, a dist.DeviceReport's, is.
func seriesOf(id string) series {
	id = strings.ToValidUTF8(id, "?")
	i := strings.LastIndex(id, "/")
	if i < 0 {
		return series{"", id} // of this machine
	}
	return series{id[:i], id[i+1:]}
}

// grow adds to n what now has beyond before, which then has it too.
func (n *counted) grow(before *counted, now counted) {
	for _, x := range []struct {
		sum, before *float64
		now         float64
	}{
		{&n.tiles, &before.tiles, now.tiles},
		{&n.busy, &before.busy, now.busy},
		{&n.failures, &before.failures, now.failures},
		{&n.late, &before.late, now.late},
		{&n.in, &before.in, now.in},
		{&n.out, &before.out, now.out},
		{&n.lost, &before.lost, now.lost},
		{&n.retries, &before.retries, now.retries},
		{&n.duplicates, &before.duplicates, now.duplicates},
	} {
		if more := x.now - *x.before; more > 0 {
			*x.sum += more
			*x.before = x.now
		}
	}
}

// Describe sends the metrics.
func (c *Coordinator) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		jobs, jobDone, hosts, leases, devices, tiles, busy, failures, late, bytesMoved, lost, retries, duplicates,
	} {
		to <- d
	}
}

// Collect sends what has been counted, of the run that goes on too.
func (c *Coordinator) Collect(to chan<- prometheus.Metric) {
	emit(to, hosts, prometheus.GaugeValue, float64(c.hosts()))
	emit(to, jobDone, prometheus.GaugeValue, c.done())
	c.mu.Lock()
	defer c.mu.Unlock()
	inFlight, states := 0, map[dist.State]int{
		dist.StateStarting: 0, dist.StateWorking: 0, dist.StateIdle: 0, dist.StateSetAside: 0, dist.StateGone: 0,
	}
	if c.run != nil {
		if r := c.run.Report(); r != nil {
			c.count(r, &c.seen)
			now := map[string]dist.State{} // of a device, the last session
			for _, d := range r.Devices {
				inFlight += d.InFlight
				now[d.ID] = d.State
			}
			for _, state := range now {
				states[state]++
			}
		}
	}
	emit(to, leases, prometheus.GaugeValue, float64(inFlight))
	for state, n := range states {
		emit(to, devices, prometheus.GaugeValue, float64(n), string(state))
	}
	count := func(d *prometheus.Desc, value float64, labels ...string) {
		emit(to, d, prometheus.CounterValue, value, labels...)
	}
	for job, n := range c.jobs {
		count(jobs, n, job[0], job[1])
	}
	count(lost, c.totals.lost)
	count(retries, c.totals.retries)
	count(duplicates, c.totals.duplicates)
	for key, n := range c.series {
		count(tiles, n.tiles, key.host, key.device)
		count(busy, n.busy, key.host, key.device)
		count(failures, n.failures, key.host, key.device)
		count(late, n.late, key.host, key.device)
		count(bytesMoved, n.in, key.host, key.device, "in")
		count(bytesMoved, n.out, key.host, key.device, "out")
	}
}
