package gpurun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
)

// cluster keeps sessions with hosts: it dials each again, ever more slowly,
// when its session has ended.
type cluster struct {
	addrs []string
	name  string
	trust *dist.Trust

	ctx     context.Context
	cancel  context.CancelFunc
	dialers sync.WaitGroup

	mu    sync.Mutex
	hosts map[string]*dist.RemoteHost // that are there, by address
	errs  map[string]error            // why the others are not
	join  chan dist.Device            // of the job that runs; nil without
}

// How long to wait before a host is dialled again: at first, and at most.
const (
	firstRedial = 250 * time.Millisecond
	lastRedial  = 2 * time.Second
)

// openCluster dials all hosts at once and waits for the first answer of each.
// It fails if there is none.
func openCluster(ctx context.Context, addrs []string, trust *dist.Trust) (*cluster, error) {
	c := &cluster{addrs: addrs, name: machineName(), trust: trust, hosts: map[string]*dist.RemoteHost{}, errs: map[string]error{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	var first sync.WaitGroup
	for _, addr := range addrs {
		first.Add(1)
		c.dialers.Go(func() { c.keep(ctx, addr, first.Done) })
	}
	first.Wait()
	c.mu.Lock()
	var errs []error
	for _, addr := range addrs {
		if err := c.errs[addr]; err != nil {
			errs = append(errs, err)
		}
	}
	none := len(c.hosts) == 0
	c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		c.close()
		return nil, err
	}
	if none && len(addrs) > 0 {
		c.close()
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
		c.mu.Lock()
		if err == nil {
			c.hosts[addr], c.errs[addr] = h, nil
			c.announce(h)
			pause = firstRedial
		} else {
			c.errs[addr] = err
		}
		c.mu.Unlock()
		if tried != nil {
			tried()
			tried = nil
			stop()
			cancel()
			attempt, cancel = c.ctx, func() {}
		}
		if err == nil {
			select {
			case <-h.Done():
			case <-c.ctx.Done():
			}
			h.Close()
			c.mu.Lock()
			delete(c.hosts, addr)
			c.errs[addr] = h.Err()
			c.mu.Unlock()
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

// announce brings the devices of h into the job that runs. c.mu is held.
func (c *cluster) announce(h *dist.RemoteHost) {
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

// begin returns the devices that are there, and a channel of those that come
// before end is called.
func (c *cluster) begin() (devices []dist.Device, join <-chan dist.Device, end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.join = make(chan dist.Device, 1024)
	for _, addr := range c.addrs {
		if h := c.hosts[addr]; h != nil {
			devices = append(devices, h.Devices()...)
		}
	}
	return devices, c.join, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.join = nil
	}
}

// infos describes the devices of all hosts that are there.
func (c *cluster) infos() []Device {
	c.mu.Lock()
	defer c.mu.Unlock()
	var infos []Device
	for _, addr := range c.addrs {
		h := c.hosts[addr]
		if h == nil {
			continue
		}
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
		if err := c.errs[addr]; err != nil && c.hosts[addr] == nil {
			notes = append(notes, fmt.Errorf("host %s is not there: %w", addr, err))
		}
	}
	return notes
}

func (c *cluster) close() {
	c.cancel()
	c.dialers.Wait()
}
