package dist

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// tcpPair returns the two ends of a connection on the loopback interface.
func tcpPair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return connect(t, l, "tcp")
}

func unixPair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := ListenUnix(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return connect(t, l, "unix")
}

func connect(t *testing.T, l net.Listener, network string) (server, client net.Conn) {
	t.Helper()
	client, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return server, client
}

// outcome is what one side of a handshake came to.
type outcome struct {
	conn net.Conn
	err  error
}

// meet has both sides of a connection shake hands at the same time.
func meet(server, client func() (net.Conn, error)) (s, c outcome) {
	var both sync.WaitGroup
	both.Go(func() { s.conn, s.err = server() })
	both.Go(func() { c.conn, c.err = client() })
	both.Wait()
	return s, c
}

// meetTCP has a server that trusts st and a client that trusts ct meet.
func meetTCP(t *testing.T, st, ct *Trust, hostname string) (s, c outcome) {
	t.Helper()
	sc, cc := tcpPair(t)
	return meet(
		func() (net.Conn, error) { return st.Server(t.Context(), sc) },
		func() (net.Conn, error) { return ct.Client(t.Context(), cc, hostname) },
	)
}

func mustTrustKey(t testing.TB, key Key) *Trust {
	t.Helper()
	trust, err := TrustKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// converse sends data both ways, and fails unless it arrives.
func converse(t *testing.T, s, c outcome) {
	t.Helper()
	if s.err != nil || c.err != nil {
		t.Fatalf("server: %v; client: %v", s.err, c.err)
	}
	const size = 100_000
	data := bytes.Repeat([]byte("0123456789"), size/10)
	for _, way := range [][2]net.Conn{{s.conn, c.conn}, {c.conn, s.conn}} {
		got := make([]byte, size)
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := way[0].Write(data); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if _, err := io.ReadFull(way[1], got); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if !bytes.Equal(got, data) {
			t.Error("the data did not arrive as it was sent")
		}
	}
}

// wantRefused fails unless err has the reason, is ErrUntrusted, and says all of
// the words on one line.
func wantRefused(t *testing.T, side string, err, reason error, words ...string) {
	t.Helper()
	if _, ok := errors.AsType[*HandshakeError](err); !ok || !errors.Is(err, reason) || !errors.Is(err, ErrUntrusted) {
		t.Errorf("%s: got %v, want a HandshakeError with the reason %q", side, err, reason)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not say %q", side, err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %q has several lines", side, err)
	}
}

func TestTrustSameKey(t *testing.T) {
	key := NewKey()
	parsed, err := ParseKey(key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string]func(*testing.T) (net.Conn, net.Conn){
		"tcp": tcpPair, "unix": unixPair, "pipe": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
	} {
		for kind, trusts := range map[string][2]*Trust{
			"key": {mustTrustKey(t, key), mustTrustKey(t, parsed)}, "plain": {},
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				sc, cc := pair(t)
				defer cc.Close()
				defer sc.Close()
				s, c := meet(
					func() (net.Conn, error) { return trusts[0].Server(t.Context(), sc) },
					func() (net.Conn, error) { return trusts[1].Client(t.Context(), cc, "") },
				)
				converse(t, s, c)
			})
		}
	}
}

func TestTrustIsConcurrent(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	var all sync.WaitGroup
	for range 8 {
		sc, cc := tcpPair(t)
		all.Go(func() {
			s, c := meet(
				func() (net.Conn, error) { return trust.Server(t.Context(), sc) },
				func() (net.Conn, error) { return trust.Client(t.Context(), cc, "a.example") },
			)
			if s.err != nil || c.err != nil {
				t.Errorf("server: %v; client: %v", s.err, c.err)
			}
		})
	}
	all.Wait()
}

func TestTrustNoKey(t *testing.T) {
	if _, err := TrustKey(Key{}); err == nil {
		t.Error("the zero key was taken")
	}
}

// The identity must not change between versions of gpurun.
func TestTrustIdentity(t *testing.T) {
	key, err := ParseKey(knownKey)
	if err != nil {
		t.Fatal(err)
	}
	// By another implementation of RFC 5869 and RFC 8032.
	const want = "cec1b1c0d267a140fc866136e33931e7e01740f7551b9d5e22f24a85e7605490"
	if got := fmt.Sprintf("%x", mustTrustKey(t, key).identity); got != want {
		t.Errorf("the public key is %s, want %s", got, want)
	}
	one, two := mustTrustKey(t, key).server.Certificates[0], mustTrustKey(t, key).server.Certificates[0]
	if !bytes.Equal(one.Certificate[0], two.Certificate[0]) {
		t.Error("the certificate is not always the same")
	}
}

func TestTrustWrongKey(t *testing.T) {
	s, c := meetTCP(t, mustTrustKey(t, NewKey()), mustTrustKey(t, NewKey()), "gpu1")
	wantRefused(t, "client", c.err, ErrWrongKey, "gpu1 (127.0.0.1:", "this side's key", "same --key file")
	wantRefused(t, "server", s.err, ErrPeerRefused, "127.0.0.1:", "this side's key", "same --key file")
}

func TestTrustWrongKeyOnASocket(t *testing.T) {
	sc, cc := unixPair(t)
	s, c := meet(
		func() (net.Conn, error) { return mustTrustKey(t, NewKey()).Server(t.Context(), sc) },
		func() (net.Conn, error) { return mustTrustKey(t, NewKey()).Client(t.Context(), cc, "") },
	)
	wantRefused(t, "client", c.err, ErrWrongKey, cc.RemoteAddr().String(), "this side's key")
	wantRefused(t, "server", s.err, ErrPeerRefused, "a process on this machine", "this side's key")
}

func TestTrustMissingKey(t *testing.T) {
	trust := mustTrustKey(t, NewKey())
	t.Run("client", func(t *testing.T) {
		s, c := meetTCP(t, trust, nil, "gpu1")
		wantRefused(t, "client", c.err, ErrPeerTLS, "pass --key")
		wantRefused(t, "server", s.err, ErrNotTLS, "without a key", "same --key file")
	})
	t.Run("server", func(t *testing.T) {
		s, c := meetTCP(t, nil, trust, "gpu1")
		wantRefused(t, "client", c.err, ErrNotTLS, "without a key", "same --key file")
		wantRefused(t, "server", s.err, ErrPeerTLS, "pass --key")
	})
}

// impostor is a configuration of TLS with which somebody without the key tries
// to get past trust.
func impostor(trust *Trust, change func(*tls.Config)) *tls.Config {
	config := trust.client.Clone()
	config.VerifyConnection = nil
	config.ClientAuth = tls.RequireAnyClientCert
	change(config)
	return config
}

// noKey has the right certificate, without its private key.
func noKey(config *tls.Config) {
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	config.Certificates[0].PrivateKey = other
	certificate := config.Certificates[0]
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
}

func TestTrustServerRefusesImpostors(t *testing.T) {
	key := NewKey()
	other := mustTrustKey(t, NewKey()).server.Certificates[0]
	for name, test := range map[string]struct {
		change func(*tls.Config)
		reason error
	}{
		"wrong key": {func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &other, nil }
		}, ErrWrongKey},
		"no certificate": {func(c *tls.Config) { c.GetClientCertificate, c.Certificates = nil, nil }, ErrNoCertificate},
		"no private key": {noKey, errProtocol},
		"no protocol":    {func(c *tls.Config) { c.NextProtos = nil }, errProtocol},
		"other protocol": {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, errProtocol},
		"TLS 1.2":        {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, errProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			trust := mustTrustKey(t, key)
			sc, cc := tcpPair(t)
			s, c := meet(
				func() (net.Conn, error) { return trust.Server(t.Context(), sc) },
				func() (net.Conn, error) {
					conn := tls.Client(cc, impostor(mustTrustKey(t, key), test.change))
					defer cc.Close()
					return conn, receiveConfirm(conn)
				},
			)
			wantRefused(t, "server", s.err, test.reason)
			if c.err == nil {
				t.Error("the client was let in")
			}
		})
	}
}

func TestTrustClientRefusesImpostors(t *testing.T) {
	key := NewKey()
	for name, test := range map[string]struct {
		change func(*tls.Config)
		reason error
	}{
		"no private key": {noKey, errProtocol},
		"no protocol":    {func(c *tls.Config) { c.NextProtos = nil }, errProtocol},
		"other protocol": {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, ErrPeerRefused},
		"TLS 1.2":        {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, ErrPeerRefused},
		"asks nothing": {func(c *tls.Config) {
			c.ClientAuth = tls.NoClientCert
			c.Certificates = mustTrustKey(t, NewKey()).server.Certificates
		}, ErrWrongKey},
	} {
		t.Run(name, func(t *testing.T) {
			trust := mustTrustKey(t, key)
			sc, cc := tcpPair(t)
			_, c := meet(
				func() (net.Conn, error) {
					conn := tls.Server(sc, impostor(mustTrustKey(t, key), test.change))
					defer sc.Close()
					if err := sendConfirm(conn); err != nil {
						return nil, err
					}
					return conn, receiveConfirm(conn)
				},
				func() (net.Conn, error) { return trust.Client(t.Context(), cc, "") },
			)
			wantRefused(t, "client", c.err, test.reason)
		})
	}
}

func TestTrustGarbage(t *testing.T) {
	for name, trust := range map[string]*Trust{"key": mustTrustKey(t, NewKey()), "plain": nil} {
		for _, garbage := range []string{
			"", "\x00", "g", "gpurun", "gpurun plain?", "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n",
			"\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", "\x16\x03\x01\x00\x04\x01\xff\xff\xff",
			"\x15\x03\x03\x00\x02\x02\x28", "\x80\x2e\x01\x00\x02", strings.Repeat("\xff", 100_000),
			"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x04\x00\x00",
		} {
			for side, shake := range map[string]func(*Trust, net.Conn) (net.Conn, error){
				"server": func(trust *Trust, c net.Conn) (net.Conn, error) { return trust.Server(t.Context(), c) },
				"client": func(trust *Trust, c net.Conn) (net.Conn, error) { return trust.Client(t.Context(), c, "") },
			} {
				t.Run(fmt.Sprintf("%s %s %.20q", name, side, garbage), func(t *testing.T) {
					here, there := tcpPair(t)
					got, _ := meet(
						func() (net.Conn, error) { return shake(trust, here) },
						func() (net.Conn, error) {
							_, _ = io.WriteString(there, garbage)
							_ = there.(*net.TCPConn).CloseWrite()
							_, _ = io.Copy(io.Discard, there)
							return nil, nil
						},
					)
					if _, ok := errors.AsType[*HandshakeError](got.err); !ok || got.conn != nil || errors.Is(got.err, ErrHandshakeTimeout) {
						t.Errorf("got %v, %v", got.conn, got.err)
					}
					if len(garbage) > 12 && !errors.Is(got.err, ErrUntrusted) {
						t.Errorf("%v is not ErrUntrusted", got.err)
					}
				})
			}
		}
	}
}

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.written.Write(p)
	return r.Conn.Write(p)
}

func TestTrustHidesData(t *testing.T) {
	marker := []byte("a marker that is looked for on the wire")
	for name, trust := range map[string]*Trust{"key": mustTrustKey(t, NewKey()), "plain": nil} {
		t.Run(name, func(t *testing.T) {
			sc, cc := tcpPair(t)
			ends := [2]*recorder{{Conn: sc}, {Conn: cc}}
			s, c := meet(
				func() (net.Conn, error) { return trust.Server(t.Context(), ends[0]) },
				func() (net.Conn, error) { return trust.Client(t.Context(), ends[1], "") },
			)
			if s.err != nil || c.err != nil {
				t.Fatalf("server: %v; client: %v", s.err, c.err)
			}
			for i, way := range [][2]net.Conn{{s.conn, c.conn}, {c.conn, s.conn}} {
				got := make([]byte, len(marker))
				if _, err := way[0].Write(marker); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, marker) {
					t.Fatalf("read %q, %v", got, err)
				}
				wire := ends[i].written.Bytes()
				if seen := bytes.Contains(wire, marker); seen != (trust == nil) {
					t.Errorf("the marker is on the wire: %v", seen)
				}
				if trust != nil && (bytes.Contains(wire, trust.identity) || bytes.Contains(wire, []byte(identityName))) {
					t.Error("the certificate is on the wire")
				}
			}
		})
	}
}

// A peer has a say in what errors tell: in the names of its certificate.
func TestHandshakeErrorIsPrintable(t *testing.T) {
	err := &HandshakeError{
		Peer: "a\x1b[2J", Reason: ErrCertificate, Advice: "do something",
		Err: errors.New("b\nc\u202e\xff " + strings.Repeat("d", 10_000)),
	}
	text := err.Error()
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != unicode.ReplacementChar }) {
		t.Errorf("%q cannot be printed", text)
	}
	if len(text) > 500 || !strings.HasSuffix(text, "…): do something") {
		t.Errorf("%q is too long, or has lost its end", text)
	}
}
