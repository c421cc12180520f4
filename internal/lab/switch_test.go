//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// listenPackets opens a UDP socket on h.
func listenPackets(t testing.TB, h *Host) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	if err := h.Do(func() (err error) {
		c, err = net.ListenPacket("udp", h.IP+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// post sends one packet, and reports whether it comes, which it has a moment for.
func post(t testing.TB, from, to net.PacketConn, text string) bool {
	t.Helper()
	if _, err := from.WriteTo([]byte(text), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, mtu)
	to.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	n, _, err := to.ReadFrom(got)
	return err == nil && string(got[:n]) == text
}

// TestCut has packets go one way and not the other, and only between two of
// three.
func TestCut(t *testing.T) {
	l := New(t, 3)
	var conns []net.PacketConn
	for _, h := range l.hosts {
		conns = append(conns, listenPackets(t, h))
	}
	come := func(from, to int, want bool) {
		t.Helper()
		text := fmt.Sprint(from, to, want)
		came := post(t, conns[from], conns[to], text)
		for range 100 { // on a machine that is busy a moment may be too short
			if came == want {
				return
			}
			came = post(t, conns[from], conns[to], text)
		}
		t.Errorf("from %d to %d: packets come %v, want %v", from, to, came, want)
	}
	come(0, 1, true)
	l.Host(0).Cut(l.Host(1))
	come(0, 1, false)
	come(1, 0, true)
	come(0, 2, true)
	come(2, 1, true)
	l.Host(0).Mend(l.Host(1))
	come(0, 1, true)
	l.Host(2).Cut(l.Host(0), l.Host(1))
	come(2, 0, false)
	come(2, 1, false)
	come(0, 2, true)
}

// TestRoundTrip makes sure that a delay counts each way, on the lines of both
// hosts, and can be changed.
func TestRoundTrip(t *testing.T) {
	l := New(t, 2)
	c := dial(t, l.Host(0), serve(t, l.Host(1)))
	exchange(t, c, "quick")
	l.Host(0).SetLine(Line{Delay: 5 * time.Millisecond})
	l.Host(1).SetLine(Line{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
	for range 3 {
		began := time.Now()
		exchange(t, c, "slow")
		if took := time.Since(began); took < 30*time.Millisecond {
			t.Errorf("a round trip took %v", took)
		}
	}
}

// TestStream sends a stream over a line that does all that a line may, and
// changes meanwhile.
func TestStream(t *testing.T) {
	l := New(t, 2)
	l.Host(1).SetLine(Line{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.02, Rate: 20 << 20})
	c := dial(t, l.Host(0), serve(t, l.Host(1)))
	c.SetDeadline(time.Now().Add(hangLimit))
	text := make([]byte, 1<<20)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range text {
		text[i] = byte(source.Uint32())
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- err
	}()
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got[:len(got)/2])
	l.Host(1).SetLine(Line{})
	if err == nil {
		_, err = io.ReadFull(c, got[len(got)/2:])
	}
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("what came back differs (%v)", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// BenchmarkStream measures the switch with lines that add nothing, and with one
// of 100 Mbit/s, of which TCP can use 95.6 %.
func BenchmarkStream(b *testing.B) {
	for _, test := range []struct {
		name string
		line Line
	}{{"unshaped", Line{}}, {"100Mbit", Line{Rate: 100e6 / 8}}} {
		b.Run(test.name, func(b *testing.B) {
			l := New(b, 2)
			l.Host(1).SetLine(test.line)
			c := dial(b, l.Host(0), sink(b, l.Host(1)))
			data := make([]byte, 128<<10)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := c.Write(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// sink reads what it gets at an address of h until the test ends.
func sink(t testing.TB, h *Host) string {
	return listen(t, h, func(c net.Conn) { io.Copy(io.Discard, c) })
}
