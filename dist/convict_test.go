package dist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// seesLies is an Options.Verify that knows the lies of lyingDevice.
func seesLies(_ context.Context, _ kernels.Tile, r *kernels.Result) error {
	if kernels.Elements[uint32](r.Planes[0])[0]&lie != 0 {
		return ErrWrong
	}
	return nil
}

func newLiar(id string) *lyingDevice {
	return &lyingDevice{fakeDevice: fakeDevice{id: id, slots: 1, rate: 1000}}
}

func checkCounts(t *testing.T, s *mapSink) {
	t.Helper()
	for place, n := range s.counts {
		if n != uint32(place) {
			t.Fatalf("element %d is %d", place, n)
		}
	}
}

// TestConvictedStayOut has a device found out in one run come again in it, and be given
// and come again in the next two, where it would be honest.
func TestConvictedStayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{60, 50}
		honest := &fakeDevice{id: "honest", slots: 2, rate: 1000}
		devices := []Device{honest, newLiar("liar")}
		var before Convicted
		for run := range 3 {
			again := newLiar("liar")
			again.lies.Store(-1 << 30)
			join := make(chan Device)
			ended := make(chan struct{})
			go func() {
				time.Sleep(time.Second) // it has been found out
				select {
				case join <- again:
				case <-ended:
				}
			}()
			honest.closed.Store(false)
			sink := &mapSink{job: job, counts: make([]uint32, job.w*job.h)}
			report, err := Run(t.Context(), job, devices, sink, Options{Tiles: 40, Verify: seesLies, Join: join, Convicted: before})
			close(ended)
			if err != nil {
				t.Fatal(err)
			}
			checkCounts(t, sink)
			checkReport(t, report, true)
			if n := again.tiles.Load(); n != 0 {
				t.Errorf("run %d: it came again and got %d tiles", run, n)
			}
			if len(report.Convicted) != 1 || !errors.Is(report.Convicted["liar"], ErrWrong) || report.Makespan < time.Second {
				t.Errorf("run %d: in %v %v were convicted", run, report.Makespan, report.Convicted)
			}
			if want := max(1, 2-run); len(report.Devices) != want {
				t.Errorf("run %d: the devices are %+v", run, report.Devices)
			}
			before = report.Convicted
			devices = []Device{again, honest}
		}
	})
}

// TestConvictedSessions has a device go after it has lied unseen, come back, and be found
// out: what it had computed before it went is computed again, too.
func TestConvictedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{60, 50}
		honest := &fakeDevice{id: "honest", slots: 1, rate: 1000}
		first, second := newLiar("liar"), newLiar("liar")
		second.lies.Store(1)
		first.fault = func(_ context.Context, _ kernels.Tile, n int) error {
			if n == 4 {
				return fmt.Errorf("%w: %w", ErrLost, errHostGone)
			}
			return nil
		}
		join := make(chan Device)
		go func() {
			time.Sleep(time.Second)
			join <- second
		}()
		sink := &mapSink{job: job, counts: make([]uint32, job.w*job.h)}
		report, err := Run(t.Context(), job, []Device{honest, first}, sink, Options{
			Tiles: 40, Join: join,
			Verify: func(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
				if second.tiles.Load() == 0 {
					return nil
				}
				return seesLies(ctx, t, r)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		checkCounts(t, sink)
		checkReport(t, report, true)
		if len(report.Devices) != 3 || first.tiles.Load() != 5 || second.tiles.Load() != 1 {
			t.Fatalf("the devices are %+v", report.Devices)
		}
		for _, d := range report.Devices[1:] {
			if d.Tiles != 0 || !errors.Is(d.SetAside, ErrWrong) {
				t.Errorf("the liar is %+v", d)
			}
		}
	})
}

// TestConvictedLeaving has a device lie that is about to leave: it is named all the same.
func TestConvictedLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := fakeJob{60, 50}
		honest := &fakeDevice{id: "honest", slots: 1, rate: 1000}
		liar := newLiar("liar")
		liar.slots = 2
		liar.lies.Store(1)
		liar.fault = func(_ context.Context, _ kernels.Tile, n int) error {
			if n == 0 {
				time.Sleep(time.Second) // its other tile waits for its turn, which comes after this
				return fmt.Errorf("%w: %w", ErrLost, errDrained)
			}
			return nil
		}
		report, err := Run(t.Context(), job, []Device{honest, liar}, &mapSink{job: job, counts: make([]uint32, job.w*job.h)}, Options{Tiles: 40, Verify: seesLies})
		if d := report.Devices[1]; err != nil || !errors.Is(d.SetAside, ErrWrong) || report.Convicted["liar"] == nil {
			t.Errorf("the liar is %+v, the error %v", d, err)
		}
	})
}

// TestConvictedAlone has nobody else to compute: the error says why the device does not,
// also after waiting for another, which its coming again does not prolong.
func TestConvictedAlone(t *testing.T) {
	why := Convicted{"liar": computing("liar", kernels.Tile{W: 3, H: 2}, ErrWrong), "another": computing("another", kernels.Tile{W: 1, H: 1}, ErrWrong)}
	for _, joins := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			devices, opts := []Device{newLiar("liar")}, Options{Convicted: why, Verify: seesLies}
			if joins {
				join := make(chan Device, 2)
				join <- devices[0]
				time.AfterFunc(30*time.Second, func() { join <- newLiar("liar") })
				devices, opts.Join, opts.Wait = nil, join, time.Minute
			}
			began := time.Now()
			report, err := Run(t.Context(), fakeJob{20, 20}, devices, newCheckSink(fakeJob{20, 20}), opts)
			const want = "another: set aside because of what it did before, computing tile 1×1+0+0: the result is wrong; " +
				"liar: set aside because of what it did before, computing tile 3×2+0+0: the result is wrong"
			if !errors.Is(err, ErrNoDevice) || !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), want) || len(report.Devices) != 0 {
				t.Errorf("the error is %v, the report %+v", err, report)
			}
			if took := time.Since(began); took != opts.Wait { // on the pretended clock
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestConvictionKeys has a host that joins by itself, twice, known by the same keys, and two
// that do, or that were dialled, by others.
func TestConvictionKeys(t *testing.T) {
	device := func(name string) *Host {
		return NewHost(name, []Device{&mandelDevice{id: "a"}, &mandelDevice{id: "b"}}, []DeviceInfo{{ID: "a"}, {ID: "b"}}, nil)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var joining sync.WaitGroup
	defer joining.Wait()
	defer cancel()
	keys := func(host *Host) (keys [2]string) {
		joining.Go(func() { _ = host.Join(ctx, l.Addr().String(), nil) }) // until the session is closed
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r, err := Accept(ctx, conn, "test", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for i, d := range r.Devices() {
			keys[i] = d.(*remoteDevice).key()
			if keys[i] == d.ID() {
				t.Errorf("the key %s has a port that will be another", keys[i])
			}
		}
		return keys
	}
	first, second, other := keys(device("one")), keys(device("one")), keys(device("two"))
	if first != second || first[0] == first[1] || first[0] == other[0] {
		t.Errorf("the keys are %v, %v and %v", first, second, other)
	}
	h := startHost(t, nil, &mandelDevice{id: "a"})
	for range 2 {
		if d := h.dial(t, nil).Devices()[0]; d.(*remoteDevice).key() != h.addr+"/a" {
			t.Errorf("dialled, the key is %s", d.(*remoteDevice).key())
		}
	}
}
