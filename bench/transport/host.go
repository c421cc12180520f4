package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/pprof"
	"strings"

	"github.com/hashicorp/yamux"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// settings is what a host is told on its standard input, and addresses what it
// says on its standard output. It serves until its input ends.
type settings struct{ Key, Profile string }

type addresses struct{ Host, Yamux, Raw string }

// request is the size of what asks for a small message, which is that of a lease;
// message is the size of the message, and chunk that of one write of many.
const (
	request = 35
	message = 1 << 10
	chunk   = 256 << 10
)

func serve(in io.Reader, out io.Writer) error {
	var s settings
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &s); err != nil {
		return err
	}
	if s.Profile != "" {
		f, err := os.Create(s.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	trust, err := trustOf(s.Key)
	if err != nil {
		return err
	}
	var listeners [3]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	host := dist.NewHost("host", []dist.Device{idle{}}, []dist.DeviceInfo{{ID: "idle", Kind: "cpu", F32: "exact", F64: "exact"}}, nil)
	go host.Serve(context.Background(), listeners[0], trust)
	go accept(listeners[1], trust, func(conn net.Conn) error {
		mux, err := yamux.Server(conn, yamuxConfig())
		if err != nil {
			return err
		}
		stream, err := mux.Accept()
		if err != nil {
			return err
		}
		return answer(stream)
	})
	go accept(listeners[2], trust, answer)
	at := addresses{listeners[0].Addr().String(), listeners[1].Addr().String(), listeners[2].Addr().String()}
	if err := json.NewEncoder(out).Encode(at); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, lines)
	return err
}

func trustOf(key string) (*dist.Trust, error) {
	if key == "" {
		return nil, nil
	}
	k, err := dist.ParseKey(strings.TrimSpace(key))
	if err != nil {
		return nil, err
	}
	return dist.TrustKey(k)
}

func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.MaxStreamWindowSize = 1 << 20 // as the sessions of package dist
	c.LogOutput = io.Discard
	return c
}

// accept has handle serve each connection.
func accept(l net.Listener, trust *dist.Trust, handle func(net.Conn) error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if trust != nil {
				if conn, err = trust.Server(context.Background(), conn); err != nil {
					fmt.Fprintln(os.Stderr, "transport: host:", err)
					return
				}
			}
			_ = handle(conn) // the peer closes the connection when it has seen enough
		}()
	}
}

// What the bare connections are asked for: a byte, and how often.
const (
	wantAnswers  = 'a' // a message for each request, when that has come
	wantMessages = 'm' // the same, for as many requests at a time as have come
	wantBytes    = 'b' // bytes, in chunks
)

// answer does what the first nine bytes from conn ask for.
func answer(conn net.Conn) error {
	for {
		var header [9]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return err
		}
		n := int(binary.LittleEndian.Uint64(header[1:]))
		var err error
		switch header[0] {
		case wantAnswers:
			err = answerEach(conn, n)
		case wantMessages:
			err = answerMany(conn, n)
		case wantBytes:
			for at := 0; at < n && err == nil; at += chunk {
				_, err = conn.Write(pretend.Noise[at%len(pretend.Noise):][:chunk])
			}
		}
		if err != nil {
			return err
		}
	}
}

func answerEach(conn net.Conn, n int) error {
	asked := make([]byte, request)
	for range n {
		if _, err := io.ReadFull(conn, asked); err != nil {
			return err
		}
		if _, err := conn.Write(pretend.Noise[:message]); err != nil {
			return err
		}
	}
	return nil
}

// answerMany flushes only when it would have to wait for the next request.
func answerMany(conn net.Conn, n int) error {
	r, w := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)
	asked := make([]byte, request)
	for range n {
		if _, err := io.ReadFull(r, asked); err != nil {
			return err
		}
		if _, err := w.Write(pretend.Noise[:message]); err != nil {
			return err
		}
		if r.Buffered() < request {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

// idle is a device that computes nothing: its results are random bytes.
type idle struct{}

func (idle) ID() string                                                 { return "idle" }
func (idle) Slots() int                                                 { return 1 }
func (idle) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return idle{}, nil }
func (idle) Close() error                                               { return nil }
func (idle) Run(_ context.Context, _ kernels.Tile, r *kernels.Result) error {
	for _, plane := range r.Planes {
		// Where the bytes are those of an earlier result they stay: copying
		// them again is no work of the transport.
		end := len(plane) - 8
		if string(plane[:8]) != string(pretend.Noise[:8]) || string(plane[end:]) != string(pretend.Noise[end:][:8]) {
			copy(plane, pretend.Noise)
		}
	}
	return nil
}
