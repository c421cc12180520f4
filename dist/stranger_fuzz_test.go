package dist

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// strangerFactor and strangerBase bound what a stranger can make this side
// allocate: so many times what it sends, and the buffers of a session, with a
// frame on each stream of which only the header has come.
const (
	strangerFactor = 40
	strangerBase   = 1 << 20
)

// meetStranger has one side of a session, of the kind, meet a peer that sends
// data and then closes the connection. It returns what the side returns.
func meetStranger(t testing.TB, kind byte, key *Trust, data []byte) error {
	here, there := net.Pipe()
	defer here.Close()
	var peer sync.WaitGroup
	defer peer.Wait()
	defer there.Close()
	said := make(chan struct{})
	peer.Go(func() {
		defer close(said)
		_, _ = there.Write(data)
	})
	peer.Go(func() {
		defer there.Close()
		for b := make([]byte, 4096); ; {
			_ = there.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := there.Read(b); errors.Is(err, os.ErrDeadlineExceeded) {
				select {
				case <-said:
					return // all has been said, and nothing is heard any more
				default:
				}
			} else if err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	trust := key
	if kind%2 == 0 {
		trust = nil
	}
	dialled := ""
	if kind/4%2 == 1 {
		dialled = "localhost"
	}
	if kind/2%2 == 0 {
		return NewHost("host", nil, nil, nil).ServeConn(ctx, here, trust, dialled)
	}
	r, err := newRemoteHost(ctx, here, "pipe", "coordinator", trust, dialled)
	if err == nil {
		r.Close()
	}
	return err
}

// sent returns the bytes of the dialler and of the other side of a session
// without trust, until it stands.
func sent(t testing.TB) (dialler, other []byte) {
	a, b := net.Pipe()
	ends := [2]*recorder{{Conn: a}, {Conn: b}}
	var both, standing sync.WaitGroup
	standing.Add(2)
	for i, end := range ends {
		both.Go(func() {
			conn, err := secure(t.Context(), end, nil, []string{"localhost", ""}[i])
			var s *session
			if err == nil {
				s, err = newSession(t.Context(), conn, i == 0, helloMessage{Name: "a", Devices: []DeviceInfo{{ID: "cpu", Slots: 1}}})
			}
			standing.Done()
			if err != nil {
				t.Error(err)
				return
			}
			standing.Wait()
			s.close(errors.New("enough"))
		})
	}
	both.Wait()
	return ends[0].written.Bytes(), ends[1].written.Bytes()
}

// FuzzStranger sends bytes to either side of a connection that is to be a
// session, dialled or not, with a key and without.
func FuzzStranger(f *testing.F) {
	dialler, other := sent(f)
	var hello recorder
	_ = tls.Client(&helloOnly{recorder: &hello}, &tls.Config{NextProtos: []string{trustProtocol}, InsecureSkipVerify: true}).Handshake()
	for kind := range byte(8) {
		for _, data := range [][]byte{
			nil, dialler, other, dialler[:len(dialler)-1], dialler[:len(dialler)/2], hello.written.Bytes(),
			[]byte(plainGreeting), appendRecord([]byte(plainGreeting), []byte(preamble)), []byte(plainGreeting + preamble), []byte("GET / HTTP/1.1\r\n\r\n"),
			[]byte(plainGreeting + strings.Repeat("\xff", 100)), plainAlert,
			appendRecord(slices.Clone(dialler), []byte{0, muxTypeData, 0, 0, 0, 0, 0, muxControl, 0, 12, 0, 0}), // 768 KiB
		} {
			f.Add(kind, data)
		}
	}
	key := mustTrustKey(f, NewKey())
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		before := runtime.NumGoroutine()
		allocates(t, strangerBase+strangerFactor*len(data), "a stranger", func() {
			start := time.Now()
			err := meetStranger(t, kind, key, data)
			if took := time.Since(start); took > 8*time.Second {
				t.Fatalf("it took %v to be rid of a stranger that had gone", took)
			}
			if err == nil && kind%2 == 1 {
				t.Fatal("a stranger without the key was taken")
			}
		})
		settle(t, before)
	})
}

// helloOnly is a connection on which nothing is ever heard.
type helloOnly struct{ *recorder }

func (h *helloOnly) Write(p []byte) (int, error)      { return h.written.Write(p) }
func (h *helloOnly) Read([]byte) (int, error)         { return 0, io.EOF }
func (h *helloOnly) SetDeadline(time.Time) error      { return nil }
func (h *helloOnly) SetWriteDeadline(time.Time) error { return nil }
func (h *helloOnly) Close() error                     { return nil }
