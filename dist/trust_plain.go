package dist

import (
	"bytes"
	"io"
	"net"
)

// PlainError says that there is no trust where an address needs it.
type PlainError struct {
	Addr string // empty if there is none
}

// Error returns the address and what to do.
func (e *PlainError) Error() string {
	addr := e.Addr
	if addr == "" {
		addr = "an address that is not known"
	}
	return addr + " is not of this machine alone, and without a key or certificates only 127.0.0.1, [::1] and unix sockets are used: " +
		"run gpurun keygen -o cluster.key, copy the file to each host, and pass --key cluster.key on both sides; " +
		"or give both sides --tls-cert, --tls-key and --tls-ca"
}

// inProcess is the address of both ends of a net.Pipe.
var inProcess = func() net.Addr {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	return a.LocalAddr()
}()

// CheckPlain tells whether addr may be listened on, or be an end of a
// connection, without trust. It may if it cannot be reached from another
// machine: a loopback address (127.0.0.0/8, ::1, and those of 127.0.0.0/8
// mapped to IPv6), a unix socket that has a path or no name, or net.Pipe.
// Otherwise the error is a *PlainError; so it is for what CheckPlain does not
// know, for 0.0.0.0 and ::, and for an abstract unix socket, which has no
// permissions.
//
// Every user of this machine can reach a loopback address. A unix socket of
// ListenUnix keeps out all but one.
func CheckPlain(addr net.Addr) error {
	switch a := addr.(type) {
	case nil:
		return &PlainError{}
	case *net.TCPAddr:
		if a != nil && a.IP.IsLoopback() {
			return nil
		}
	case *net.UnixAddr:
		if a != nil && (len(a.Name) <= 1 || !abstract(a.Name)) {
			return nil
		}
	default:
		if addr == inProcess {
			return nil
		}
	}
	return &PlainError{Addr: addr.String()}
}

// abstract tells whether name is of a socket that is not in a file system
// (unix(7)). A lone @ is how an unnamed socket appears.
func abstract(name string) bool {
	return name != "" && (name[0] == '@' || name[0] == 0)
}

func checkPlainConn(conn net.Conn) error {
	if err := CheckPlain(conn.RemoteAddr()); err != nil {
		return err
	}
	return CheckPlain(conn.LocalAddr())
}

// plainAnyVersion is how the greetings of all versions begin: records follow, which no
// version before 3 has.
const plainAnyVersion = "gpurun plain"

// plainGreeting is what both sides say that have no trust, so that each can
// tell a peer that has. It does not begin like a TLS record, and is longer
// than the header of one: a TLS peer answers it at once.
const plainGreeting = plainAnyVersion + " " + string(rune('0'+protocolVersion)) + "\n"

// plainAlert is a TLS record with the fatal alert protocol_version (RFC 8446,
// section 6). It tells a peer that has sent no TLS that TLS is spoken here.
var plainAlert = []byte{recordAlert, 3, 3, 0, 2, 2, 70}

// The first byte of a TLS record (RFC 8446, section 5.1).
const (
	recordAlert     = 21
	recordHandshake = 22
)

func plainServer(conn net.Conn) error {
	if err := receiveGreeting(conn); err != nil {
		return err
	}
	return sendGreeting(conn)
}

func plainClient(conn net.Conn) error {
	if err := sendGreeting(conn); err != nil {
		return err
	}
	return receiveGreeting(conn)
}

func sendGreeting(w io.Writer) error {
	_, err := io.WriteString(w, plainGreeting)
	return err
}

// receiveGreeting reads the greeting of a peer without trust, and nothing
// after it. It does not wait for the rest of what cannot become the greeting.
func receiveGreeting(r io.Reader) error {
	var b [len(plainGreeting)]byte
	for n := 0; n < len(b); {
		m, err := r.Read(b[n:])
		n += m
		switch {
		case n > 0 && (b[0] == recordHandshake || b[0] == recordAlert):
			return ErrPeerTLS
		case bytes.HasPrefix([]byte(plainGreeting), b[:n]):
			if err != nil && n < len(b) {
				return err
			}
		case bytes.HasPrefix(b[:n], []byte(plainAnyVersion)):
			return versionError("it greets as another version does than %d", protocolVersion)
		default:
			return errProtocol
		}
	}
	return nil
}
