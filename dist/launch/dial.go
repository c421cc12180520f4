package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// dialPause is how long an address may take to answer before the next one is dialled too.
	dialPause = 50 * time.Millisecond

	// dialLimit bounds the dialling of one address.
	dialLimit = 5 * time.Second
)

// ErrRefused is matched by the error of Dial where all addresses have refused.
var ErrRefused = errors.New("nobody listens there")

// wsaConnRefused is ECONNREFUSED on Windows, which package syscall does not name.
const wsaConnRefused = syscall.Errno(10061)

// Dial connects to the first of addrs, host:port, that answers, and returns which that
// was. It dials them one after the other, the next when one has failed, or has not answered
// for a moment: of the addresses of another machine some may not be reached from here, and
// not say so. The error matches ErrRefused only if all have refused, which says that nobody
// listens there any more, or that a firewall is between.
func Dial(ctx context.Context, addrs []string) (net.Conn, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		conn net.Conn
		addr string
		err  error
	}
	answers := make(chan answer, len(addrs))
	dialled, answered, refused := 0, 0, 0
	var errs []error
	var won answer
	next := time.NewTimer(0)
	defer next.Stop()
	for answered < dialled || dialled < len(addrs) && won.conn == nil {
		select {
		case <-next.C:
			if dialled == len(addrs) || won.conn != nil {
				continue
			}
			addr := addrs[dialled]
			dialled++
			next.Reset(dialPause)
			go func() {
				d := net.Dialer{Timeout: dialLimit}
				conn, err := d.DialContext(ctx, "tcp", addr)
				answers <- answer{conn, addr, err}
			}()
		case a := <-answers:
			answered++
			switch {
			case a.err != nil:
				errs = append(errs, a.err)
				if errors.Is(a.err, syscall.ECONNREFUSED) || errors.Is(a.err, wsaConnRefused) {
					refused++
				}
				next.Reset(0)
			case won.conn == nil:
				won = a
				cancel()
			default:
				a.conn.Close()
			}
		}
	}
	switch {
	case won.conn != nil:
		return won.conn, won.addr, nil
	case refused == len(addrs):
		return nil, "", fmt.Errorf("%w: %w", ErrRefused, errors.Join(errs...))
	}
	return nil, "", fmt.Errorf("no address answers: %w", errors.Join(errs...))
}
