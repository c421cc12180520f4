// Package launchers measures gpurun under mpiexec beside the loop that Python programs
// have there: rank 0 hands out one chunk at a time to whoever asks, the others compute,
// and rank 0 gathers the results. python/split_managed.py has it of dlp_mpi, and
// python/by_hand.py is the same written with mpi4py. What is not installed is left out.
//
// All compute the same image with the same kernel, which the Python programs call as a
// library (package kernel), in processes of one thread each, on hosts that are network
// namespaces (see internal/lab). All images are compared with the one that this machine
// computes by itself, bit for bit. MPICH's Hydra starts gpurun, and Open MPI the others.
//
//	go test ./bench/launchers -run '^$' -bench . -benchtime 1x -timeout 1h -rounds 5
//
// BenchmarkAlike has processes that are alike, BenchmarkSlowed one that stands still for
// most of the time, and BenchmarkKilled kills one at a random moment, which -seed repeats.
// It takes Linux, root and /dev/net/tun, mpiexec.hydra, mpirun.openmpi, a C compiler for
// cgo, and a Python with NumPy and mpi4py.
package launchers
