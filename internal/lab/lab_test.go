//go:build linux

package lab

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/internal/testenv"
)

// TestMain has this program be one that tells its clocks, too.
func TestMain(m *testing.M) {
	if os.Getenv(clockVariable) != "" {
		tellClocks()
	}
	goleak.VerifyTestMain(m)
}

// serve echoes what it gets at an address of h until the test ends.
func serve(t testing.TB, h *Host) string {
	return listen(t, h, func(c net.Conn) { io.Copy(c, c) })
}

// listen has handle serve each connection to an address of h, one at a time,
// until the test ends.
func listen(t testing.TB, h *Host, handle func(net.Conn)) string {
	t.Helper()
	var l net.Listener
	if err := h.Do(func() (err error) {
		l, err = net.Listen("tcp", h.IP+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// dial connects from h.
func dial(t testing.TB, h *Host, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	if err := h.Do(func() (err error) {
		c, err = net.Dial("tcp", addr)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func exchange(t testing.TB, c net.Conn, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(hangLimit))
	got := make([]byte, len(text))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q came back (%v), want %q", got, err, text)
	}
}

// TestUnplug has a connection survive a pulled cable, over which nothing comes.
func TestUnplug(t *testing.T) {
	l := New(t, 2)
	c := dial(t, l.Host(0), serve(t, l.Host(1)))
	exchange(t, c, "before")
	l.Host(1).Unplug()
	if _, err := io.WriteString(c, "during"); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	got := make([]byte, 6)
	if n, err := c.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%q came through (%v)", got[:n], err)
	}
	l.Host(1).Plug()
	c.SetReadDeadline(time.Now().Add(hangLimit))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "during" {
		t.Fatalf("%q came back (%v)", got, err)
	}
}

// TestApart makes sure that the hosts have their own addresses and no others,
// and that this process stays where it is.
func TestApart(t *testing.T) {
	before, err := os.Readlink(threadNamespace)
	if err != nil {
		testenv.Missing(t, "netns", err.Error())
	}
	l := New(t, 2)
	p := l.Host(1).Start(t, nil, "ip", "-brief", "addr")
	if code := p.Wait(); code != 0 || !strings.Contains(p.Said(), l.Host(1).IP+"/24") || strings.Contains(p.Said(), l.Host(0).IP+"/24") {
		t.Errorf("exit code %d: %s", code, p.Said())
	}
	if after, err := os.Readlink(threadNamespace); after != before {
		t.Errorf("this process is in %s (%v), and was in %s", after, err, before)
	}
	func() {
		defer func() { recover() }()
		l.Host(0).Do(func() error { panic("in a host") })
	}()
	if after, err := os.Readlink(threadNamespace); after != before {
		t.Errorf("after a panic this process is in %s (%v), and was in %s", after, err, before)
	}
}

// TestRelay sends more than fits into any buffer, and looks at what was kept.
func TestRelay(t *testing.T) {
	l := New(t, 3)
	r := l.Host(1).Relay(t, l.Host(1).IP, serve(t, l.Host(2)))
	c := dial(t, l.Host(0), r.Addr)
	text := strings.Repeat("0123456789abcdef", 64<<10)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, text)
		sent <- err
	}()
	got := make([]byte, len(text))
	c.SetDeadline(time.Now().Add(hangLimit))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Errorf("%d bytes came back and differ (%v)", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	for i, p := range r.Passed() {
		if !bytes.Equal(p, got) {
			t.Errorf("direction %d: %d bytes were kept, and differ", i, len(p))
		}
	}
	if n := len(r.Passed()); n != 2 {
		t.Errorf("%d directions were kept", n)
	}
}

// TestProcess signals a process, and sees what it says and how it ends.
func TestProcess(t *testing.T) {
	l := New(t, 1)
	p := l.Host(0).Start(t, []string{"GREETING=hello"}, "sh", "-c", `echo "$GREETING"; while :; do :; done`)
	p.WaitFor("hello")
	p.WaitBusy(20 * time.Millisecond)
	p.Signal(syscall.SIGKILL)
	if code := p.Wait(); code != -1 {
		t.Errorf("exit code %d", code)
	}
	if code := l.Host(0).Start(t, nil, "sh", "-c", "exit 3").Wait(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}
