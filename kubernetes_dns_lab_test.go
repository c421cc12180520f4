//go:build linux

package gpurun_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/gpurun/gpurun/internal/lab"
)

// clusterDomain is what the names of a Kubernetes cluster's services end in.
const clusterDomain = ".default.svc.cluster.local."

// clusterNames stands for the DNS of a cluster, of which pods have the resolver's file.
type clusterNames struct {
	file string

	mu    sync.Mutex
	addrs map[string][4]byte
}

// serveNames has h answer what the names of pods are, until t ends.
func serveNames(t *testing.T, h *lab.Host) *clusterNames {
	t.Helper()
	n := &clusterNames{file: filepath.Join(t.TempDir(), "resolv.conf"), addrs: map[string][4]byte{}}
	text := fmt.Sprintf("nameserver %s\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", h.IP)
	if err := os.WriteFile(n.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var conn net.PacketConn
	if err := h.Do(func() (err error) { conn, err = net.ListenPacket("udp4", h.IP+":53"); return err }); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for packet := make([]byte, 512); ; {
			size, from, err := conn.ReadFrom(packet)
			if err != nil {
				return // closed
			}
			if answer := n.answer(packet[:size]); answer != nil {
				_, _ = conn.WriteTo(answer, from) // who asked asks again
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return n
}

// answer returns the answer to a question, or nil if it is none.
func (n *clusterNames) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return nil
	}
	n.mu.Lock()
	addr, known := n.addrs[m.Questions[0].Name.String()]
	n.mu.Unlock()
	m.Response, m.Additionals = true, nil
	switch q := m.Questions[0]; {
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5}
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: addr}}}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// set makes a name known, or, without an address, unknown.
func (n *clusterNames) set(name, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.addrs, name+clusterDomain)
	if ip := net.ParseIP(addr).To4(); ip != nil {
		n.addrs[name+clusterDomain] = [4]byte(ip)
	}
}
