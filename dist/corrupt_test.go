package dist

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// badLine is a connection that flips a bit of what is read, and of what is written,
// every now and then.
type badLine struct {
	net.Conn
	in, out flipper
}

// flipper flips one bit among mean bytes or so, the first one so many bytes on.
type flipper struct {
	rng     *rand.Rand
	mean    int
	left    int
	flipped *atomic.Int32
}

func (f *flipper) flip(p []byte) {
	for len(p) > f.left {
		p[f.left] ^= 1 << f.rng.IntN(8)
		p = p[f.left+1:]
		f.left = f.rng.IntN(2 * f.mean)
		f.flipped.Add(1)
	}
	f.left -= len(p)
}

func (l *badLine) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.in.flip(p[:n])
	return n, err
}

func (l *badLine) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	l.out.flip(p)
	return l.Conn.Write(p)
}

// TestJobsOverABadLine has jobs computed by a host over lines that flip bits, which
// is dialled again each time, and by a device of this machine: the bits are right, and
// where something was found it is said.
func TestJobsOverABadLine(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var flipped, found, fine atomic.Int32
	h := startHost(t, nil, &mandelDevice{id: "far"})
	for round := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, round))
		join := make(chan Device, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		var dialling sync.WaitGroup
		dialling.Go(func() {
			for n := uint64(0); ctx.Err() == nil; n++ {
				mean := 1000 << rng.IntN(6)
				conn, dialled, err := dial(ctx, h.addr)
				if err != nil {
					continue
				}
				line := &badLine{Conn: conn}
				for i, f := range []*flipper{&line.in, &line.out} {
					*f = flipper{rand.New(rand.NewPCG(seed+round, 2*n+uint64(i))), mean, rng.IntN(2 * mean), &flipped}
				}
				limited, stop := context.WithTimeout(ctx, 100*time.Millisecond)
				r, err := newRemoteHost(limited, line, h.addr, "test", nil, dialled)
				stop()
				if err == nil {
					join <- r.Devices()[0]
					select {
					case <-r.Done():
					case <-ctx.Done():
					case <-time.After(time.Second): // it waits for a record that claims to be longer
					}
					r.Close()
					err = r.Err()
				}
				if errors.Is(err, ErrCorrupt) {
					found.Add(1)
				}
			}
		})
		sink := newImageSink(remoteJob())
		r, err := Run(t.Context(), remoteJob(), []Device{&mandelDevice{id: "near", pause: 4 * time.Millisecond}}, sink,
			Options{Tiles: 60, Join: join, Wait: 10 * time.Second})
		cancel()
		dialling.Wait()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		sink.check(t)
		for _, d := range r.Devices[1:] {
			fine.Add(int32(d.Tiles))
		}
	}
	t.Logf("%d bits were flipped, %d found here; the far device computed %d tiles", flipped.Load(), found.Load(), fine.Load())
	if flipped.Load() == 0 || found.Load() == 0 || fine.Load() == 0 {
		t.Error("nothing was tested")
	}
}

// TestCorruptSession flips one bit of a session: whoever reads it says so, in the
// handshake and after it, and the other sees that the session has ended.
func TestCorruptSession(t *testing.T) {
	const mean = 1 << 30 // no second one
	for name, test := range map[string]struct {
		in, out int // which byte
		here    bool
	}{
		"hello":                    {len(plainGreeting) + recordHeader + 20, mean, true},
		"hello of the coordinator": {mean, len(plainGreeting) + recordHeader + 20, false},
		"tiles":                    {20_000, mean, true},
		"leases":                   {mean, 3000, false},
	} {
		t.Run(name, func(t *testing.T) {
			device := &mandelDevice{id: "d"}
			host := NewHost("host", []Device{device}, []DeviceInfo{{ID: "d"}}, nil)
			near, far := tcpPair(t)
			served := make(chan error, 1)
			go func() { served <- host.ServeConn(t.Context(), far, nil, "") }()
			var flipped atomic.Int32
			line := &badLine{Conn: near}
			line.in = flipper{rand.New(rand.NewPCG(1, 1)), mean, test.in, &flipped}
			line.out = flipper{rand.New(rand.NewPCG(1, 2)), mean, test.out, &flipped}
			r, err := newRemoteHost(t.Context(), line, "host:1", "test", nil, "localhost")
			if err == nil {
				defer r.Close()
				sink := newImageSink(remoteJob())
				_, err = Run(t.Context(), remoteJob(), r.Devices(), sink, Options{Tiles: 200})
			}
			there := <-served
			device.check(t)
			said := there
			if test.here {
				said = err
			}
			if err == nil || said == nil || flipped.Load() != 1 {
				t.Fatalf("%d bits were flipped; here: %v; there: %v", flipped.Load(), err, there)
			}
			// By chance the bit makes a record longer than all that is still to come.
			if strings.Contains(said.Error(), "nothing was heard") {
				return
			}
			if !errors.Is(said, ErrCorrupt) || !strings.Contains(said.Error(), "127.0.0.1:") {
				t.Errorf("%q does not name the peer", said)
			}
		})
	}
}
