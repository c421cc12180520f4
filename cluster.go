package gpurun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
)

// cluster keeps sessions with hosts: with those that it dials, again and again
// when a session has ended, and with those that join by themselves.
type cluster struct {
	addrs    []string
	name     string
	trust    *dist.Trust
	listener net.Listener // nil if no host can join
	launch   *Launch      // nil unless a launcher has started this process
	log      *slog.Logger

	ctx      context.Context
	cancel   context.CancelFunc
	sessions sync.WaitGroup

	mu    sync.Mutex
	hosts []*dist.RemoteHost // that are there: those dialled in the order of addrs, then the others
	names *hostNames         // of the others
	errs  map[string]error   // why those dialled are not, by address
	join  chan dist.Device   // of the job that runs; nil without

	abandon bool // hosts are left without a word
}

// How long to wait before a host is dialled again: at first, and at most.
const (
	firstRedial = 250 * time.Millisecond
	lastRedial  = 2 * time.Second
)

// openCluster dials all hosts of config at once and waits for the first answer
// of each. It fails if there is none, unless hosts can join or jobs wait for one.
func openCluster(ctx context.Context, config *Config, log *slog.Logger) (*cluster, error) {
	trust, err := config.trust()
	if err != nil {
		return nil, err
	}
	addrs := slices.Clone(config.Hosts)
	c := &cluster{addrs: addrs, name: machineName(), trust: trust, log: log, names: newHostNames(addrs), errs: map[string]error{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	addr := config.Listen
	if c.launch = config.Launch; c.launch != nil {
		addr, err = c.launch.listen(addr)
	}
	if err == nil && addr != "" {
		c.listener, err = listen(ctx, addr, trust)
	}
	if err != nil {
		c.cancel()
		return nil, err
	}
	if c.listener != nil {
		c.sessions.Go(c.accept)
	}
	if c.launch != nil {
		if err := c.launch.lead(c.listener.Addr(), log); err != nil {
			c.close(false)
			return nil, err
		}
	}
	var first sync.WaitGroup
	for _, addr := range addrs {
		first.Add(1)
		c.sessions.Go(func() { c.keep(ctx, addr, first.Done) })
	}
	first.Wait()
	c.mu.Lock()
	var errs []error
	for _, addr := range addrs {
		if err := c.errs[addr]; err != nil {
			errs = append(errs, err)
		}
	}
	none := len(c.hosts) == 0 && c.listener == nil && config.Wait <= 0
	c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		c.close(false)
		return nil, err
	}
	if none {
		c.close(false)
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// machineName is what this machine calls itself.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// keep holds a session with the host at addr for as long as c is open. It calls
// tried after the first attempt, which first can cut short.
func (c *cluster) keep(first context.Context, addr string, tried func()) {
	pause := firstRedial
	attempt, cancel := context.WithCancel(c.ctx)
	stop := context.AfterFunc(first, cancel)
	for {
		h, err := dist.Dial(attempt, addr, c.name, c.trust)
		if err == nil {
			c.add(h)
			pause = firstRedial
		}
		if c.note(addr, err) && c.ctx.Err() == nil {
			c.log.Warn("host not there; trying again", "addr", addr, "err", err)
		}
		if tried != nil {
			tried()
			tried = nil
			stop()
			cancel()
			attempt, cancel = c.ctx, func() {}
		}
		if err == nil {
			c.hold(h)
		}
		select {
		case <-c.ctx.Done():
			cancel()
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRedial)
	}
}

// accept takes the hosts that join, until c is closed.
func (c *cluster) accept() {
	_ = dist.AcceptEach(c.ctx, c.listener, func(conn net.Conn) { // until c.ctx is done
		c.sessions.Go(func() {
			h, err := dist.Accept(c.ctx, conn, c.name, c.trust)
			switch {
			case err == nil:
				c.mu.Lock()
				h.Call(c.names.take(h.Name(), h.Addr()))
				c.mu.Unlock()
				c.add(h)
				c.hold(h)
				c.mu.Lock()
				c.names.drop(h.Called())
				c.mu.Unlock()
			case c.ctx.Err() == nil:
				c.log.Warn("host turned away", "addr", conn.RemoteAddr().String(), "err", err)
			}
		})
	})
}

// hold waits until the session with h ends.
func (c *cluster) hold(h *dist.RemoteHost) {
	select {
	case <-h.Done():
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	abandon := c.abandon
	c.mu.Unlock()
	if abandon {
		h.Abandon()
	} else {
		h.Close()
	}
	if c.ctx.Err() == nil {
		c.log.Warn("host gone", "host", logName(h), "addr", h.Addr(), "err", h.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = slices.DeleteFunc(c.hosts, func(other *dist.RemoteHost) bool { return other == h })
	if c.rank(h) < len(c.addrs) {
		c.errs[h.Addr()] = h.Err()
	}
}

// logName returns how h is called in the log, where its address comes behind that.
func logName(h *dist.RemoteHost) string {
	if h.Called() == h.Addr() {
		return h.Name()
	}
	return h.Called()
}

// note keeps why the host at addr is not there, or nil if it is. It reports whether
// that has not been said before.
func (c *cluster) note(addr string, err error) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.errs[addr]
	c.errs[addr] = err
	return err != nil && (before == nil || before.Error() != err.Error())
}

// add takes h in, also into the job that runs.
func (c *cluster) add(h *dist.RemoteHost) {
	c.log.Info("host connected", "host", logName(h), "addr", h.Addr(), "devices", len(h.Devices()))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = append(c.hosts, h)
	slices.SortStableFunc(c.hosts, func(a, b *dist.RemoteHost) int { return c.rank(a) - c.rank(b) })
	if c.join == nil {
		return
	}
	for _, d := range h.Devices() {
		select {
		case c.join <- d:
		default: // so many come and go that this one may miss the job
		}
	}
}

// rank returns the place of h among addrs, or the one behind all.
func (c *cluster) rank(h *dist.RemoteHost) int {
	if i := slices.Index(c.addrs, h.Addr()); i >= 0 {
		return i
	}
	return len(c.addrs)
}

// begin returns the devices that are there, and a channel of those that come
// before end is called.
func (c *cluster) begin() (devices []dist.Device, join <-chan dist.Device, end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.join = make(chan dist.Device, 1024)
	for _, h := range c.hosts {
		devices = append(devices, h.Devices()...)
	}
	return devices, c.join, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.join = nil
	}
}

// any reports whether a host is there.
func (c *cluster) any() bool { return c.count() > 0 }

// count returns how many hosts are there.
func (c *cluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hosts)
}

// infos describes the devices of all hosts that are there.
func (c *cluster) infos() []Device {
	c.mu.Lock()
	defer c.mu.Unlock()
	var infos []Device
	for _, h := range c.hosts {
		for i, d := range h.Infos() {
			infos = append(infos, Device{
				ID: h.Devices()[i].ID(), Kind: device.Kind(d.Kind), Name: d.Name, Driver: d.Driver,
				Units: d.Units, Memory: d.Memory, Float32: device.Support(d.F32), Float64: device.Support(d.F64),
			})
		}
	}
	return infos
}

// notes says which hosts are not there, and why.
func (c *cluster) notes() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var notes []error
	for _, addr := range c.addrs {
		if err := c.errs[addr]; err != nil {
			notes = append(notes, fmt.Errorf("host %s is not there: %w", addr, err))
		}
	}
	return notes
}

// close ends all sessions. finished says whether the job is done: if not, processes that know
// rank 0 by Config.Join look for it again, as it may begin again.
func (c *cluster) close(finished bool) {
	if c.launch != nil {
		c.launch.end()
		c.mu.Lock()
		c.abandon = c.launch.join && !finished
		c.mu.Unlock()
	}
	c.cancel()
	c.sessions.Wait()
}

// listen listens at addr, host:port or unix:/path. Without trust addr must be on
// this machine alone.
func listen(ctx context.Context, addr string, trust *dist.Trust) (l net.Listener, err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		l, err = dist.ListenUnix(path)
	} else {
		var resolved *net.TCPAddr
		if resolved, err = net.ResolveTCPAddr("tcp", addr); err == nil && trust == nil {
			err = dist.CheckPlain(resolved)
		}
		if err == nil {
			var config net.ListenConfig
			l, err = config.Listen(ctx, "tcp", addr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("gpurun: listen at %s: %w", addr, err)
	}
	return l, nil
}
