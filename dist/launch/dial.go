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
	// dialPause is how much later than an address the next one is dialled.
	dialPause = 50 * time.Millisecond

	// dialLimit bounds the dialling of one address.
	dialLimit = 5 * time.Second
)

// ErrRefused is matched by the error of Dial where all addresses have refused.
var ErrRefused = errors.New("nobody listens there")

// wsaConnRefused is ECONNREFUSED on Windows, which package syscall does not name.
const wsaConnRefused = syscall.Errno(10061)

// Dial connects to the first of addrs, host:port, that answers. It dials them a moment
// after each other: of the addresses of another machine some may not be reached from here,
// and not say so. The error matches ErrRefused only if all have refused, which says that
// nobody listens there any more, or that a firewall is between.
func Dial(ctx context.Context, addrs []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	type answer struct {
		conn net.Conn
		err  error
	}
	answers := make(chan answer, len(addrs))
	for i, addr := range addrs {
		go func() {
			select {
			case <-time.After(time.Duration(i) * dialPause):
			case <-ctx.Done():
			}
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", addr)
			answers <- answer{conn, err}
		}()
	}
	var won net.Conn
	var errs []error
	refused := 0
	for range addrs {
		a := <-answers
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
			if errors.Is(a.err, syscall.ECONNREFUSED) || errors.Is(a.err, wsaConnRefused) {
				refused++
			}
		case won == nil:
			won = a.conn
			cancel()
		default:
			a.conn.Close()
		}
	}
	switch {
	case won != nil:
		return won, nil
	case refused == len(addrs):
		return nil, fmt.Errorf("%w: %w", ErrRefused, errors.Join(errs...))
	}
	return nil, fmt.Errorf("no address answers: %w", errors.Join(errs...))
}
