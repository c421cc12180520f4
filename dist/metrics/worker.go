package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpurun/gpurun/dist"
)

// desc describes a metric with labels.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// emit sends a value, whose labels are made text that Prometheus takes.
func emit(to chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "�")
	}
	to <- prometheus.MustNewConstMetric(d, kind, value, labels...)
}

// The metrics of a worker.
var (
	workerTiles        = desc("gpurun_worker_tiles_total", "Tiles that ended: done, failed, or lost, which nobody waited for any more.", "device", "outcome")
	workerElements     = desc("gpurun_worker_elements_total", "Elements of the tiles that were computed.", "device")
	workerBusy         = desc("gpurun_worker_busy_seconds_total", "Time in which the device computed.", "device")
	workerBytes        = desc("gpurun_worker_bytes_total", "Bytes to (in) and from (out) the memory of the device.", "device", "direction")
	workerLeases       = desc("gpurun_worker_leases", "Leases whose answers have not been sent.")
	workerJobs         = desc("gpurun_worker_jobs", "Jobs that devices have begun, each device counted.")
	workerCoordinators = desc("gpurun_worker_coordinators", "Coordinators that are served.")
	workerSessions     = desc("gpurun_worker_sessions_total", "Sessions with coordinators that began.")
	workerRefused      = desc("gpurun_worker_refused_total", "Peers that were turned away, by why.", "reason")
	workerOperands     = desc("gpurun_worker_operand_bytes", "Memory that matrices take.")
	workerDraining     = desc("gpurun_worker_draining", "1 while the worker takes no more leases, since it is to end.")
)

// Worker collects what stats, of a dist.Host, says.
func Worker(stats func() dist.HostStats) prometheus.Collector { return worker{stats} }

type worker struct{ stats func() dist.HostStats }

func (worker) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		workerTiles, workerElements, workerBusy, workerBytes, workerLeases, workerJobs, workerCoordinators,
		workerSessions, workerRefused, workerOperands, workerDraining,
	} {
		to <- d
	}
}

func (w worker) Collect(to chan<- prometheus.Metric) {
	s := w.stats()
	gauge := func(d *prometheus.Desc, value float64) { emit(to, d, prometheus.GaugeValue, value) }
	count := func(d *prometheus.Desc, value float64, labels ...string) {
		emit(to, d, prometheus.CounterValue, value, labels...)
	}
	gauge(workerLeases, float64(s.Leases))
	gauge(workerJobs, float64(s.Jobs))
	gauge(workerCoordinators, float64(s.Coordinators))
	gauge(workerOperands, float64(s.OperandBytes))
	gauge(workerDraining, map[bool]float64{true: 1}[s.Draining])
	count(workerSessions, float64(s.Sessions))
	for reason, n := range s.Refused {
		count(workerRefused, float64(n), string(reason))
	}
	for _, d := range s.Devices {
		count(workerTiles, float64(d.Done), d.ID, "done")
		count(workerTiles, float64(d.Failed), d.ID, "failed")
		count(workerTiles, float64(d.Lost), d.ID, "lost")
		count(workerElements, float64(d.Elements), d.ID)
		count(workerBusy, d.Busy.Seconds(), d.ID)
		count(workerBytes, float64(d.BytesIn), d.ID, "in")
		count(workerBytes, float64(d.BytesOut), d.ID, "out")
	}
}
