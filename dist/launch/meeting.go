package launch

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
)

// Meeting is what rank 0 tells the others.
type Meeting struct {
	// Addrs are where it listens, host:port, the likeliest to be reached first. There are
	// none if it could not begin.
	Addrs []string

	// Key is the text of the key by which it is known, if the processes have none of
	// their own.
	Key string

	// Command stands for its command line: see Command.
	Command string
}

// maxAddrs bounds the addresses: what is posted has to be short.
const maxAddrs = 12

// Command returns what stands for a command line, so that processes which were given
// different ones find out.
func Command(args []string) string {
	sum := sha256.Sum256([]byte(strings.Join(args, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// version begins what is posted, so that another version of gpurun finds out.
const version = "gpurun-launch-1"

// encode returns m as a text without spaces and line ends.
func (m Meeting) encode() string {
	addrs := m.Addrs[:min(len(m.Addrs), maxAddrs)]
	return strings.Join([]string{version, m.Command, m.Key, strings.Join(addrs, ",")}, ";")
}

// decode returns what encode made a text of.
func decode(text string) (Meeting, error) {
	fields := strings.Split(text, ";")
	if fields[0] != version {
		return Meeting{}, fmt.Errorf("rank 0 is another version of gpurun, or another program: it has posted %.20q", text)
	}
	if len(fields) != 4 {
		return Meeting{}, fmt.Errorf("what rank 0 has posted has %d parts", len(fields))
	}
	m := Meeting{Command: fields[1], Key: fields[2]}
	if fields[3] != "" {
		m.Addrs = strings.Split(fields[3], ",")
	}
	if len(m.Addrs) > maxAddrs {
		return Meeting{}, fmt.Errorf("rank 0 has posted %d addresses", len(m.Addrs))
	}
	for _, addr := range m.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return Meeting{}, fmt.Errorf("rank 0 has posted an address that is none: %w", err)
		}
	}
	return m, nil
}

// Addrs returns the addresses at which processes on other machines may reach one that
// listens at l: l's own, or, where that is every address of this machine, each of them:
// IPv4 before IPv6, and loopback only where there is no other.
func Addrs(l net.Addr) ([]string, error) {
	tcp, ok := l.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("processes on other machines cannot reach %v", l)
	}
	if !tcp.IP.IsUnspecified() {
		return []string{tcp.String()}, nil
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var four, six, loopback []string
	for _, a := range interfaces {
		network, ok := a.(*net.IPNet)
		if !ok || network.IP.IsLinkLocalUnicast() {
			continue
		}
		addr := (&net.TCPAddr{IP: network.IP, Port: tcp.Port}).String()
		switch {
		case network.IP.IsLoopback():
			loopback = append(loopback, addr)
		case network.IP.To4() != nil:
			four = append(four, addr)
		default:
			six = append(six, addr)
		}
	}
	addrs := append(four, six...)
	if len(addrs) == 0 {
		addrs = loopback
	}
	return addrs[:min(len(addrs), maxAddrs)], nil
}
