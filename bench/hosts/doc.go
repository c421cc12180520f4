// Package hosts measures products over hosts, with the gpurun command as built:
// coordinator and workers are processes of their own.
//
// BenchmarkWorkers compares two workers of one core each with both cores and no
// hosts. BenchmarkWire counts the bytes that a product takes on the wire, beside
// the least that memories of some size allow. BenchmarkMemory has products, and a
// picture, that are larger than the memory that the coordinator should take.
//
//	go test ./bench/hosts -run '^$' -bench . -benchtime 1x -timeout 1h -rounds 5
//
// All products are compared with the one that this machine computes by itself. The
// last two take Linux, root and /dev/net/tun, as their hosts are network namespaces
// (see internal/lab); the first takes Linux, and taskset where there is one.
package hosts
