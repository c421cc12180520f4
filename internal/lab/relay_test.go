//go:build linux

package lab

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// TestCorrupt counts the bits that a relay flips, of what passes it while it does.
func TestCorrupt(t *testing.T) {
	l := New(t, 2)
	r := l.Host(1).Relay(t, l.Host(1).IP, serve(t, l.Host(1)))
	c := dial(t, l.Host(0), r.Addr)
	const size = 100_000
	echo := func() (differ int) {
		t.Helper()
		sent, got := bytes.Repeat([]byte{0x55}, size), make([]byte, size)
		c.SetDeadline(time.Now().Add(hangLimit))
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i] != sent[i] {
				differ++
			}
		}
		return differ
	}
	if n := echo(); n != 0 {
		t.Errorf("%d bytes differ before", n)
	}
	r.Corrupt(0.01, 1)
	n, flipped := echo(), r.Corrupted()
	// Both ways: 2000 are expected, with a standard deviation of 44.
	if flipped < 1700 || flipped > 2300 {
		t.Errorf("%d bytes were flipped", flipped)
	}
	if n > flipped || n < flipped*9/10 {
		t.Errorf("%d bytes differ, and %d were flipped", n, flipped)
	}
	r.Corrupt(0, 1)
	if n := echo(); n != 0 || r.Corrupted() != flipped {
		t.Errorf("%d bytes differ after", n)
	}
	r.Corrupt(1, 1)
	echo()
	if n := r.Corrupted() - flipped; n != 2*size {
		t.Errorf("%d bytes were flipped, want all %d", n, 2*size)
	}
}

// TestCorruptSeeded makes sure that the same bytes are corrupted for the same seed.
func TestCorruptSeeded(t *testing.T) {
	corrupted := func(seed uint64) []byte {
		r := new(Relay)
		r.Corrupt(0.001, seed)
		data := make([]byte, 1<<16)
		r.corrupt(data)
		return data
	}
	if !bytes.Equal(corrupted(1), corrupted(1)) || bytes.Equal(corrupted(1), corrupted(2)) {
		t.Error("which bytes are corrupted does not follow from the seed")
	}
}

// TestReseed has the same packets get lost on a line for the same seed.
func TestReseed(t *testing.T) {
	l := New(t, 2)
	a, b := l.Host(0), l.Host(1)
	b.SetLine(Line{Loss: 0.5})
	from, to := listenPackets(t, a), listenPackets(t, b)
	lost := func(seed uint64) (pattern []bool) {
		t.Helper()
		l.Reseed(seed)
		for i := range 32 {
			if _, err := from.WriteTo([]byte{byte(i)}, to.(*net.UDPConn).LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		pattern = make([]bool, 32)
		got := make([]byte, 1)
		for to.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); ; {
			if _, _, err := to.ReadFrom(got); err != nil {
				return pattern
			}
			pattern[got[0]] = true
		}
	}
	first := lost(7)
	if !slices.Contains(first, true) || !slices.Contains(first, false) {
		t.Fatalf("all or none came: %v", first)
	}
	for range 100 { // on a machine that is busy some may come too late
		if slices.Equal(lost(7), first) {
			return
		}
		first = lost(7)
	}
	t.Error("which packets get lost does not follow from the seed")
}
