//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// The switch reads the frames that hosts send from their interfaces, and writes
// to these what they get. It works on packets, and the hosts' own TCP speaks
// with that of other hosts: so it sees the delays, the losses and the full
// queues, as between machines.

// mtu is the largest packet, and ethernet the size of the header before it.
const (
	mtu      = 1500
	ethernet = 14
)

// frame is an Ethernet frame on its way. Whoever has it passes it on or puts it
// back.
type frame struct {
	due  int64 // as monotonic returns times
	size int
	data [ethernet + mtu]byte
}

var frames = sync.Pool{New: func() any { return new(frame) }}

// address and hardware return the addresses of host number i, from 1.
func address(i int) string  { return fmt.Sprintf("10.79.0.%d", i) }
func hardware(i int) string { return fmt.Sprintf("02:00:00:00:00:%02x", i) }

// listen takes what h sends, until its interface is closed.
func (h *Host) listen() {
	for {
		f := frames.Get().(*frame)
		n, err := h.tap.Read(f.data[:])
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				h.lab.t.Errorf("read what %s sends: %v", h.IP, err)
			}
			return
		}
		f.size = n
		h.up.send(f)
	}
}

// deliver gives f to h. What an interface does not take is lost, as anywhere.
func (h *Host) deliver(f *frame) {
	h.tap.Write(f.data[:f.size])
	frames.Put(f)
}

// forward passes on what has come over the line of from. Where it is to go shows
// in its first six bytes, see hardware.
func (l *Lab) forward(from *Host, f *frame) {
	to := f.data[:6]
	if to[0]&1 == 0 {
		if i := int(to[5]) - 1; i >= 0 && i < len(l.hosts) && l.reaches(from, l.hosts[i]) {
			l.hosts[i].down.send(f)
		} else {
			frames.Put(f)
		}
		return
	}
	for _, h := range l.hosts {
		if h != from && l.reaches(from, h) {
			g := frames.Get().(*frame)
			*g = *f
			h.down.send(g)
		}
	}
	frames.Put(f)
}

func (l *Lab) reaches(from, to *Host) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !l.cut[[2]*Host{from, to}]
}

// SetLine changes h's line. What is under way on it arrives as it would have.
func (h *Host) SetLine(line Line) {
	if line.Loss > 0 || line.Jitter > 0 {
		h.lab.logSeed()
	}
	h.up.change(func(w *wire) { w.line = line })
	h.down.change(func(w *wire) { w.line = line })
}

// logSeed logs the seed of what is random, once.
func (l *Lab) logSeed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.logged {
		l.t.Logf("lab: the seed is %d", l.seed)
	}
	l.logged = true
}

// Unplug pulls h's cable: what is sent to it or by it is lost, and connections
// hear nothing of it.
func (h *Host) Unplug() { h.plug(false) }

// Plug undoes Unplug.
func (h *Host) Plug() { h.plug(true) }

func (h *Host) plug(in bool) {
	h.up.change(func(w *wire) { w.unplugged = !in })
	h.down.change(func(w *wire) { w.unplugged = !in })
}

// Cut has the switch lose what h sends to the others, and not what they send to
// h: a partition takes two calls.
func (h *Host) Cut(others ...*Host) { h.setCut(true, others) }

// Mend undoes Cut.
func (h *Host) Mend(others ...*Host) { h.setCut(false, others) }

func (h *Host) setCut(cut bool, others []*Host) {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	for _, to := range others {
		h.lab.cut[[2]*Host{h, to}] = cut
	}
}

// openTap makes an interface in the calling thread's namespace and returns its
// other end.
func openTap(name string) (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var request struct { // ifreq
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	const tunSetIff, tap, noHeader = 0x400454ca, 0x0002, 0x1000
	copy(request.name[:], name)
	request.flags = tap | noHeader
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), tunSetIff, uintptr(unsafe.Pointer(&request))); errno != 0 {
		syscall.Close(fd)
		return nil, os.NewSyscallError("make a tap interface", errno)
	}
	// Only now, as there is nothing to poll before.
	return os.NewFile(uintptr(fd), path), nil
}
