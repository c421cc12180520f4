//go:build linux

// Package lab gives tests several hosts on one machine: network namespaces that
// are plugged into a switch of this process, which can make their lines long,
// thin and bad. Only tests import it.
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
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// Lab is a switch and the hosts that are plugged into it.
type Lab struct {
	t       testing.TB
	hosts   []*Host
	serving sync.WaitGroup // the goroutines of the switch

	seed uint64 // of what is random on lines

	mu     sync.RWMutex
	cut    map[[2]*Host]bool // what the first sends to the second is lost
	logged bool              // the seed has been
}

// Host is a machine as far as the network is concerned: with its own addresses,
// but with the file system and the processes of all.
type Host struct {
	// IP is the host's address in the lab.
	IP string

	lab       *Lab
	namespace *os.File
	tap       *os.File // the switch's end of the host's interface
	up, down  *wire    // to the switch, and from it
}

// New returns a lab of n hosts, which lasts until t ends. All its lines are the
// zero Line. Where there can be no lab it skips t, or fails it where
// GPURUN_REQUIRE names what is missing, netns or tun.
func New(t testing.TB, n int) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		testenv.Missing(t, "netns", "hosts as network namespaces take root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		testenv.Missing(t, "netns", "hosts as network namespaces take the command ip, of iproute2")
	}
	l := &Lab{t: t, seed: rand.Uint64(), cut: map[[2]*Host]bool{}}
	t.Cleanup(l.close)
	for i := range n {
		l.addHost(i+1, n)
	}
	for _, h := range l.hosts {
		l.serving.Go(h.listen)
	}
	return l
}

// addHost plugs in host number i of n.
func (l *Lab) addHost(i, n int) {
	l.t.Helper()
	h := &Host{lab: l, IP: address(i)}
	l.hosts = append(l.hosts, h)
	var err error
	if h.namespace, err = newNamespace(); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) {
		testenv.Missing(l.t, "netns", "a network namespace cannot be made: "+err.Error())
	} else if err != nil {
		l.t.Fatal(err)
	}
	if err := h.Do(func() (err error) { h.tap, err = openTap("eth0"); return err }); err != nil {
		testenv.Missing(l.t, "tun", "the switch cannot have an interface of a host: "+err.Error())
	}
	random := func(direction uint64) *rand.Rand { return rand.New(rand.NewPCG(l.seed, uint64(2*i)+direction)) }
	h.up, err = l.newWire(func(f *frame) { l.forward(h, f) }, random(0))
	if err == nil {
		h.down, err = l.newWire(h.deliver, random(1))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	// The hosts know each other's hardware addresses: on a line with losses to ask
	// for one can take a second, which no network of several machines would.
	setup := fmt.Sprintf("link set lo up\nlink set eth0 address %s up\naddr add %s/24 dev eth0\n", hardware(i), h.IP)
	for k := 1; k <= n; k++ {
		if k != i {
			setup += fmt.Sprintf("neigh add %s lladdr %s dev eth0 nud permanent\n", address(k), hardware(k))
		}
	}
	if err := runIP(h.namespace, strings.NewReader(setup), "-batch", "-"); err != nil {
		l.t.Fatal(err)
	}
}

// close unplugs all hosts and ends the switch.
func (l *Lab) close() {
	for _, h := range l.hosts {
		for _, w := range []*wire{h.up, h.down} {
			if w != nil {
				w.close()
			}
		}
		if h.tap != nil {
			h.tap.Close()
		}
	}
	l.serving.Wait()
	for _, h := range l.hosts {
		if h.namespace != nil {
			h.namespace.Close()
		}
	}
}

// Reseed has what is random on all lines begin again, from a seed that the caller
// knows.
func (l *Lab) Reseed(seed uint64) {
	l.mu.Lock()
	l.seed, l.logged = seed, true
	l.mu.Unlock()
	for i, h := range l.hosts {
		for direction, w := range []*wire{h.up, h.down} {
			w.change(func(w *wire) { w.random = rand.New(rand.NewPCG(seed, uint64(2*(i+1)+direction))) })
		}
	}
}

// Host returns host number i, from 0.
func (l *Lab) Host(i int) *Host { return l.hosts[i] }

// runIP runs the command ip in a namespace.
func runIP(namespace *os.File, stdin io.Reader, args ...string) error {
	cmd := exec.Command("ip", args...)
	cmd.Stdin = stdin
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

// Namespace returns a path by which the command nsenter finds the network namespace of h.
func (h *Host) Namespace() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.namespace.Fd())
}

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
		if err := setNamespace(namespace, syscall.CLONE_NEWNET); err != nil {
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
		if err := setNamespace(home, syscall.CLONE_NEWNET); err != nil {
			panic(err) // whatever this thread did next would be in the wrong place
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// setNamespace puts the calling thread, or with CLONE_NEWPID what it starts, into a
// namespace of this kind.
func setNamespace(namespace *os.File, kind uintptr) error {
	number, ok := map[string]uintptr{"amd64": 308, "arm64": 268}[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("enter a namespace on %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	if _, _, errno := syscall.RawSyscall(number, namespace.Fd(), kind, 0); errno != 0 {
		return os.NewSyscallError("enter a namespace", errno)
	}
	return nil
}
