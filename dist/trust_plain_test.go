package dist

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCheckPlain(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 9473} }
	unix := func(name string) net.Addr { return &net.UnixAddr{Name: name, Net: "unix"} }
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, addr := range []net.Addr{
		tcp("127.0.0.1"), tcp("127.0.0.2"), tcp("127.255.255.254"), tcp("::1"), tcp("::ffff:127.0.0.1"),
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4()}, unix("/run/gpurun.sock"), unix(""), unix("@"), a.LocalAddr(),
	} {
		if err := CheckPlain(addr); err != nil {
			t.Errorf("%v: %v", addr, err)
		}
	}
	for _, addr := range []net.Addr{
		nil, tcp("0.0.0.0"), tcp("::"), tcp(""), tcp("128.0.0.1"), tcp("126.255.255.255"), tcp("10.0.0.1"), tcp("192.168.1.1"),
		tcp("169.254.0.1"), tcp("fe80::1"), tcp("::2"), tcp("::ffff:10.0.0.1"), tcp("::127.0.0.1"), tcp("64:ff9b::7f00:1"),
		&net.TCPAddr{IP: net.IP{127}}, &net.TCPAddr{}, (*net.TCPAddr)(nil), (*net.UnixAddr)(nil), unix("@gpurun"), unix("\x00gpurun"),
		&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}, fakeAddr("127.0.0.1:9473"),
	} {
		err := CheckPlain(addr)
		if _, ok := errors.AsType[*PlainError](err); !ok {
			t.Errorf("%v: got %v, want a PlainError", addr, err)
			continue
		}
		for _, words := range []string{"gpurun keygen", "--key"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%q does not say %q", err, words)
			}
		}
	}
}

type fakeAddr string

func (fakeAddr) Network() string  { return "tcp" }
func (a fakeAddr) String() string { return string(a) }

// moved is a connection that says that it has other ends.
type moved struct {
	net.Conn
	local, remote net.Addr
}

func (m moved) LocalAddr() net.Addr  { return m.local }
func (m moved) RemoteAddr() net.Addr { return m.remote }

func TestPlainStaysOnThisMachine(t *testing.T) {
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	away := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	var none *Trust
	for _, ends := range [][2]net.Addr{{here, away}, {away, here}, {away, away}} {
		for _, dial := range []bool{false, true} {
			a, b := net.Pipe()
			conn := moved{a, ends[0], ends[1]}
			var err error
			if dial {
				_, err = none.Client(t.Context(), conn, "gpu1")
			} else {
				_, err = none.Server(t.Context(), conn)
			}
			if _, ok := errors.AsType[*PlainError](err); !ok {
				t.Errorf("%v: got %v, want a PlainError", ends, err)
			}
			if _, err := b.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("something was sent, or the connection not closed: %v", err)
			}
			b.Close()
		}
	}
}

func TestGreeting(t *testing.T) {
	for text, want := range map[string]error{
		plainGreeting:                      nil,
		plainGreeting + "more":             nil,
		"":                                 io.EOF,
		plainGreeting[:5]:                  io.EOF,
		"gpurun plain\n":                   ErrVersion,
		"gpurun plain 2\n":                 ErrVersion,
		"x":                                errProtocol,
		"\x16":                             ErrPeerTLS,
		string(plainAlert):                 ErrPeerTLS,
		"\x16\x03\x01\x02\x00 and so on …": ErrPeerTLS,
	} {
		whole := strings.NewReader(text)
		if err := receiveGreeting(whole); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
		if rest, _ := io.ReadAll(whole); want == nil && string(rest) != text[len(plainGreeting):] {
			t.Errorf("%q: %q is left", text, rest)
		}
		if err := receiveGreeting(iotest.OneByteReader(strings.NewReader(text))); !errors.Is(err, want) {
			t.Errorf("%q, byte by byte: got %v, want %v", text, err, want)
		}
	}
}
