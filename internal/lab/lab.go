//go:build linux

// Package lab gives tests several hosts on one machine: network namespaces on a
// bridge. Only tests import it.
//
// A namespace here has no name: it lives as long as this process has its file
// open or a process is in it, and so do its interfaces. So nothing is left
// behind, not even by a test that was killed, nothing that others made can be
// touched, and the addresses cannot meet those of anybody else.
package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// Lab is a switch and the hosts that are plugged into it.
type Lab struct {
	t      testing.TB
	bridge *os.File // the switch's namespace
	hosts  []*Host
}

// Host is a machine as far as the network is concerned: with its own addresses,
// but with the file system and the processes of all.
type Host struct {
	// IP is the host's address in the lab.
	IP string

	lab       *Lab
	port      string // its port of the switch
	namespace *os.File
}

// New returns a lab of n hosts, which lasts until t ends. Where there can be
// none, it skips t, or fails it where GPURUN_REQUIRE names netns.
func New(t testing.TB, n int) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		testenv.Missing(t, "netns", "hosts as network namespaces take root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		testenv.Missing(t, "netns", "hosts as network namespaces take the command ip, of iproute2")
	}
	l := &Lab{t: t}
	t.Cleanup(func() {
		for _, h := range l.hosts {
			h.namespace.Close()
		}
		if l.bridge != nil {
			l.bridge.Close()
		}
	})
	var err error
	if l.bridge, err = newNamespace(); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) {
		testenv.Missing(t, "netns", "a network namespace cannot be made: "+err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	// A bridge that learns at once: without it the first second is silent.
	if err := runIP(l.bridge, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "stp_state", "0"); err != nil {
		testenv.Missing(t, "netns", "a bridge cannot be made: "+err.Error())
	}
	l.must("link", "set", "br0", "up")
	for i := range n {
		l.addHost(i + 1)
	}
	return l
}

// addHost plugs in host number i.
func (l *Lab) addHost(i int) {
	l.t.Helper()
	namespace, err := newNamespace()
	if err != nil {
		l.t.Fatal(err)
	}
	h := &Host{lab: l, IP: fmt.Sprintf("10.79.0.%d", i), port: "p" + strconv.Itoa(i), namespace: namespace}
	l.hosts = append(l.hosts, h)
	// The path is this process's: ip is another.
	peer := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), namespace.Fd())
	l.must("link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", peer)
	l.must("link", "set", h.port, "master", "br0", "up")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", h.IP + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		if err := runIP(h.namespace, args...); err != nil {
			l.t.Fatal(err)
		}
	}
}

// Host returns host number i, from 0.
func (l *Lab) Host(i int) *Host { return l.hosts[i] }

// Unplug pulls h's cable: what is sent to it or by it is lost, and connections
// hear nothing of it.
func (h *Host) Unplug() { h.lab.t.Helper(); h.lab.must("link", "set", h.port, "down") }

// Plug undoes Unplug.
func (h *Host) Plug() { h.lab.t.Helper(); h.lab.must("link", "set", h.port, "up") }

// must runs the command ip on the switch.
func (l *Lab) must(args ...string) {
	l.t.Helper()
	if err := runIP(l.bridge, args...); err != nil {
		l.t.Fatal(err)
	}
}

// runIP runs the command ip in a namespace.
func runIP(namespace *os.File, args ...string) error {
	cmd := exec.Command("ip", args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := within(namespace, cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%v: %w: %s", cmd, err, said.Bytes())
	}
	return nil
}

// Do calls f with the calling goroutine on h: sockets that f itself makes, and
// processes that it starts, are there, whoever uses them later. Goroutines that
// f starts are not.
func (h *Host) Do(f func() error) error { return within(h.namespace, f) }

// newNamespace makes a network namespace, with a loopback that is down.
func newNamespace() (*os.File, error) {
	var made *os.File
	err := away(func() error {
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		if err == nil {
			made, err = os.Open(threadNamespace)
		}
		return os.NewSyscallError("make a network namespace", err)
	})
	if err != nil && made != nil {
		made.Close()
	}
	return made, err
}

// within calls f in a namespace.
func within(namespace *os.File, f func() error) error {
	return away(func() error {
		if err := setNamespace(namespace); err != nil {
			return err
		}
		return f()
	})
}

const threadNamespace = "/proc/thread-self/ns/net"

// away calls f, which may change the thread's namespace, and then goes back.
func away(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(threadNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	// Deferred, so that a panic of f leaves no thread astray.
	defer func() {
		if err := setNamespace(home); err != nil {
			panic(err) // whatever this thread did next would be in the wrong place
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// setNamespace puts the calling thread into a network namespace.
func setNamespace(namespace *os.File) error {
	number, ok := map[string]uintptr{"amd64": 308, "arm64": 268}[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("enter a network namespace on %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	if _, _, errno := syscall.RawSyscall(number, namespace.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return os.NewSyscallError("enter a network namespace", errno)
	}
	return nil
}
