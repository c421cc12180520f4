package dist

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestHostStats compares what a host has counted with the report of its coordinator,
// for two jobs and one that fails.
func TestHostStats(t *testing.T) {
	d := &mandelDevice{id: "d"}
	h := startHost(t, nil, d)
	remote := h.dial(t, nil)
	job := remoteJob()
	for n := int64(1); n <= 2; n++ {
		sink := newImageSink(job)
		r, err := Run(t.Context(), job, remote.Devices(), sink, Options{Tiles: 12})
		if err != nil {
			t.Fatal(err)
		}
		sink.check(t)
		got := h.Stats().Devices[0]
		if got.ID != "d" || got.Done != n*int64(r.Devices[0].Tiles) || got.Elements != n*int64(job.Bounds().Area()) || got.Busy <= 0 || got.Failed+got.Lost != 0 {
			t.Errorf("after %d jobs of %d tiles the host has %+v", n, r.Devices[0].Tiles, got)
		}
	}
	within(t, 5*time.Second, "nothing is left", func() bool { s := h.Stats(); return s.Leases == 0 && s.Jobs == 0 })
	if s := h.Stats(); s.Coordinators != 1 || s.Sessions != 1 || s.Draining {
		t.Errorf("with a coordinator that is idle: %+v", s)
	}
	remote.Close()
	within(t, 5*time.Second, "the coordinator is gone", func() bool { return h.Stats().Coordinators == 0 })
	h.Drain()
	if !h.Stats().Draining {
		t.Error("it does not drain")
	}
}

// TestHostStatsOfFailures has a host's device fail, and then be stopped in a tile.
func TestHostStatsOfFailures(t *testing.T) {
	var hangs atomic.Bool
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(ctx context.Context) error {
		if hangs.Load() {
			return hang(ctx)
		}
		return errors.New("at once")
	}})
	remote := h.dial(t, nil)
	job := remoteJob()
	if _, err := Run(t.Context(), job, remote.Devices(), newImageSink(job), Options{Tiles: 1}); !errors.Is(err, ErrTileFailed) {
		t.Errorf("a device that fails ended the job with %v", err)
	}
	if d := h.Stats().Devices[0]; d.Failed != 1 || d.Done+d.Elements != 0 {
		t.Errorf("after a failure it has %+v", d)
	}
	hangs.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, job, remote.Devices(), newImageSink(job), Options{Tiles: 1})
		ended <- err
	}()
	within(t, 5*time.Second, "a lease and a job are there", func() bool { s := h.Stats(); return s.Leases == 1 && s.Jobs == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	within(t, 5*time.Second, "the tile is lost, and nothing is left", func() bool {
		s := h.Stats()
		return s.Devices[0].Lost == 1 && s.Leases == 0 && s.Jobs == 0
	})
}

// TestHostStatsOfBrokenSession ends a session while leases are out: none is counted on.
func TestHostStatsOfBrokenSession(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", fault: hang})
	remote := h.dial(t, nil)
	job := remoteJob()
	ended := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), job, remote.Devices(), newImageSink(job), Options{Tiles: 4})
		ended <- err
	}()
	within(t, 5*time.Second, "leases are there", func() bool { return h.Stats().Leases > 0 })
	remote.Close()
	if err := <-ended; !errors.Is(err, ErrNoDevice) {
		t.Errorf("it ended with %v", err)
	}
	within(t, 5*time.Second, "nothing is left", func() bool {
		s := h.Stats()
		return s.Leases == 0 && s.Jobs == 0 && s.Coordinators == 0
	})
}

// TestRefusals has peers turned away, each for another reason.
func TestRefusals(t *testing.T) {
	ours, err := TrustKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := TrustKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	plain, h := startHost(t, nil, &mandelDevice{id: "p"}), startHost(t, ours, &mandelDevice{id: "d"})
	if _, err := Dial(t.Context(), h.addr, "stranger", theirs); err == nil {
		t.Error("another key was good enough")
	}
	for _, says := range []string{"GET / HTTP/1.1\r\n\r\n", plainGreeting + "nonsense", plainGreeting + preamble[:len(preamble)-1] + "\xff", ""} {
		conn, err := net.Dial("tcp", plain.addr)
		if err != nil {
			t.Fatal(err)
		}
		if records, ok := strings.CutPrefix(says, plainGreeting); ok {
			_, _ = conn.Write([]byte(plainGreeting))
			_, _ = newCheckedConn(conn).Write([]byte(records))
		} else {
			_, _ = conn.Write([]byte(says))
		}
		if says == "" {
			conn.Close()
		} else {
			defer conn.Close()
		}
	}
	within(t, 5*time.Second, "one peer with another key was turned away", func() bool { return h.Stats().Refused[RefusedUntrusted] == 1 })
	within(t, 5*time.Second, "four were turned away", func() bool {
		r := plain.Stats().Refused
		return r[RefusedProtocol] == 2 && r[RefusedVersion] == 1 && r[RefusedOther] == 1
	})
	if s := plain.Stats(); s.Sessions != 0 || s.Coordinators != 0 {
		t.Errorf("sessions began: %+v", s)
	}
}
