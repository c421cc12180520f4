//go:build !unix

package gpurun

import (
	"errors"
	"net"
	"os"
)

// errNoSandbox says that there is no way to talk to another process as it is done here.
var errNoSandbox = errors.New("kernels of coordinators are run on Unix-like systems only")

func socketPair() (net.Conn, *os.File, error) { return nil, nil, errNoSandbox }

func kernelConn() (net.Conn, error) { return nil, errNoSandbox }
