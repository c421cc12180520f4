package metrics

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestConnections has strangers keep several times as many connections open as there may
// be, some of which say nothing and some half a request. Scrapes are answered all the same,
// also on a connection that is kept, and no more than the limit stay open.
func TestConnections(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler), func() bool { return true }, Worker(stats))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: requestLimit / 2}
	scrape := func() {
		t.Helper()
		answer, err := client.Get("http://" + s.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || !strings.Contains(string(body), "gpurun_worker_leases 3\n") {
			t.Fatalf("a scrape: %d, %v", answer.StatusCode, err)
		}
	}
	const strangers = 4 * maxConnections
	var conns []net.Conn
	for i := range strangers {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 1 {
			_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: ") // it may be closed already
		}
		conns = append(conns, conn)
		if i%(maxConnections/2) == 0 {
			scrape()
		}
	}
	scrape()
	s.connections.mu.Lock()
	if n := len(s.connections.last); n > maxConnections {
		t.Errorf("%d connections are counted", n)
	}
	s.connections.mu.Unlock()
	open := 0
	// Sooner than requestLimit, by which those that say half a request are closed.
	deadline := time.Now().Add(time.Second)
	for _, conn := range conns {
		_ = conn.SetReadDeadline(deadline)
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	if open > maxConnections {
		t.Errorf("%d of %d connections are still open, want at most %d", open, strangers, maxConnections)
	}
}
