package gpurun

import (
	"context"
	"net"
	"testing"

	"github.com/gpurun/gpurun/dist"
)

// TestJoinLaunchAgain has rank 0 be killed, come back where it was, and be done: only then
// the worker ends.
func TestJoinLaunchAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key := dist.NewKey()
	w := launchedWorker(t, key, l.Addr().String())
	trust := w.trust
	joined := make(chan error, 1)
	go func() { joined <- w.JoinLaunch(t.Context()) }()
	session := func() (net.Conn, *dist.RemoteHost) {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r, err := dist.Accept(context.Background(), conn, "rank 0", trust)
		if err != nil {
			t.Fatal(err)
		}
		return conn, r
	}
	conn, killed := session()
	conn.Close()
	_, back := session()
	killed.Close()
	select {
	case err := <-joined:
		t.Fatalf("it ended when rank 0 was killed: %v", err)
	default:
	}
	back.Close()
	if err := <-joined; err != nil {
		t.Errorf("rank 0 is done: %v", err)
	}
}
