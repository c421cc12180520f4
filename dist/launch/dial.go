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

// Dial connects to the first of addrs, host:port, that answers. It dials them a moment
// after each other: of the addresses of another machine some may not be reached from here,
// and not say so. The error matches syscall.ECONNREFUSED only if all have refused, which
// says that nobody listens there any more.
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
	var errs, refused []error
	for range addrs {
		a := <-answers
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
			if errors.Is(a.err, syscall.ECONNREFUSED) {
				refused = append(refused, a.err)
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
	case len(refused) == len(addrs):
		return nil, errors.Join(refused...)
	}
	return nil, fmt.Errorf("no address answers: %v", errors.Join(errs...)) // of which one may match
}
