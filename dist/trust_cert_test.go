package dist

import (
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/testca"
)

// mustTrustCertificates returns the trust of a side whose certificate signer
// has signed as change wants it, and that trusts the authority trusted.
func mustTrustCertificates(t *testing.T, signer, trusted *testca.Authority, change func(*x509.Certificate)) *Trust {
	t.Helper()
	cert, key := signer.Sign(change)
	trust, err := TrustCertificates(cert, key, trusted.File)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func early(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
func clientOnly(c *x509.Certificate) {
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

func TestTrustCertificates(t *testing.T) {
	a, b := testca.New(t), testca.New(t)
	signed := func(change func(*x509.Certificate)) *Trust { return mustTrustCertificates(t, a, a, change) }
	good, foreign, key := signed(nil), mustTrustCertificates(t, b, a, nil), mustTrustKey(t, NewKey())
	for name, test := range map[string]struct {
		server, client *Trust
		hostname       string
		serverReason   error // nil: it works
		clientReason   error
		words          string // of the side that says no
	}{
		"name":               {server: good, client: signed(nil), hostname: "localhost"},
		"address":            {server: good, client: signed(nil), hostname: "127.0.0.1"},
		"usage":              {server: signed(testca.ServerOnly), client: signed(clientOnly), hostname: "localhost"},
		"wrong name":         {good, good, "gpu1.example", ErrPeerRefused, ErrCertificate, "dial it by a name in its"},
		"wrong address":      {good, good, "127.0.0.2", ErrPeerRefused, ErrCertificate, "dial it by a name in its"},
		"foreign server":     {foreign, good, "localhost", ErrPeerRefused, ErrCertificate, "--tls-ca has signed"},
		"foreign client":     {good, foreign, "localhost", ErrCertificate, ErrPeerRefused, "--tls-ca has signed"},
		"expired server":     {signed(testca.Expired), good, "localhost", ErrPeerRefused, ErrCertificate, "in force"},
		"expired client":     {good, signed(testca.Expired), "localhost", ErrCertificate, ErrPeerRefused, "in force"},
		"early client":       {good, signed(early), "localhost", ErrCertificate, ErrPeerRefused, "in force"},
		"client's as server": {signed(clientOnly), good, "localhost", ErrPeerRefused, ErrCertificate, "serverAuth"},
		"server's as client": {good, signed(testca.ServerOnly), "localhost", ErrCertificate, ErrPeerRefused, "clientAuth"},
		"key server":         {key, good, "localhost", ErrPeerRefused, ErrCertificate, "it has a --key"},
		"key client":         {good, key, "localhost", ErrPeerRefused, ErrWrongKey, "same --key file"},
		"plain server":       {nil, good, "localhost", ErrPeerTLS, ErrNotTLS, "started without certificates"},
		"plain client":       {good, nil, "localhost", ErrNotTLS, ErrPeerTLS, "or --tls-cert"},
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
	a := testca.New(t)
	sc, cc := tcpPair(t)
	if _, err := mustTrustCertificates(t, a, a, nil).Client(t.Context(), cc, ""); err == nil {
		t.Error("a certificate was verified without a name")
	}
	if n, err := sc.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the connection was not closed")
	}
}

func TestTrustCertificateFiles(t *testing.T) {
	a, dir := testca.New(t), t.TempDir()
	cert, key := a.Sign(nil)
	_, other := a.Sign(nil)
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxPEMBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ cert, key, ca, words string }{
		{"", key, a.File, "--tls-cert is missing"},
		{cert, "", a.File, "--tls-key is missing"},
		{cert, key, "", "--tls-ca is missing"},
		{cert, other, a.File, "does not match"},
		{key, key, a.File, "--tls-cert " + key},
		{cert, key, key, "--tls-ca " + key + ": there is no PEM certificate"},
		{cert, key, large, "too large"},
		{cert, key, dir, "not a regular file"},
		{cert, filepath.Join(dir, "none"), a.File, "--tls-key " + filepath.Join(dir, "none")},
	} {
		if _, err := TrustCertificates(test.cert, test.key, test.ca); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("got %v, want %q", err, test.words)
		}
	}
}

// The private key is as secret as a key of gpurun, and is refused by the same
// modes; the other two files are for everybody.
func TestTrustCertificatePrivateKeyIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	a := testca.New(t)
	cert, key := a.Sign(nil)
	for mode, open := range map[fs.FileMode]bool{
		0o400: false, 0o600: false, 0o700: false, 0o604: true, 0o640: true, 0o601: true, 0o620: true, 0o666: true,
	} {
		for path, mode := range map[string]fs.FileMode{key: mode, cert: 0o644, a.File: 0o644} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		_, err := TrustCertificates(cert, key, a.File)
		if !open {
			if err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
			continue
		}
		want := fmt.Sprintf("--tls-key: key file %s: others have access to it (mode %04o); run chmod 600 on it", key, mode)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "keygen") {
			t.Errorf("mode %04o: got %v", mode, err)
		}
	}
}
