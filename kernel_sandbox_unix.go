//go:build unix

package gpurun

import (
	"net"
	"os"
	"syscall"
)

// socketPair returns the two ends of a connection: one for this process, and one for
// another.
func socketPair() (here net.Conn, there *os.File, err error) {
	syscall.ForkLock.RLock()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(ends[0])
		syscall.CloseOnExec(ends[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(ends[0]), "kernel")
	defer f.Close()
	there = os.NewFile(uintptr(ends[1]), "worker")
	if here, err = net.FileConn(f); err != nil {
		there.Close()
		return nil, nil, err
	}
	return here, there, nil
}

// kernelConn returns the connection to the worker that has started this process.
func kernelConn() (net.Conn, error) {
	const first = 3 // after stdin, stdout and stderr
	f := os.NewFile(first, "worker")
	defer f.Close()
	return net.FileConn(f)
}
