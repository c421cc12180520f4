package dist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// This file is what happens on a connection before there is a session on it:
// each side makes sure of the other, says what it is, and measures the round
// trip.

// handshakeLimit bounds that, together with the opening of the streams.
const handshakeLimit = 10 * time.Second

// ready is what the dialler says last in the handshake.
const ready = 1

// begin begins a session over conn, which was dialled to the machine called
// dialled, or accepted if that is empty. On an error conn is closed.
func begin(ctx context.Context, conn net.Conn, trust *Trust, dialled string, hello helloMessage) (s *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*handshakeLimit)
	defer cancel()
	if dialled != "" {
		conn, err = trust.Client(ctx, conn, dialled)
	} else {
		doorstep.admit(conn)
		defer doorstep.dismiss(conn)
		conn, err = trust.Server(ctx, conn)
	}
	if err != nil {
		return nil, err
	}
	return newSession(ctx, conn, dialled != "", hello)
}

// greet exchanges hellos over conn and returns the peer's, and how long it
// takes to be answered.
func greet(conn net.Conn, dialler bool, hello helloMessage) (peer helloMessage, roundTrip time.Duration, err error) {
	hello = hello.printable() // what a driver says need not even be UTF-8
	hello.Kernels = kernels.Version
	ours, err := appendFrame([]byte(preamble), typeHello, hello, 0)
	if err != nil {
		return peer, 0, err
	}
	var asked time.Time
	if dialler {
		asked = time.Now()
		if _, err := conn.Write(ours); err != nil {
			return peer, 0, err
		}
		if peer, err = readHello(conn); err != nil {
			return peer, 0, err
		}
		roundTrip = time.Since(asked)
		_, err = conn.Write([]byte{ready})
		return peer, roundTrip, err
	}
	peer, unfit := readHello(conn)
	// Sent in any case: by it the other side sees what does not fit.
	asked = time.Now()
	if _, err = conn.Write(ours); unfit != nil || err != nil {
		if unfit != nil {
			err = unfit
		}
		return peer, 0, err
	}
	var last [1]byte
	if _, err := io.ReadFull(conn, last[:]); err != nil {
		return peer, 0, fmt.Errorf("wait until %s is ready: %w", peer.Name, err)
	}
	if last[0] != ready {
		return peer, 0, protocolError("%s ends the handshake with %d", peer.Name, last[0])
	}
	return peer, time.Since(asked), nil
}

// ErrVersion is matched by the error about a peer that is of another version, so
// that the two cannot work together.
var ErrVersion = errors.New("the peer is another gpurun")

// versionError returns an error that matches ErrVersion and ErrProtocol.
func versionError(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %s: run the same gpurun on both", ErrProtocol, ErrVersion, fmt.Sprintf(format, args...))
}

// readHello reads the preamble and the hello of the peer, and checks that it
// fits this side.
func readHello(r io.Reader) (hello helloMessage, err error) {
	if err := readPreamble(r); err != nil {
		return hello, err
	}
	f, err := readFrameIn(r, nil, maxMessage)
	if err != nil {
		return hello, fmt.Errorf("read the hello: %w", err)
	}
	if f.typ != typeHello {
		return hello, protocolError("message %d where a hello was due", f.typ)
	}
	if err := f.decode(&hello); err != nil {
		return hello, err
	}
	if len(hello.Devices) > maxDevices {
		return hello, protocolError("a host of %d devices", len(hello.Devices))
	}
	hello = hello.printable()
	if hello.Kernels != kernels.Version {
		return hello, versionError("%s has kernels of version %d and this has version %d", hello.Name, hello.Kernels, kernels.Version)
	}
	return hello, nil
}

// printable returns m with texts that can be printed anywhere.
func (m helloMessage) printable() helloMessage {
	m.Name = printable(m.Name)
	m.Devices = slices.Clone(m.Devices)
	for i := range m.Devices {
		d := &m.Devices[i]
		for _, text := range []*string{&d.ID, &d.Kind, &d.Name, &d.Driver, &d.F32, &d.F64} {
			*text = printable(*text)
		}
	}
	return m
}

func readPreamble(r io.Reader) error {
	got := make([]byte, len(preamble))
	if _, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("read the preamble: %w", err)
	}
	last := len(preamble) - 1
	switch {
	case string(got[:last]) != preamble[:last]:
		return protocolError("it begins with %q", got)
	case got[last] != protocolVersion:
		return versionError("it speaks version %d and this is version %d", got[last], protocolVersion)
	}
	return nil
}

// maxStrangers bounds the peers that have not yet shown who they are, and with
// them the memory that those can take who never will.
const maxStrangers = 256

// doorstep is where the peers are that have dialled this process.
var doorstep strangers

// strangers are the connections of peers that have not yet shown who they are.
// A peer that means it is a stranger for moments only: so where there are too
// many, the one that has been there longest makes room.
type strangers struct {
	mu    sync.Mutex
	conns []net.Conn // the longest there first
}

// admit takes conn in. The caller calls dismiss when it knows the peer, or has
// turned it away.
func (s *strangers) admit(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxStrangers {
		s.conns[0].Close()
		s.conns = s.conns[1:]
	}
	s.conns = append(s.conns, conn)
}

// dismiss ends the stay of conn.
func (s *strangers) dismiss(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.conns {
		if c == conn {
			s.conns = append(s.conns[:i], s.conns[i+1:]...)
			return
		}
	}
}
