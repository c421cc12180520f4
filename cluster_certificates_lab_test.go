//go:build linux

package gpurun_test

import (
	"crypto/x509"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/internal/testca"
)

// What a side says that was refused, and what one that refuses; both go on with
// what crypto/tls or crypto/x509 says.
const (
	isRefused = "it refused this side (tls: "
	refuses   = "its certificate is not valid here (x509: "
)

// testCertificates has the sides know each other by certificates for their
// addresses: host 0 coordinates, host 1 has all in order, and host 2 has not.
func testCertificates(t *testing.T, p *program) {
	l := lab.New(t, 3)
	ours, theirs := testca.New(t), testca.New(t)
	worker := p.certifiedWorker(t, l.Host(1), certified(l.Host(1), ours, ours, nil))
	inOrder := certified(l.Host(0), ours, ours, nil)

	name := filepath.Join(t.TempDir(), "out.npy")
	args := append([]string{"mandel", "--device", "none", "--quiet", "--json", "-o", name, "--hosts", listens(l.Host(1))}, inOrder...)
	j := &job{p.start(t, l.Host(0), append(args, labView...)...), p, name}
	if r := j.finish(t); tiles(r, l.Host(1)) == 0 {
		t.Errorf("the devices are %+v", r.Devices)
	}

	// A host that joins is one that dials.
	at := l.Host(0).IP + ":9474"
	p.start(t, l.Host(2), append([]string{"worker", "--join", at, "--device", "cpu"}, certified(l.Host(2), ours, ours, nil)...)...)
	if code, said := p.small(t, l.Host(0), inOrder, "--listen", at, "--wait", "5m"); code != 0 {
		t.Errorf("with a host that joins: exit code %d: %s", code, said)
	}

	testCertificatesOfCoordinators(t, p, l, worker, ours, theirs)
	testCertificatesOfHosts(t, p, l, inOrder, ours, theirs)
}

// testCertificatesOfCoordinators has coordinators whose certificates are not in
// order: they and the worker are told.
func testCertificatesOfCoordinators(t *testing.T, p *program, l *lab.Lab, worker *lab.Process, ours, theirs *testca.Authority) {
	addr := listens(l.Host(1))
	for name, test := range map[string]struct {
		flags      []string
		says, logs string // the coordinator, and the worker
	}{
		"of another authority": {
			certified(l.Host(0), theirs, ours, nil), isRefused + "unknown certificate authority)", refuses + "certificate signed by unknown authority",
		},
		"trusts another authority": {
			certified(l.Host(0), ours, theirs, nil), refuses + "certificate signed by unknown authority", isRefused + "bad certificate)",
		},
		"expired": {
			certified(l.Host(0), ours, ours, testca.Expired), isRefused + "expired certificate)", refuses + "certificate has expired",
		},
		"only to listen": {
			certified(l.Host(0), ours, ours, testca.ServerOnly), isRefused, "extended key usage serverAuth to listen, clientAuth to dial",
		},
	} {
		code, said := p.small(t, l.Host(0), test.flags, "--hosts", addr)
		if code != 1 || !strings.HasPrefix(said, "gpurun: ") || !strings.Contains(said, addr) || !strings.Contains(said, test.says) {
			t.Errorf("%s: exit code %d, want %q: %s", name, code, test.says, said)
		}
		worker.WaitFor(test.logs)
	}
}

// testCertificatesOfHosts has host 2 serve with certificates that are not in
// order, which is a note beside the host whose certificate is.
func testCertificatesOfHosts(t *testing.T, p *program, l *lab.Lab, inOrder []string, ours, theirs *testca.Authority) {
	good, h := l.Host(1), l.Host(2)
	for name, test := range map[string]struct {
		flags []string
		says  string
	}{
		"of another authority": {certified(h, theirs, ours, nil), "certificate signed by unknown authority"},
		"expired":              {certified(h, ours, ours, testca.Expired), "certificate has expired"},
		"of another host":      {certified(good, ours, ours, nil), "certificate is valid for " + good.IP + ", not " + h.IP},
	} {
		w := p.certifiedWorker(t, h, test.flags)
		code, said := p.small(t, l.Host(0), inOrder, "--hosts", listens(good)+","+listens(h))
		if code != 0 || !strings.Contains(said, "note: host "+listens(h)+" is not there") || !strings.Contains(said, refuses+test.says) {
			t.Errorf("%s: exit code %d, want %q: %s", name, code, test.says, said)
		}
		w.WaitFor(isRefused)
		w.Signal(syscall.SIGKILL)
		w.Wait()
	}
}

// certified returns the flags of a side that has a certificate for h's address,
// which signer has signed as change, unless nil, wants it, and that trusts the
// authority trusted.
func certified(h *lab.Host, signer, trusted *testca.Authority, change func(*x509.Certificate)) []string {
	cert, key := signer.Sign(func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, []net.IP{net.ParseIP(h.IP)}
		if change != nil {
			change(c)
		}
	})
	return []string{"--tls-cert", cert, "--tls-key", key, "--tls-ca", trusted.File}
}

// certifiedWorker starts a worker on h and waits until it listens.
func (p *program) certifiedWorker(t *testing.T, h *lab.Host, flags []string) *lab.Process {
	t.Helper()
	w := p.start(t, h, append([]string{"worker", "--listen", listens(h), "--device", "cpu"}, flags...)...)
	w.WaitFor("listening at")
	return w
}

// small has h coordinate a small job, and returns how it ended and what it said.
func (p *program) small(t *testing.T, h *lab.Host, flags []string, args ...string) (code int, said string) {
	t.Helper()
	args = append([]string{"mandel", "--device", "none", "--size", "6x4"}, args...)
	c := p.start(t, h, append(args, flags...)...)
	code = c.Wait()
	return code, c.Said()
}
