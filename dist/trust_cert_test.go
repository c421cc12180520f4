package dist

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for tests, which it keeps in files.
type authority struct {
	t           *testing.T
	dir         string
	certificate *x509.Certificate
	key         crypto.Signer
	file        string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	var err error
	if _, a.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("CERTIFICATE", der)
	return a
}

func (a *authority) write(kind string, der []byte) string {
	f, err := os.CreateTemp(a.dir, "*.pem")
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	if err := pem.Encode(f, &pem.Block{Type: kind, Bytes: der}); err != nil {
		a.t.Fatal(err)
	}
	return f.Name()
}

// sign returns the files of a new certificate, as change wants it, for
// localhost and 127.0.0.1.
func (a *authority) sign(change func(*x509.Certificate)) (certFile, keyFile string) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a host"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(template)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write("CERTIFICATE", der), a.write("PRIVATE KEY", key)
}

// trust returns the trust of a side that a has given a certificate, and that
// trusts whom by has.
func (a *authority) trust(by *authority, change func(*x509.Certificate)) *Trust {
	a.t.Helper()
	cert, key := a.sign(change)
	trust, err := TrustCertificates(cert, key, by.file)
	if err != nil {
		a.t.Fatal(err)
	}
	return trust
}

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
func early(c *x509.Certificate)   { c.NotBefore = time.Now().Add(time.Minute) }
func serverOnly(c *x509.Certificate) {
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}
func clientOnly(c *x509.Certificate) {
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

func TestTrustCertificates(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	good, key := a.trust(a, nil), mustTrustKey(t, NewKey())
	for name, test := range map[string]struct {
		server, client *Trust
		hostname       string
		serverReason   error // nil: it works
		clientReason   error
		words          string // of the side that says no
	}{
		"name":               {server: good, client: a.trust(a, nil), hostname: "localhost"},
		"address":            {server: good, client: a.trust(a, nil), hostname: "127.0.0.1"},
		"usage":              {server: a.trust(a, serverOnly), client: a.trust(a, clientOnly), hostname: "localhost"},
		"wrong name":         {good, good, "gpu1.example", ErrPeerRefused, ErrCertificate, "dial it by a name in its"},
		"wrong address":      {good, good, "127.0.0.2", ErrPeerRefused, ErrCertificate, "dial it by a name in its"},
		"foreign server":     {b.trust(a, nil), good, "localhost", ErrPeerRefused, ErrCertificate, "--tls-ca has signed"},
		"foreign client":     {good, b.trust(a, nil), "localhost", ErrCertificate, ErrPeerRefused, "--tls-ca has signed"},
		"expired server":     {a.trust(a, expired), good, "localhost", ErrPeerRefused, ErrCertificate, "in force"},
		"expired client":     {good, a.trust(a, expired), "localhost", ErrCertificate, ErrPeerRefused, "in force"},
		"early client":       {good, a.trust(a, early), "localhost", ErrCertificate, ErrPeerRefused, "in force"},
		"client's as server": {a.trust(a, clientOnly), good, "localhost", ErrPeerRefused, ErrCertificate, "serverAuth"},
		"server's as client": {good, a.trust(a, serverOnly), "localhost", ErrCertificate, ErrPeerRefused, "clientAuth"},
		"key server":         {key, good, "localhost", ErrPeerRefused, ErrCertificate, "it has a --key"},
		"key client":         {good, key, "localhost", ErrPeerRefused, ErrWrongKey, "same --key file"},
		"plain server":       {nil, good, "localhost", ErrPeerTLS, ErrNotTLS, "--tls-cert"},
		"plain client":       {good, nil, "localhost", ErrNotTLS, ErrPeerTLS, "--tls-cert"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := meetTCP(t, test.server, test.client, test.hostname)
			if test.serverReason == nil {
				converse(t, s, c)
				return
			}
			wantRefused(t, "server", s.err, test.serverReason)
			wantRefused(t, "client", c.err, test.clientReason)
			if s.err != nil && c.err != nil && !strings.Contains(s.err.Error()+c.err.Error(), test.words) {
				t.Errorf("neither says %q:\nserver: %v\nclient: %v", test.words, s.err, c.err)
			}
		})
	}
}

func TestTrustCertificatesNeedAName(t *testing.T) {
	a := newAuthority(t)
	sc, cc := tcpPair(t)
	if _, err := a.trust(a, nil).Client(t.Context(), cc, ""); err == nil {
		t.Error("a certificate was verified without a name")
	}
	if n, err := sc.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the connection was not closed")
	}
}

func TestTrustCertificateFiles(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.sign(nil)
	_, other := a.sign(nil)
	large := filepath.Join(a.dir, "large")
	if err := os.WriteFile(large, make([]byte, maxPEMBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ cert, key, ca, words string }{
		{"", key, a.file, "--tls-cert is missing"},
		{cert, "", a.file, "--tls-key is missing"},
		{cert, key, "", "--tls-ca is missing"},
		{cert, other, a.file, "does not match"},
		{key, key, a.file, "--tls-cert " + key},
		{cert, key, key, "--tls-ca " + key + ": there is no PEM certificate"},
		{cert, key, large, "too large"},
		{cert, key, a.dir, "not a regular file"},
		{cert, filepath.Join(a.dir, "none"), a.file, "--tls-key " + filepath.Join(a.dir, "none")},
	} {
		if _, err := TrustCertificates(test.cert, test.key, test.ca); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("got %v, want %q", err, test.words)
		}
	}
}
