package dist

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"unicode"
)

// ErrUntrusted is matched by every *HandshakeError that another attempt will
// not cure: the two sides do not trust each other as they were started, or the
// peer is something else than gpurun. The other handshake errors are of the
// network, or of a peer that is slow.
var ErrUntrusted = errors.New("the peer is not trusted")

// The reasons for which a handshake fails, in HandshakeError.Reason. Test for
// them with errors.Is.
var (
	// ErrWrongKey: this side has a key, and the peer has another one, or
	// certificates.
	ErrWrongKey = errors.New("it does not have this side's key")

	// ErrNoCertificate: the peer speaks TLS but shows no certificate.
	ErrNoCertificate = errors.New("it shows no certificate")

	// ErrCertificate: the peer's certificate is not of our authority, not in
	// force, or not for the name that was dialled. HandshakeError.Err is what
	// crypto/x509 says about it.
	ErrCertificate = errors.New("its certificate is not valid here")

	// ErrPeerRefused: the peer refused what this side showed.
	ErrPeerRefused = errors.New("it refused this side")

	// ErrNotTLS: this side wants TLS, and the peer does not speak it.
	ErrNotTLS = errors.New("it does not speak TLS")

	// ErrPeerTLS: the peer wants TLS, and this side has no trust.
	ErrPeerTLS = errors.New("it wants a key or certificates, and this side has neither")

	// ErrHandshakeTimeout: the peer did not answer in time.
	ErrHandshakeTimeout = errors.New("it did not complete the handshake in time")

	// errProtocol: the peer does not do what gpurun does.
	errProtocol = errors.New("it does not speak gpurun's protocol")

	// errBrokenOff: the connection ended.
	errBrokenOff = errors.New("the connection ended during the handshake")
)

// HandshakeError says why Trust.Server or Trust.Client failed.
type HandshakeError struct {
	Peer   string // the peer's address, and the name that was dialled
	Reason error  // such as ErrWrongKey
	Err    error  // what is known beyond that; may be nil
	Advice string // who should do what
}

// Error returns the peer, the reason, the cause and what to do, on one line of
// printable characters.
func (e *HandshakeError) Error() string {
	s := printable(e.Peer) + ": " + e.Reason.Error()
	if e.Err != nil {
		s += " (" + printable(e.Err.Error()) + ")"
	}
	return s + ": " + e.Advice
}

// Unwrap returns the reason and the cause.
func (e *HandshakeError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// Is tells whether target is ErrUntrusted and e is of that kind.
func (e *HandshakeError) Is(target error) bool {
	return target == ErrUntrusted && e.Reason != ErrHandshakeTimeout && e.Reason != errBrokenOff
}

// failure turns the error of a handshake into what the caller is told.
func (t *Trust) failure(peer string, err error) *HandshakeError {
	e := &HandshakeError{Peer: peer}
	e.Reason, e.Err = classify(err)
	e.Advice = t.advice(e.Reason, e.Err)
	return e
}

// classify sorts the error of a handshake, and returns with it what is known
// beyond that.
func classify(err error) (reason, cause error) {
	for _, reason := range []error{ErrWrongKey, ErrNoCertificate, ErrPeerTLS, errProtocol} {
		if errors.Is(err, reason) {
			return reason, nil
		}
	}
	record, isRecord := errors.AsType[tls.RecordHeaderError](err)
	chain, isChain := errors.AsType[*tls.CertificateVerificationError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isChain:
		return ErrCertificate, chain.Err
	case isRecord && record.Conn != nil: // not even the first record
		return ErrNotTLS, nil
	case isOp && op.Op == "remote error": // crypto/tls: the peer sent an alert
		return ErrPeerRefused, op.Err
	case err != nil && strings.Contains(err.Error(), "didn't provide a certificate"):
		return ErrNoCertificate, nil // crypto/tls has no type for it
	case err == nil, isOp && op.Op != "local error",
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return errBrokenOff, err
	}
	return errProtocol, err
}

// timedOut returns the error of a handshake that was cut, by the end of the
// caller's context if err is not nil, which is its error.
func (t *Trust) timedOut(peer string, err error) *HandshakeError {
	e := &HandshakeError{Peer: peer, Reason: ErrHandshakeTimeout, Err: err}
	if errors.Is(err, context.Canceled) {
		e.Reason = errBrokenOff
	}
	e.Advice = t.advice(e.Reason, err)
	return e
}

// advice says who should do what about a handshake that failed.
func (t *Trust) advice(reason, cause error) string {
	same, without := "give both sides the same --key file", "a key"
	certificates := t != nil && t.identity == nil
	if certificates {
		same, without = "give both sides --tls-cert, --tls-key and --tls-ca, with certificates of one authority", "certificates"
	}
	switch reason {
	case ErrCertificate:
		return certificateAdvice(cause)
	case ErrWrongKey, ErrNoCertificate:
		return same
	case ErrPeerRefused:
		if certificates {
			return "its messages say why; its --tls-ca has to have signed this side's --tls-cert, which must be in force, for this use, and for the name that was dialled"
		}
		return "it does not have this side's key: " + same
	case ErrNotTLS:
		return "if it is gpurun it was started without " + without + ": " + same + "; else check the address"
	case ErrPeerTLS:
		return "pass --key with the key file that the other side has, or --tls-cert, --tls-key and --tls-ca if it has those"
	case ErrHandshakeTimeout:
		return "check the address, and that gpurun runs there"
	case errProtocol:
		return "check the address, and that both sides are of the same version of gpurun"
	}
	return "the messages of the other side may say why"
}

// certificateAdvice says who should do what about a certificate.
func certificateAdvice(cause error) string {
	if name, ok := errors.AsType[x509.HostnameError](cause); ok {
		if name.Certificate.Subject.CommonName == identityName {
			return "it has a --key where this side has --tls-cert: give both sides the same"
		}
		return "dial it by a name in its --tls-cert, or give it a certificate for this name"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](cause); ok {
		switch invalid.Reason {
		case x509.Expired:
			return "give it a certificate that is in force, and check the clocks of both sides"
		case x509.IncompatibleUsage:
			return "give it a certificate with extended key usage serverAuth to listen, clientAuth to dial"
		}
	}
	return "give it a --tls-cert that an authority in this side's --tls-ca has signed"
}

// maxCauseRunes bounds the text of a cause, parts of which the peer may have
// chosen: the names in a certificate.
const maxCauseRunes = 300

// printable returns s without what could deceive the reader of a log.
func printable(s string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		switch n++; {
		case n == maxCauseRunes:
			return '…'
		case n > maxCauseRunes:
			return -1
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// peerName names the peer of conn for errors. hostname may be empty.
func peerName(conn net.Conn, hostname string) string {
	addr := conn.RemoteAddr()
	switch a := addr.(type) {
	case nil:
		return "the peer"
	case *net.UnixAddr:
		if a == nil || a.Name == "" || a.Name == "@" { // a client's end has no name
			return "a process on this machine"
		}
		return a.Name
	case *net.TCPAddr:
		if hostname != "" && hostname != a.IP.String() {
			return hostname + " (" + a.String() + ")"
		}
	}
	return addr.String()
}
