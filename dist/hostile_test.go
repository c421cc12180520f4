package dist

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// This file has connections that are no peers: whoever is at the other end has
// no key, or does not know that this is gpurun. None may cost much, and none may
// disturb a coordinator that keeps to the protocol. hostile_peer_test.go has
// those that have the key.

const (
	// crowd is how many come at once: fewer than a host looks at.
	crowd = 100

	// strangerBytes and strangerGoroutines bound what each may cost, both ends of
	// the connection together, and longestHello what the longest TLS message may
	// that crypto/tls waits for: it has 64 KiB, in a buffer that has doubled.
	// strangersLeave bounds what they all together may leave on the heap.
	strangerBytes      = 64 << 10
	longestHello       = 160 << 10
	strangerGoroutines = 6
	strangersLeave     = 512 << 10
)

// runHonestly has a coordinator connect and run a job, with the right result.
func runHonestly(t *testing.T, h *testHost, trust *Trust) {
	t.Helper()
	r, err := Dial(t.Context(), h.addr, "honest", trust)
	if err != nil {
		t.Errorf("the honest coordinator cannot connect: %v", err)
		return
	}
	defer r.Close()
	runHonestlyOn(t, r)
}

func runHonestlyOn(t *testing.T, r *RemoteHost) {
	t.Helper()
	sink := newImageSink(remoteJob())
	if _, err := Run(t.Context(), remoteJob(), r.Devices()[:1], sink, Options{Tiles: 20}); err != nil {
		t.Errorf("the honest coordinator's job: %v", err)
		return
	}
	sink.check(t)
}

// clientHello returns the first bytes of a TLS connection.
func clientHello(t *testing.T) []byte {
	t.Helper()
	var r recorder
	_ = tls.Client(&helloOnly{&r}, &tls.Config{NextProtos: []string{trustProtocol}, InsecureSkipVerify: true}).Handshake()
	if r.written.Len() < 100 {
		t.Fatal("there is no hello")
	}
	return r.written.Bytes()
}

// A stranger does what it does on a connection until that is closed.
type stranger func(c *net.TCPConn, rng *rand.Rand)

// endless says first, and then chunk for as long as anybody listens.
func endless(first, chunk string) stranger {
	return func(c *net.TCPConn, _ *rand.Rand) {
		more := []byte(chunk) // once: this test counts bytes
		for say := []byte(first); ; say = more {
			if _, err := c.Write(say); err != nil {
				return
			}
		}
	}
}

// stalled says all of what and waits.
func stalled(what string) stranger {
	return func(c *net.TCPConn, _ *rand.Rand) {
		_, _ = io.WriteString(c, what)
		_, _ = io.Copy(io.Discard, c)
	}
}

// trickling says a byte of what now and then.
func trickling(what string) stranger {
	return func(c *net.TCPConn, _ *rand.Rand) {
		for i := range len(what) {
			if _, err := io.WriteString(c, what[i:i+1]); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// tlsRecords returns records of a handshake message that claims size bytes and
// lacks the last.
func tlsRecords(size int) string {
	message := append([]byte{1, byte(size >> 16), byte(size >> 8), byte(size)}, make([]byte, size-1)...)
	var b strings.Builder
	for len(message) > 0 {
		n := min(len(message), 1<<14)
		b.Write([]byte{recordHandshake, 3, 1, byte(n >> 8), byte(n)})
		b.Write(message[:n])
		message = message[n:]
	}
	return b.String()
}

func allStrangers(t *testing.T) map[string]stranger {
	return map[string]stranger{
		"silent":             stalled(""),
		"slow":               trickling(string(clientHello(t))),
		"slow, in the clear": trickling(plainGreeting[:len(plainGreeting)-1]),
		"garbage": func(c *net.TCPConn, rng *rand.Rand) {
			b := make([]byte, 1<<10)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			endless("", string(b))(c, rng)
		},
		"TLS without end":       endless("\x16\x03\x01\x40\x00\x01\xff\xff\xff", strings.Repeat("\x00", 1<<12)),
		"the longest TLS hello": stalled(tlsRecords(1<<16 - 4)),
		"empty TLS records":     endless("", strings.Repeat("\x16\x03\x01\x00\x00", 100)),
		"HTTP without end":      endless("GET / HTTP/1.1\r\nX: ", strings.Repeat("a", 1<<12)),
		"gone":                  func(c *net.TCPConn, _ *rand.Rand) { c.Close() },
		"reset": func(c *net.TCPConn, _ *rand.Rand) {
			_, _ = io.WriteString(c, "\x16")
			_ = c.SetLinger(0)
			c.Close()
		},
	}
}

// TestStrangers has many strangers of each kind come at once, and an honest
// coordinator after them.
func TestStrangers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, trust := range map[string]*Trust{"plain": nil, "key": mustTrustKey(t, NewKey())} {
		for kind, act := range allStrangers(t) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				h := startHost(t, trust, &mandelDevice{id: "d"})
				runHonestly(t, h, trust)
				before := footprintNow()
				leave := comeAll(t, h.addr, crowd, act, seed)
				runHonestly(t, h, trust)
				cost := footprintNow().since(before)
				t.Logf("%d bytes and %.1f goroutines each", cost.bytes()/crowd, float64(cost.goroutines)/crowd)
				limit := int64(strangerBytes)
				if kind == "the longest TLS hello" {
					limit = longestHello
				}
				if cost.bytes() > crowd*limit || cost.goroutines > crowd*strangerGoroutines {
					t.Errorf("%d strangers cost %d bytes and %d goroutines", crowd, cost.bytes(), cost.goroutines)
				}
				leave()
				settle(t, before.goroutines)
				left := int64(0)
				if !within(t, 5*time.Second, "what they held is freed", func() bool {
					left = footprintNow().since(before).heap
					return left <= strangersLeave
				}) {
					t.Errorf("%d bytes are left of them", left)
				}
			})
		}
	}
}

// comeAll has n strangers connect, and returns when they all have had time to
// act. leave closes their connections.
func comeAll(t *testing.T, addr string, n int, act stranger, seed uint64) (leave func()) {
	t.Helper()
	var acting sync.WaitGroup
	var conns []net.Conn
	for i := range uint64(n) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		acting.Go(func() { act(c.(*net.TCPConn), rand.New(rand.NewPCG(seed, i))) })
	}
	time.Sleep(100 * time.Millisecond)
	return func() {
		for _, c := range conns {
			c.Close()
		}
		acting.Wait()
	}
}

// TestMoreStrangersThanAreLookedAt has more come than a host looks at, when a
// coordinator is there: it does not notice.
func TestMoreStrangersThanAreLookedAt(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	h := startHost(t, trust, &mandelDevice{id: "d", pause: time.Millisecond})
	r := h.dial(t, trust)
	runHonestlyOn(t, r)
	before := footprintNow()
	const many = maxStrangers + 200
	leave := comeAll(t, h.addr, many, stalled(""), 0)
	runHonestlyOn(t, r)
	var cost footprint
	// For each that is looked at, one of the host and one of the test.
	within(t, 5*time.Second, "those are forgotten that are not looked at", func() bool {
		cost = footprintNow().since(before)
		return cost.goroutines <= 2*maxStrangers+50
	})
	t.Logf("%d bytes and %.1f goroutines each", cost.bytes()/many, float64(cost.goroutines)/many)
	if cost.bytes() > many*strangerBytes {
		t.Errorf("%d strangers cost %d bytes and %d goroutines", many, cost.bytes(), cost.goroutines)
	}
	leave()
	settle(t, before.goroutines)
	runHonestly(t, h, trust) // and another can come again
}

// TestRefusedStrangersAreCut has strangers that are refused stay, and say no more.
// The host lets them read why, and forgets them soon.
func TestRefusedStrangersAreCut(t *testing.T) {
	for name, trust := range map[string]*Trust{"plain": nil, "key": mustTrustKey(t, NewKey())} {
		h := startHost(t, trust, &mandelDevice{id: "d"})
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "nonsense"); err != nil {
			t.Fatal(err)
		}
		within(t, 3*lingerTimeout, name+": the connection is closed", func() bool {
			time.Sleep(10 * time.Millisecond)
			_, err := c.Write([]byte{0}) // fails when it is not only half closed
			return err != nil
		})
	}
}

// TestStrangersAreCut has as many silent strangers as a host looks at. When
// their time is up it has forgotten all of them, and looks at others.
func TestStrangersAreCut(t *testing.T) {
	for name, trust := range map[string]*Trust{"plain": nil, "key": mustTrustKey(t, NewKey())} {
		for _, first := range []string{"", plainGreeting[:5], "\x16\x03\x01\x02\x00\x01"} {
			t.Run(fmt.Sprintf("%s/%.5q", name, first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := NewHost("host", nil, nil, nil)
					var serving sync.WaitGroup
					start := time.Now()
					meet := func(say string) (conn net.Conn, served <-chan error) {
						here, there := net.Pipe()
						ended := make(chan error, 1)
						serving.Go(func() { ended <- h.ServeConn(t.Context(), here, trust, "") })
						go func() {
							_, _ = io.WriteString(there, say)
							_, _ = io.Copy(io.Discard, there)
						}()
						return there, ended
					}
					for range maxStrangers {
						c, _ := meet(first)
						defer c.Close()
					}
					serving.Wait()
					if took := time.Since(start); took > handshakeLimit+2*lingerTimeout {
						t.Errorf("the crowd took %v", took)
					}
					c, served := meet("nonsense")
					if err := <-served; !errors.Is(err, errProtocol) && !errors.Is(err, ErrNotTLS) {
						t.Errorf("the next was not looked at: %v", err)
					}
					c.Close()
				})
			})
		}
	}
}
