package dist

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"time"
)

const (
	// trustTimeout is the longest that Server and Client take, before the
	// connection is closed on a peer that does not answer.
	trustTimeout = 10 * time.Second

	// A connection that is refused stays open so long, and takes in so much,
	// that the peer can read why: a TCP connection closed on unread bytes is
	// reset, and a reset may overtake the alert.
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10

	// trustProtocol is the application protocol in the TLS handshake (ALPN,
	// RFC 7301). Both sides insist on it, so that a certificate of the same
	// authority for another service cannot be used to answer for that service
	// here, or for gpurun there.
	trustProtocol = "gpurun"

	// trustConfirm is what each side says first inside the tunnel.
	trustConfirm = 1

	// identityContext is the info of the HKDF that makes the identity out of a
	// key. It keeps the identity apart from whatever else may one day be
	// derived from the key.
	identityContext = "gpurun 1 ed25519 identity"

	// identityName is the subject of the certificate made from a key. It is for
	// people, and for advice.
	identityName = "gpurun key"
)

// Trust says by what two sides know each other, and makes connections between
// them private. It is made by TrustKey or TrustCertificates; a nil *Trust is
// no trust, and then only what cannot leave this machine is used, in the clear
// (see CheckPlain).
//
// Whoever dials calls Client, whoever listens calls Server, whichever of them
// is the coordinator. Trust is mutual: whoever holds the key (or a certificate
// of the authority) may be either.
//
// On the wire: TLS 1.3 and nothing older (RFC 8446), no session tickets, a
// certificate from both sides, the application protocol "gpurun". Then, inside
// the tunnel, the server sends one byte of value 1, and when it has it the
// client does the same: in TLS 1.3 a client is ready before the server has
// looked at its certificate, and learns only here that it was taken. Without
// trust, the client sends "gpurun plain 4\n", and when it has it the server
// sends the same, and what follows is in records with checksums, by which bytes that
// have changed on the way are found (spec.md). What is in the tunnel or in the records
// is the caller's.
//
// A Trust does not change; its methods may be called at the same time.
type Trust struct {
	server, client *tls.Config

	// identity is the public key that both sides hold; nil with certificates.
	identity ed25519.PublicKey
}

// TrustKey trusts whoever holds key. It fails on the zero Key.
//
// Both sides have the same identity, an Ed25519 key pair whose seed is
// HKDF-SHA256 (RFC 5869) of the key, without salt, with the info
// "gpurun 1 ed25519 identity". Each shows a certificate that it has signed
// itself with it, and wants to see that public key in the other's; that the
// other has the private key too, TLS proves. The two cannot be played off
// against each other: what a client signs in the handshake differs from what a
// server signs (RFC 8446, section 4.4.3). Nothing else in the certificate
// counts: it does not expire, and the name that was dialled may be any. So the
// identity is that of all hosts together, and each of them can pretend to be
// another.
func TrustKey(key Key) (*Trust, error) {
	if key.secret == nil {
		return nil, &KeyError{Reason: "there is no key: read one with ReadKeyFile, or make one with NewKey"}
	}
	secret := key.secret()
	seed, err := hkdf.Key(sha256.New, secret[:], nil, identityContext, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("deriving the identity from the key: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	certificate, err := selfSigned(private)
	if err != nil {
		return nil, fmt.Errorf("making a certificate from the key: %w", err)
	}
	t := &Trust{identity: private.Public().(ed25519.PublicKey)}
	t.configure(certificate, nil)
	return t, nil
}

// selfSigned makes the certificate of a key's identity. Ed25519 needs no
// randomness, so it is the same each time.
func selfSigned(private ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: identityName},
		NotBefore:    time.Unix(0, 0).UTC(),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, section 4.1.2.5: no end
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

// maxPEMBytes bounds the files of TrustCertificates, in bytes.
const maxPEMBytes = 1 << 20

// TrustCertificates trusts whoever shows a certificate that an authority in
// caFile has signed. All files are PEM, of at most 1 MiB, and are read once:
// renewed ones count from the next start. certFile holds this side's
// certificate, followed by those between it and the authority, and keyFile its
// private key, without a passphrase. As by ReadKeyFile it is refused, with a
// *KeyError, if others have access to it.
//
// Certificates are verified as usual, expiry included; revocation lists are
// not. The side that dials also wants the name that it dialled among the names
// or IP addresses of the certificate. A certificate needs the extended key
// usage serverAuth on a side that listens, and clientAuth on one that dials,
// unless it lists none.
// Any certificate of the authority opens everything, so it should sign for
// nothing else than gpurun.
func TrustCertificates(certFile, keyFile, caFile string) (*Trust, error) {
	var pem [3][]byte
	for i, f := range []struct {
		flag, path string
		check      func(fs.FileInfo) error
	}{
		{"--tls-cert", certFile, nil},
		{"--tls-key", keyFile, ownerOnly("make a new key and certificate")},
		{"--tls-ca", caFile, nil},
	} {
		if f.path == "" {
			return nil, fmt.Errorf("%s is missing: --tls-cert, --tls-key and --tls-ca only work together", f.flag)
		}
		var err error
		pem[i], err = readBounded(f.path, maxPEMBytes, f.check)
		if e, ok := errors.AsType[*KeyError](err); ok {
			e.Path = f.path
			return nil, fmt.Errorf("%s: %w", f.flag, e)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w: name a PEM file of at most 1 MiB that this user may read", f.flag, f.path, err)
		}
	}
	certificate, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s with --tls-key %s: %w: "+
			"name the PEM files of a certificate and of its own private key, without a passphrase", certFile, keyFile, err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem[2]) {
		return nil, fmt.Errorf("--tls-ca %s: there is no PEM certificate in it: name the file of the authority's certificate", caFile)
	}
	t := &Trust{}
	t.configure(certificate, authorities)
	return t, nil
}

// configure makes both configurations: for the key if there are no
// authorities, else for them.
func (t *Trust) configure(certificate tls.Certificate, authorities *x509.CertPool) {
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             []string{trustProtocol},
		Certificates:           []tls.Certificate{certificate},
		VerifyConnection:       t.verify,
	}
	t.server, t.client = config.Clone(), config.Clone()
	t.server.ClientAuth = tls.RequireAnyClientCert
	if authorities != nil {
		t.server.ClientAuth, t.server.ClientCAs = tls.RequireAndVerifyClientCert, authorities
		t.client.RootCAs = authorities
	}
	// With a key, verify replaces chain and name.
	t.client.InsecureSkipVerify = authorities == nil
	// Left to itself, crypto/tls shows no certificate where the server names
	// other authorities, and the server could not say what is wrong with ours.
	t.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &certificate, nil
	}
}

// verify decides, in both modes and on both sides, before the handshake ends.
func (t *Trust) verify(state tls.ConnectionState) error {
	switch {
	case state.NegotiatedProtocol != trustProtocol, state.DidResume:
		return errProtocol
	case len(state.PeerCertificates) == 0:
		return ErrNoCertificate
	case t.identity == nil: // crypto/tls has verified the chain
		return nil
	}
	public, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || subtle.ConstantTimeCompare(public, t.identity) != 1 {
		return ErrWrongKey
	}
	return nil
}

// Server makes sure of the peer that dialled conn, and returns the connection
// to go on with. If it fails conn has been closed, and the error is a
// *HandshakeError, or *PlainError without trust.
//
// It takes at most 10 s, or until ctx ends, plus at most a second in which a
// refused peer may read why. ctx counts no longer when Server has returned. A
// read or write time-out on the connection returned is final, as in crypto/tls.
func (t *Trust) Server(ctx context.Context, conn net.Conn) (net.Conn, error) {
	peer := peerName(conn, "")
	if t == nil {
		return t.shake(ctx, conn, peer, func() (net.Conn, error) { return newCheckedConn(conn), plainServer(conn) })
	}
	return t.shake(ctx, conn, peer, func() (net.Conn, error) {
		c := tls.Server(conn, t.server)
		if err := c.Handshake(); err != nil {
			return nil, err
		}
		if err := sendConfirm(c); err != nil {
			return nil, err
		}
		return c, receiveConfirm(c)
	})
}

// Client makes sure of the peer to which conn was dialled, as Server does.
// hostname is the name or IP address that was dialled, without the port; it
// is what the peer's certificate has to be for, and names the peer in errors.
// Only TrustCertificates needs it.
func (t *Trust) Client(ctx context.Context, conn net.Conn, hostname string) (net.Conn, error) {
	peer := peerName(conn, hostname)
	if t == nil {
		return t.shake(ctx, conn, peer, func() (net.Conn, error) { return newCheckedConn(conn), plainClient(conn) })
	}
	config := t.client
	if t.identity == nil {
		if hostname == "" {
			conn.Close()
			return nil, fmt.Errorf("%s: its certificate cannot be verified without the name that was dialled", peer)
		}
		config = config.Clone()
		config.ServerName = hostname
	}
	return t.shake(ctx, conn, peer, func() (net.Conn, error) {
		c := tls.Client(conn, config)
		if err := c.Handshake(); err != nil {
			return nil, err
		}
		if err := receiveConfirm(c); err != nil {
			return nil, err
		}
		return c, sendConfirm(c)
	})
}

// shake runs a handshake on conn, which may block: conn is closed when its
// time is up. hands returns the connection to go on with.
func (t *Trust) shake(ctx context.Context, conn net.Conn, peer string, hands func() (net.Conn, error)) (net.Conn, error) {
	if t == nil {
		if err := checkPlainConn(conn); err != nil {
			conn.Close()
			return nil, err
		}
	}
	limited, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	stop := context.AfterFunc(limited, func() { conn.Close() })
	defer stop()

	secured, err := hands()
	if err == nil && stop() {
		return secured, nil
	}
	failure := t.failure(peer, err)
	if limited.Err() != nil && failure.Reason == errBrokenOff {
		failure = t.timedOut(peer, ctx.Err())
	}
	hangUp(conn, t.lastWords(err))
	return nil, failure
}

// lastWords returns what a peer understands that has not spoken TLS to a side
// with trust, or the other way round.
func (t *Trust) lastWords(err error) []byte {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case t == nil && errors.Is(err, ErrPeerTLS):
		return []byte(plainGreeting)
	case ok && record.Conn != nil:
		return plainAlert
	}
	return nil
}

// hangUp closes conn, after last words, such that the peer can read what it
// has been sent.
func hangUp(conn net.Conn, last []byte) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(lingerTimeout)); err != nil {
		return // it is closed already
	}
	if len(last) > 0 {
		if _, err := conn.Write(last); err != nil {
			return
		}
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// sendConfirm says inside the tunnel that this side is content with the peer.
func sendConfirm(w io.Writer) error {
	_, err := w.Write([]byte{trustConfirm})
	return err
}

// receiveConfirm waits until the peer says so.
func receiveConfirm(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if b[0] != trustConfirm {
		return errProtocol
	}
	return nil
}
