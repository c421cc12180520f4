// Package network measures jobs over networks that are as bad as networks are:
// hosts are network namespaces, joined by a switch that delays packets, loses
// them, and sends no more than a line carries (see internal/lab). Each host runs
// a worker, a process of its own, and the sessions have a key.
//
// BenchmarkCompute measures how much of the time devices are busy, BenchmarkBulk
// how much of a line results fill, beside bare TCP connections in the same round,
// and BenchmarkStopped how long a job takes of which a worker stops or dies. At random
// moments, which -seed repeats, BenchmarkLostHost kills a worker and measures what work
// was thrown away, and BenchmarkStoppedHost stops one.
// Medians count. It takes Linux, root and /dev/net/tun.
//
//	go test ./bench/network -run '^$' -bench . -benchtime 1x
//
// The hosts' congestion control, which the output names, decides what losses do:
// -congestion chooses another, of those that the system allows to all.
package network
