package dist

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTrustCutsPeers meets peers that keep the handshake from ending.
func TestTrustCutsPeers(t *testing.T) {
	for name, peer := range map[string]func(net.Conn){
		"silent": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"deaf":   func(net.Conn) { time.Sleep(time.Hour) },
		"trickling": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for _, b := range []byte("\x16\x03\x01\x40\x00" + strings.Repeat("\x01", 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		key := NewKey()
		for _, side := range []string{"server", "client"} {
			t.Run(name+" "+side, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					trust := mustTrustKey(t, key)
					here, there := net.Pipe()
					go peer(there)
					start := time.Now()
					var err error
					if side == "server" {
						_, err = trust.Server(t.Context(), here)
					} else {
						_, err = trust.Client(t.Context(), here, "")
					}
					if d := time.Since(start); d != trustTimeout {
						t.Errorf("it took %v, want %v", d, trustTimeout)
					}
					if !errors.Is(err, ErrHandshakeTimeout) || errors.Is(err, ErrUntrusted) || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v, want %v alone", err, ErrHandshakeTimeout)
					}
					there.Close()
					time.Sleep(time.Hour)
				})
			})
		}
	}
}

// A peer with the key that does not confirm is cut like any other.
func TestTrustUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := mustTrustKey(t, NewKey())
		sc, cc := net.Pipe()
		s, _ := meet(
			func() (net.Conn, error) { return trust.Server(t.Context(), sc) },
			func() (net.Conn, error) { return nil, tls.Client(cc, trust.client).Handshake() },
		)
		if !errors.Is(s.err, ErrHandshakeTimeout) {
			t.Errorf("got %v, want %v", s.err, ErrHandshakeTimeout)
		}
	})
}

func TestTrustContext(t *testing.T) {
	for name, trust := range map[string]*Trust{"key": mustTrustKey(t, NewKey()), "plain": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for want, ctx := range map[error]func() (context.Context, context.CancelFunc){
					context.Canceled: func() (context.Context, context.CancelFunc) {
						ctx, cancel := context.WithCancel(t.Context())
						time.AfterFunc(time.Second, cancel)
						return ctx, cancel
					},
					context.DeadlineExceeded: func() (context.Context, context.CancelFunc) {
						return context.WithTimeout(t.Context(), time.Second)
					},
				} {
					here, there := net.Pipe()
					ctx, cancel := ctx()
					start := time.Now()
					_, err := trust.Server(ctx, here)
					cancel()
					if !errors.Is(err, want) || errors.Is(err, ErrUntrusted) || errors.Is(err, ErrHandshakeTimeout) != (want == context.DeadlineExceeded) {
						t.Errorf("got %v, want %v", err, want)
					}
					if d := time.Since(start); d != time.Second {
						t.Errorf("it took %v, want 1s", d)
					}
					if _, err := there.Read(make([]byte, 1)); err != io.EOF {
						t.Errorf("the connection was not closed: %v", err)
					}
					there.Close()
				}
			})
		})
	}
}

// The handshake leaves no deadline behind, nor does its context matter after.
func TestTrustOutlivesItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := mustTrustKey(t, NewKey())
		ctx, cancel := context.WithCancel(t.Context())
		sc, cc := net.Pipe()
		defer cc.Close()
		defer sc.Close()
		s, c := meet(
			func() (net.Conn, error) { return trust.Server(ctx, sc) },
			func() (net.Conn, error) { return trust.Client(ctx, cc, "") },
		)
		cancel()
		time.Sleep(time.Hour)
		converse(t, s, c)
	})
}
