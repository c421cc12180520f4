//go:build linux

package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Line is how the line between a host and the switch is, in each direction. The
// zero value adds nothing. What one host sends to another passes both their
// lines.
type Line struct {
	Delay  time.Duration
	Jitter time.Duration // besides Delay, at most; nothing overtakes
	Loss   float64       // the part of the packets that are lost, from 0 to 1
	Rate   int           // bytes a second, with Ethernet's header; 0 is no limit
}

// What waits for a line with a Rate is at most what it carries in queueTime, and
// at least leastQueue frames of full size. The rest is lost.
const (
	queueTime  = 50 * time.Millisecond
	leastQueue = 16
)

// tick is the least time between two looks at a wire. What has become due
// meanwhile comes out together.
const tick = 100 * time.Microsecond

// wire is one direction of a line. Frames come out in the order in which they
// went in.
type wire struct {
	out   func(*frame)
	timer *timer

	mu        sync.Mutex
	line      Line
	unplugged bool
	closed    bool
	random    *rand.Rand
	queue     []*frame // under way, the next one first

	// Times as monotonic returns them.
	free   int64 // when the line will have sent all that waits for it
	last   int64 // when the last frame is due
	looked int64 // when it was last seen what is due
}

// newWire returns a wire and starts its goroutine.
func (l *Lab) newWire(out func(*frame), random *rand.Rand) (*wire, error) {
	t, err := newTimer()
	if err != nil {
		return nil, err
	}
	w := &wire{out: out, random: random, timer: t}
	l.serving.Go(w.serve)
	return w, nil
}

func (w *wire) close() {
	w.change(func(*wire) { w.closed = true })
	w.timer.close()
}

// change calls f with w locked.
func (w *wire) change(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// send puts f on the wire.
func (w *wire) send(f *frame) {
	w.mu.Lock()
	if w.line == (Line{}) && len(w.queue) == 0 && !w.unplugged && !w.closed {
		w.mu.Unlock()
		w.out(f)
		return
	}
	defer w.mu.Unlock()
	now := monotonic()
	if w.unplugged || w.closed || !w.schedule(f, now) {
		frames.Put(f)
		return
	}
	w.queue = append(w.queue, f)
	if len(w.queue) == 1 {
		w.setTimer(now)
	}
}

// schedule says when f comes out of the wire, or reports that it never does.
// w.mu is held.
func (w *wire) schedule(f *frame, now int64) bool {
	line := &w.line
	if line.Loss > 0 && w.random.Float64() < line.Loss {
		return false
	}
	f.due = now
	if line.Rate > 0 {
		takes := func(bytes int) int64 { return int64(bytes) * int64(time.Second) / int64(line.Rate) }
		w.free = max(w.free, now)
		if w.free-now > max(int64(queueTime), takes(leastQueue*len(f.data))) {
			return false
		}
		w.free += takes(f.size)
		f.due = w.free
	}
	f.due += int64(line.Delay)
	if line.Jitter > 0 {
		f.due += w.random.Int64N(int64(line.Jitter))
	}
	f.due = max(f.due, w.last)
	w.last = f.due
	return true
}

// setTimer sets the timer for the next frame. w.mu is held.
func (w *wire) setTimer(now int64) {
	if !w.closed {
		w.timer.set(max(w.queue[0].due, w.looked+int64(tick)) - now)
	}
}

// serve has frames come out when they are due, until the wire is closed.
func (w *wire) serve() {
	for w.timer.wait() {
		w.mu.Lock()
		w.looked = monotonic()
		// They stay in the queue until they are out, so that none overtakes them.
		n := 0
		for n < len(w.queue) && w.queue[n].due <= w.looked {
			n++
		}
		due, lost := w.queue[:n], w.unplugged
		w.mu.Unlock()
		for _, f := range due {
			if lost {
				frames.Put(f)
			} else {
				w.out(f)
			}
		}
		w.mu.Lock()
		if w.queue = w.queue[n:]; len(w.queue) > 0 {
			w.setTimer(monotonic())
		}
		w.mu.Unlock()
	}
}

var epoch = time.Now()

// monotonic returns the time in nanoseconds.
func monotonic() int64 { return int64(time.Since(epoch)) }

// timer wakes one goroutine. The runtime's own timers can be a millisecond
// late, as it polls the network in milliseconds; the kernel's are a few
// microseconds late.
type timer struct {
	fd   int
	file *os.File
}

func newTimer() (*timer, error) {
	const monotonicClock = 1
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, monotonicClock, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("make a timer", errno)
	}
	return &timer{int(fd), os.NewFile(fd, "timer")}, nil
}

// set has wait return in the given time, in nanoseconds. t is not closed.
func (t *timer) set(in int64) {
	spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(max(in, 1))} // once; 0 would be never
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(t.fd), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		panic(os.NewSyscallError("set a timer", errno))
	}
}

// wait waits until the time has come, and returns false when t is closed.
func (t *timer) wait() bool {
	var times [8]byte
	_, err := t.file.Read(times[:])
	return err == nil && binary.NativeEndian.Uint64(times[:]) > 0
}

func (t *timer) close() { t.file.Close() }
