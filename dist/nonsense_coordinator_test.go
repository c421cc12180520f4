package dist

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// badCoordinator is a coordinator that sends what its script says, and knows
// what the host has to answer: for as long as it keeps to the protocol every
// begin and every lease once, with the right bits, and the session stands; when
// it does not, the session ends.
type badCoordinator struct {
	t testing.TB
	*session
	script

	jobs   []badJob   // job i has the number i+1
	leases []badLease // and so have leases
	broken bool       // it has broken the protocol, and the host must notice
	vague  bool       // it has done what a host may take or not

	mu      sync.Mutex
	begans  map[uint64][]string // the errors
	answers map[uint64][]badAnswer
	reading sync.WaitGroup
	gone    chan struct{} // closed when a stream has ended
	once    sync.Once
}

type badJob struct {
	kind, device int
	live         bool
}

type badLease struct {
	job     int
	tile    kernels.Tile
	owed    bool // the job was there
	stopped bool // by a cancel, or the end of the job
}

// badAnswer is a result or, if that is nil, what failed.
type badAnswer struct {
	result []byte
	failed *failedMessage
}

func newBadCoordinator(t testing.TB, conn net.Conn, s script) (*badCoordinator, error) {
	conn, err := secure(t.Context(), conn, nil, "host")
	if err != nil {
		return nil, err
	}
	session, err := newSession(t.Context(), conn, true, helloMessage{Name: "bad"})
	if err != nil {
		return nil, err
	}
	c := &badCoordinator{
		t: t, session: session, script: s, gone: make(chan struct{}),
		begans: map[uint64][]string{}, answers: map[uint64][]badAnswer{},
	}
	for _, stream := range []net.Conn{session.control, session.bulk} {
		c.reading.Go(func() {
			defer c.once.Do(func() { close(c.gone) })
			for r := bufio.NewReader(stream); c.read(r) == nil; {
			}
		})
	}
	return c, nil
}

// say writes a frame, in two parts if the script says so.
func (c *badCoordinator) say(stream net.Conn, b []byte) {
	n := 0
	if c.next()%4 == 1 {
		n = min(c.next(), len(b))
		_ = writePieces(stream, b[:n])
	}
	_ = writePieces(stream, b[n:]) // an error shows in what the host does
}

func (c *badCoordinator) step() {
	switch op := c.next(); op % 16 {
	case 0, 1:
		c.begin()
	case 8:
		if n := len(c.leases); n > 0 {
			i := c.next() % n
			c.leases[i].stopped = true
			c.say(c.control, mustFrame(typeCancel, cancelMessage{Lease: uint64(i) + 1}))
		} else {
			c.say(c.control, mustFrame(typeCancel, cancelMessage{Lease: math.MaxUint64}))
		}
	case 9:
		c.endJob()
	case 10:
		c.say(c.control, append([]byte{byte(typePing), 0, 0, 0, byte(op), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, op)...))
	case 11:
		time.Sleep(time.Duration(c.next()) * 4 * time.Microsecond)
	case 12:
		if c.next() > 200 {
			c.repeat()
		}
	case 13:
		if c.next() > 200 {
			c.breakOff()
		}
	default:
		c.lease()
	}
}

func (c *badCoordinator) begin() {
	kind, device := c.next()%len(knownJobs()), c.next()
	job := badJob{kind, device % 3, true}
	spec := knownJobs()[kind].spec
	message := beginMessage{Job: uint64(len(c.jobs)) + 1, Device: job.device, Kernel: "mandelbrot", Spec: spec}
	switch device {
	case 250:
		message.Device, job.live, c.broken = []int{-1, 3, math.MinInt64, math.MaxInt64}[c.next()%4], false, true
	case 251:
		message.Spec, job.live, c.broken = spec[:c.next()%len(spec)], false, true
	case 252:
		message.Kernel, job.live, c.broken = string(c.take(10)), false, true
	}
	live := 0
	for _, j := range c.jobs {
		if j.live {
			live++
		}
	}
	if live >= 64 { // see spec.md: no host has to take more
		return
	}
	c.jobs = append(c.jobs, job)
	c.say(c.control, mustFrame(typeBegin, message))
}

func (c *badCoordinator) endJob() {
	i := c.next() % (len(c.jobs) + 1) // one too many
	if i < len(c.jobs) {
		c.jobs[i].live = false
		for k := range c.leases {
			c.leases[k].stopped = c.leases[k].stopped || c.leases[k].job == i
		}
	}
	c.say(c.control, mustFrame(typeEnd, endMessage{Job: uint64(i) + 1}))
}

func (c *badCoordinator) lease() {
	i := c.next() % (len(c.jobs) + 1)
	var job badJob
	bounds := kernels.Tile{W: 5, H: 5}
	if i < len(c.jobs) {
		job = c.jobs[i]
		bounds = knownJobs()[job.kind].Bounds()
	}
	x, y := c.next()%bounds.W, c.next()%bounds.H
	t := kernels.Tile{X: x, Y: y, W: 1 + c.next()%(bounds.W-x), H: 1 + c.next()%(bounds.H-y)}
	if odd := c.next(); odd > 248 {
		field := []*int{&t.X, &t.Y, &t.W, &t.H}[c.next()%4]
		values := []int{-1, 0, bounds.W, bounds.W + 1, math.MinInt64, 1 << 32, -(1 << 31), math.MaxInt64}
		*field = values[c.next()%len(values)]
	}
	within := t.W >= 1 && t.H >= 1 && t.X >= 0 && t.Y >= 0 && t.W <= bounds.W && t.H <= bounds.H && t.X <= bounds.W-t.W && t.Y <= bounds.H-t.H
	c.leases = append(c.leases, badLease{i, t, job.live && within, false})
	c.broken = c.broken || job.live && !within
	c.say(c.control, mustFrame(typeLease, leaseMessage{Lease: uint64(len(c.leases)), Job: uint64(i) + 1, X: t.X, Y: t.Y, W: t.W, H: t.H}))
}

// repeat uses a number that has been used.
func (c *badCoordinator) repeat() {
	if n := len(c.leases); n > 0 && c.next()%2 == 0 {
		l := c.leases[c.next()%n]
		c.vague = true // it may have been answered
		c.say(c.control, mustFrame(typeLease, leaseMessage{
			Lease: uint64(n), Job: uint64(l.job) + 1, X: l.tile.X, Y: l.tile.Y, W: l.tile.W, H: l.tile.H,
		}))
	} else if n := len(c.jobs); n > 0 {
		i := c.next() % n
		if c.jobs[i].live {
			c.broken = true
		} else {
			c.vague = true
		}
		c.say(c.control, mustFrame(typeBegin, beginMessage{Job: uint64(i) + 1, Kernel: "mandelbrot", Spec: knownJobs()[0].spec}))
	}
}

// breakOff sends what no coordinator may.
func (c *badCoordinator) breakOff() {
	c.broken = true
	header := func(typ messageType, length uint32, bulk uint64) []byte {
		b := mustFrame(typ, struct{}{})[:4]
		for i := range 4 {
			b = append(b, byte(length>>(8*i)))
		}
		for i := range 8 {
			b = append(b, byte(bulk>>(8*i)))
		}
		return b
	}
	switch c.next() % 12 {
	case 0:
		c.say(c.control, mustFrame(typeHello, helloMessage{Kernels: kernels.Version}))
	case 1:
		c.say(c.control, mustFrame(typeBegan, beganMessage{Job: 1}))
	case 2:
		c.say(c.control, mustFrame(typeResult, resultMessage{Lease: 1}, c.take(50)...))
	case 3:
		c.say(c.control, mustFrame(typeFailed, failedMessage{Lease: 1, Error: "no"}))
	case 4:
		c.say(c.control, mustFrame(typeDrain, struct{}{}))
	case 5: // anything on the stream that is the host's
		c.say(c.bulk, mustFrame(messageType(1+c.next()%13), struct{}{}))
	case 6:
		c.say(c.control, header(typeLease, 1<<31, 0))
	case 7:
		c.say(c.control, header(typeLease, 0, 1<<31))
	case 8:
		c.say(c.control, header(typeResult, 0, 1<<31+1))
	case 9: // no CBOR
		c.say(c.control, append(header([]messageType{typeBegin, typeEnd, typeLease, typeCancel}[c.next()%4], 3, 0), 0xff, byte(c.next()), 0))
	case 10:
		c.say(c.control, mustFrame(typeFetch, fetchMessage{Fetch: 1}))
	case 11: // which nobody has asked for
		c.say(c.control, mustFrame(typePanel, panelMessage{Fetch: uint64(c.next())}, c.take(50)...))
	}
}

// read reads and keeps what the host says next.
func (c *badCoordinator) read(r io.Reader) error {
	f, err := readFrame(r)
	if err != nil {
		return err
	}
	bulk := make([]byte, f.bulk)
	if _, err := io.ReadFull(r, bulk); err != nil {
		return err
	}
	m := messageOf(f.typ)
	if err := f.decode(m); err != nil {
		c.t.Errorf("from the host: %v", err)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m := m.(type) {
	case *beganMessage:
		c.begans[m.Job] = append(c.begans[m.Job], m.Error)
	case *failedMessage:
		c.answers[m.Lease] = append(c.answers[m.Lease], badAnswer{failed: m})
	case *resultMessage:
		c.answers[m.Lease] = append(c.answers[m.Lease], badAnswer{result: bulk})
	case *helloMessage, *beginMessage, *endMessage, *leaseMessage, *cancelMessage:
		c.t.Errorf("message %d from a host", f.typ)
	}
	return nil
}

// answered tells whether everything has been that has to be.
func (c *badCoordinator) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.jobs {
		if len(c.begans[uint64(i)+1]) == 0 {
			return false
		}
	}
	for i, l := range c.leases {
		if l.owed && len(c.answers[uint64(i)+1]) == 0 {
			return false
		}
	}
	return true
}

// check fails the test unless what the host has said is right, so far.
func (c *badCoordinator) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, begans := range c.begans {
		if i := int(id) - 1; i < 0 || i >= len(c.jobs) || len(begans) > 1 && !c.vague {
			c.t.Errorf("job %d of %d: began %d times", id, len(c.jobs), len(begans))
		} else if device := c.jobs[i].device; (begans[0] != "") != (device == 1) {
			c.t.Errorf("on device %d: began: %q", device, begans[0])
		}
	}
	for id, answers := range c.answers {
		i := int(id) - 1
		if i < 0 || i >= len(c.leases) || !c.leases[i].owed && !c.vague || len(answers) > 1 && !c.vague {
			c.t.Errorf("lease %d of %d: %d answers", id, len(c.leases), len(answers))
			continue
		}
		for _, a := range answers {
			if !c.vague {
				c.checkAnswer(c.leases[i], a)
			}
		}
	}
}

func (c *badCoordinator) checkAnswer(l badLease, a badAnswer) {
	job := c.jobs[l.job]
	switch {
	case a.failed == nil:
		if job.device != 0 || !bytes.Equal(a.result, knownJobs()[job.kind].result(l.tile)) {
			c.t.Errorf("a wrong result for tile %v on device %d", l.tile, job.device)
		}
	case a.failed.Lost && !l.stopped && !c.broken:
		c.t.Errorf("tile %v was lost: %s", l.tile, a.failed.Error)
	case !a.failed.Lost && job.device == 0:
		c.t.Errorf("tile %v failed: %s", l.tile, a.failed.Error)
	}
}

// nonsenseToHost has a coordinator do what the script says, beside one that
// keeps to the protocol.
func nonsenseToHost(t testing.TB, s script) {
	before := runtime.NumGoroutine()
	defer settle(t, before)
	h := newPipedHost()
	defer h.stop(t)
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { h.honest(t) })

	conn, served := h.connect()
	c, err := newBadCoordinator(t, conn, s)
	if err != nil {
		t.Fatal(err)
	}
	for len(c.script) > 0 {
		c.step()
	}
	gone := func() bool {
		select {
		case <-c.gone:
			return true
		default:
			return false
		}
	}
	switch {
	case c.broken:
		within(t, 8*time.Second, "the host notices that the protocol is broken", gone)
	case !c.vague:
		within(t, 8*time.Second, "the host answers everything", func() bool { return c.answered() || gone() })
		if gone() {
			t.Error("the host ended a session that was in order")
		}
	}
	c.close(errors.New("the script has ended"))
	c.reading.Wait()
	c.check()
	if err := <-served; errors.Is(err, ErrProtocol) != c.broken && !c.vague {
		t.Errorf("the protocol is broken: %v; ServeConn returned %v", c.broken, err)
	}
}

func TestNonsenseToHost(t *testing.T) {
	randomScripts(t, 100, func(t *testing.T, s script) { nonsenseToHost(t, s) })
}

// FuzzHost feeds a host what its script makes of a coordinator.
func FuzzHost(f *testing.F) {
	begin := func(kind, device byte) []byte { return []byte{0, kind, device, 0} }
	lease := func(job byte) []byte { return []byte{2, job, 0, 0, 60, 40, 0, 0} }
	for _, parts := range [][][]byte{
		{begin(0, 0), lease(0), lease(0), {9, 0, 0}, lease(0)},                       // to a job that has ended
		{begin(1, 0), lease(0), {8, 0, 0}, {8, 0, 0}, begin(3, 1), lease(1)},         // cancelled twice; unwilling
		{begin(1, 2), lease(0), begin(2, 0), lease(1), {10, 0}, {9, 0, 0}, lease(0)}, // failing
		{begin(1, 0), {2, 0, 0, 0, 9, 9, 255, 0, 5, 0}, lease(0)},                    // out of bounds
		{begin(1, 0), {12, 255, 1, 0, 0}, lease(0)},                                  // the same job again
		{begin(1, 0), lease(0), {12, 255, 0, 0, 0}},                                  // the same lease again
		{begin(1, 250)}, {begin(1, 251)}, {begin(1, 252)}, {lease(0), lease(7)},
	} {
		f.Add(bytes.Join(parts, nil))
	}
	for how := range byte(12) {
		f.Add(bytes.Join([][]byte{begin(3, 0), lease(0), {13, 255, how, 0, 0, 0}, lease(0)}, nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2000 {
			nonsenseToHost(t, data)
		}
	})
}
