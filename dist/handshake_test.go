package dist

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// greetings runs a handshake, of which the bytes go through the two functions,
// where they are not nil.
func greetings(t *testing.T, delay time.Duration, fromDialler, fromOther func([]byte) []byte) (errs [2]error, trips [2]time.Duration, peers [2]helloMessage) {
	t.Helper()
	near, nearEnd := net.Pipe()
	farEnd, far := net.Pipe()
	pass := func(to, from net.Conn, change func([]byte) []byte) {
		defer to.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			time.Sleep(delay)
			p := b[:n]
			if change != nil {
				p = change(p)
			}
			if _, err := to.Write(p); err != nil {
				return
			}
		}
	}
	go pass(farEnd, nearEnd, fromDialler)
	go pass(nearEnd, farEnd, fromOther)
	done := make(chan struct{})
	go func() {
		defer close(done)
		peers[1], trips[1], errs[1] = greet(far, false, helloMessage{Name: "other", Devices: []DeviceInfo{{ID: "d"}}})
		far.Close()
	}()
	peers[0], trips[0], errs[0] = greet(near, true, helloMessage{Name: "dialler"})
	near.Close()
	<-done
	return errs, trips, peers
}

func TestGreet(t *testing.T) {
	const delay = 20 * time.Millisecond
	errs, trips, peers := greetings(t, delay, nil, nil)
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	if peers[0].Name != "other" || len(peers[0].Devices) != 1 || peers[1].Name != "dialler" {
		t.Errorf("the peers are %+v", peers)
	}
	for i, trip := range trips {
		if trip < 2*delay {
			t.Errorf("side %d has measured a round trip of %v where it takes %v", i, trip, 2*delay)
		}
	}
}

// TestGreetMisfits checks that each side says what does not fit of the other.
func TestGreetMisfits(t *testing.T) {
	replace := func(at int, with byte) func([]byte) []byte {
		return func(p []byte) []byte {
			if len(p) > at {
				p[at] = with
			}
			return p
		}
	}
	// Behind preamble and header come the map's first byte and key 1.
	kernelsAt := len(preamble) + frameHeader + 2
	for name, test := range map[string]struct {
		change func([]byte) []byte
		says   string
	}{
		"another protocol":            {replace(0, 'X'), "begins with"},
		"another version":             {replace(len(preamble)-1, 1), "version 1 and this is version 4"},
		"kernels of another version":  {replace(kernelsAt, kernels.Version+1), "kernels of version"},
		"a message that is no hello":  {replace(len(preamble), byte(typePing)), "where a hello was due"},
		"a message that is too long":  {replace(len(preamble)+7, 0x7f), "bytes"},
		"a message that is not sound": {replace(len(preamble)+frameHeader, 0xff), "message 1"},
	} {
		for side := range 2 {
			change := [2]func([]byte) []byte{}
			change[1-side] = test.change
			errs, _, _ := greetings(t, 0, change[0], change[1])
			if !errors.Is(errs[side], ErrProtocol) || !strings.Contains(errs[side].Error(), test.says) {
				t.Errorf("%s, side %d: %v", name, side, errs[side])
			}
			if got, want := errors.Is(errs[side], ErrVersion), strings.Contains(name, "version"); got != want {
				t.Errorf("%s, side %d: it is about the version: %v, want %v", name, side, got, want)
			}
		}
	}
}

// TestGreetWithOddNames has a driver whose name is not UTF-8.
func TestGreetWithOddNames(t *testing.T) {
	m := helloMessage{Name: "a\xffb", Devices: []DeviceInfo{{ID: "d", Name: "GPU\xae\n"}}}
	got := m.printable()
	if got.Name != "a\uFFFDb" || got.Devices[0].Name != "GPU\uFFFD\uFFFD" || m.Devices[0].Name != "GPU\xae\n" {
		t.Errorf("%+v becomes %+v", m, got)
	}
}

func TestWindows(t *testing.T) {
	for _, test := range []struct {
		roundTrip time.Duration
		want      uint32
	}{
		{0, 1 << 20}, {50 * time.Microsecond, 1 << 20}, {time.Second / 256, 4 << 20}, {time.Second, 16 << 20}, {time.Hour, 16 << 20},
	} {
		if got := windowFor(test.roundTrip); got != test.want {
			t.Errorf("the window for %v is %d, want %d", test.roundTrip, got, test.want)
		}
	}
}

// TestStrangersMakeRoom checks that who has been there longest makes room for others.
func TestStrangersMakeRoom(t *testing.T) {
	var s strangers
	var ends []net.Conn
	for range maxStrangers + 3 {
		near, far := net.Pipe()
		s.admit(near)
		ends = append(ends, far)
		defer far.Close()
		defer near.Close()
	}
	s.dismiss(ends[0]) // not one of them
	for i, far := range ends {
		far.SetReadDeadline(time.Now())
		_, err := far.Read(make([]byte, 1))
		if gone := errors.Is(err, io.EOF); gone != (i < 3) {
			t.Errorf("stranger %d: %v", i, err)
		}
	}
	if len(s.conns) != maxStrangers {
		t.Errorf("%d strangers are left", len(s.conns))
	}
	s.dismiss(s.conns[5])
	if len(s.conns) != maxStrangers-1 {
		t.Error("a stranger does not go")
	}
}
