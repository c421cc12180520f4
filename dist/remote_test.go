package dist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// fairSink has each of some devices put a tile before any computes another, so
// that none is done out of its part by chance.
type fairSink struct {
	*imageSink
	left atomic.Int32  // devices, of which a tile is to come
	fair chan struct{} // closed when there are none
}

func newFairSink(job kernels.Job, devices int) *fairSink {
	s := &fairSink{imageSink: newImageSink(job), fair: make(chan struct{})}
	s.left.Store(int32(devices))
	return s
}

func (s *fairSink) Put(t kernels.Tile, r *kernels.Result) error {
	if s.left.Add(-1) == 0 {
		close(s.fair)
	}
	return s.imageSink.Put(t, r)
}

// device returns one of the devices.
func (s *fairSink) device(id string) *mandelDevice {
	d := &mandelDevice{id: id, pause: time.Millisecond}
	d.fault = func(ctx context.Context) error {
		if d.tiles.Load() == 1 {
			return nil
		}
		select {
		case <-s.fair:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return d
}

// TestRemote computes a job on one host and on three, in the clear and with a
// key, together with a device of this machine and without.
func TestRemote(t *testing.T) {
	trust, err := TrustKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, trust := range map[string]*Trust{"plain": nil, "key": trust} {
		for _, hosts := range []int{1, 3} {
			for _, local := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", name, hosts, local), func(t *testing.T) {
					n := hosts
					if local {
						n++
					}
					sink := newFairSink(remoteJob(), n)
					var devices []Device
					if local {
						devices = append(devices, sink.device("local"))
					}
					for i := range hosts {
						h := startHost(t, trust, sink.device(fmt.Sprint("d", i)))
						devices = append(devices, h.dial(t, trust).Devices()...)
					}
					r, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 40})
					if err != nil {
						t.Fatal(err)
					}
					sink.check(t)
					sum := 0.0
					for _, d := range r.Devices {
						sum += d.Share
						if d.Tiles == 0 || d.Busy <= 0 {
							t.Errorf("%s did nothing: %+v", d.ID, d)
						}
					}
					if sum < 0.999 || sum > 1.001 || r.Lost != 0 {
						t.Errorf("the shares sum to %g, and %d leases were lost", sum, r.Lost)
					}
				})
			}
		}
	}
}

// TestRemoteLost ends one of two hosts in the middle of a job.
func TestRemoteLost(t *testing.T) {
	good := startHost(t, nil, &mandelDevice{id: "good", pause: 2 * time.Millisecond})
	bad := startHost(t, nil, &mandelDevice{id: "bad", pause: 2 * time.Millisecond})
	devices := append(good.dial(t, nil).Devices(), bad.dial(t, nil).Devices()...)
	go func() {
		for bad.device.tiles.Load() < 3 {
			time.Sleep(time.Millisecond)
		}
		bad.stop()
	}()
	sink := newImageSink(remoteJob())
	r, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 60})
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if r.Lost == 0 || r.Devices[1].SetAside == nil || !strings.Contains(r.Devices[1].SetAside.Error(), bad.addr) {
		t.Errorf("the loss is not in the report: %+v", r)
	}
}

// TestRemoteAllLost ends the only host: without another the job ends and says
// so; with one that comes in time it is done.
func TestRemoteAllLost(t *testing.T) {
	for _, comes := range []bool{false, true} {
		t.Run(fmt.Sprint(comes), func(t *testing.T) {
			h := startHost(t, nil, &mandelDevice{id: "d", pause: time.Millisecond})
			devices := h.dial(t, nil).Devices()
			join := make(chan Device, 1)
			go func() {
				for h.device.tiles.Load() < 3 {
					time.Sleep(time.Millisecond)
				}
				h.stop()
				if comes {
					time.Sleep(20 * time.Millisecond)
					join <- startHost(t, nil, &mandelDevice{id: "late"}).dial(t, nil).Devices()[0]
				}
			}()
			sink := newImageSink(remoteJob())
			wait := 10 * time.Second
			if !comes {
				wait = 50 * time.Millisecond
			}
			_, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 30, Join: join, Wait: wait})
			switch {
			case comes && err != nil:
				t.Error(err)
			case comes:
				sink.check(t)
			case !errors.Is(err, ErrNoDevice) || !errors.Is(err, ErrLost):
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestRemoteFrozen has a host that computes for ever: the other ends the job.
func TestRemoteFrozen(t *testing.T) {
	good := startHost(t, nil, &mandelDevice{id: "good", pause: time.Millisecond})
	frozen := startHost(t, nil, &mandelDevice{id: "frozen", fault: hang})
	devices := append(good.dial(t, nil).Devices(), frozen.dial(t, nil).Devices()...)
	sink := newImageSink(remoteJob())
	if _, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 20}); err != nil {
		t.Fatal(err)
	}
	sink.check(t)
}

// TestRemoteFailure has a kernel that says no: its words reach the coordinator.
func TestRemoteFailure(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(context.Context) error { return errors.New("no such luck") }})
	_, err := Run(t.Context(), remoteJob(), h.dial(t, nil).Devices(), newImageSink(remoteJob()), Options{Tiles: 4})
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), h.addr+"/d") {
		t.Errorf("the error is %v", err)
	}
}

// TestRemoteCancel cancels a job: the host is free at once.
func TestRemoteCancel(t *testing.T) {
	var running atomic.Int32
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(ctx context.Context) error {
		running.Add(1)
		defer running.Add(-1)
		return hang(ctx)
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, remoteJob(), h.dial(t, nil).Devices(), newImageSink(remoteJob()), Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	for range 200 {
		if running.Load() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the host is still at it")
}

// TestRemoteDrain has a host leave while it works: nothing is lost but what it
// had not begun, the session ends, and Serve returns.
func TestRemoteDrain(t *testing.T) {
	stays := startHost(t, nil, &mandelDevice{id: "stays", pause: time.Millisecond})
	d := &mandelDevice{id: "leaves", pause: time.Millisecond}
	leaves := NewHost("host leaves", []Device{d}, []DeviceInfo{{ID: d.id}}, nil)
	d.fault = func(context.Context) error {
		if d.tiles.Load() == 3 {
			leaves.Drain()
		}
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- leaves.Serve(t.Context(), l, nil) }()
	session, err := Dial(t.Context(), l.Addr().String(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	devices := append(stays.dial(t, nil).Devices(), session.Devices()...)
	sink := newImageSink(remoteJob())
	r, err := Run(t.Context(), remoteJob(), devices, sink, Options{Tiles: 100})
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t)
	if r.Lost != 0 || r.Retries != 0 || r.Devices[1].SetAside != nil || r.Devices[1].Tiles == 0 {
		t.Errorf("leaving in peace counts as a loss: %+v", r)
	}
	const limit = 10 * time.Second
	select {
	case <-session.Done():
		if err := session.Err(); !errors.Is(err, errDrained) {
			t.Errorf("the session ended with %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the session does not end")
	}
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve returned %v", err)
		}
		d.check(t)
	case <-time.After(limit):
		t.Error("Serve does not return")
	}
}

// TestTwoCoordinators has one host serve two at once.
func TestTwoCoordinators(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", pause: time.Millisecond})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			sink := newImageSink(remoteJob())
			if _, err := Run(t.Context(), remoteJob(), h.dial(t, nil).Devices(), sink, Options{Tiles: 30}); err != nil {
				t.Error(err)
			}
			sink.check(t)
		})
	}
	wg.Wait()
}
