// Package metrics tells Prometheus what hosts and coordinators do.
package metrics

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gpurun/gpurun/internal/version"
	"github.com/gpurun/gpurun/kernels"
)

// What a client of the server may take: it is not asked who it is.
const (
	requestLimit = 5 * time.Second
	answerLimit  = 10 * time.Second
	idleLimit    = 2 * time.Minute
	headerBytes  = 8 << 10
	maxAtOnce    = 4 // scrapes; others are told to come later

	maxConnections = 64
)

// Server serves metrics over HTTP. Its methods may be called by several goroutines.
type Server struct {
	http    http.Server
	addr    net.Addr
	serving sync.WaitGroup

	connections connections
}

// connections are those that are open, at most maxConnections: for one more, that on
// which nothing has happened for the longest is closed. So those who connect and say
// nothing, or little, keep nobody out. Its method may be called by several goroutines.
type connections struct {
	mu   sync.Mutex
	last map[net.Conn]time.Time // when it began, or a request on it did or ended
}

// changed notes that conn is in a new state.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.last, conn)
		return
	case http.StateNew:
		if len(c.last) >= maxConnections {
			c.closeOldest()
		}
	default:
		if _, open := c.last[conn]; !open {
			return // closed for another
		}
	}
	if c.last == nil {
		c.last = map[net.Conn]time.Time{}
	}
	c.last[conn] = time.Now()
}

// closeOldest closes the connection on which nothing has happened for the longest. c.mu
// is held.
func (c *connections) closeOldest() {
	var oldest net.Conn
	for conn, at := range c.last {
		if oldest == nil || at.Before(c.last[oldest]) {
			oldest = conn
		}
	}
	delete(c.last, oldest)
	_ = oldest.Close() // its server notices
}

// Listen serves at addr, host:port or :port, what the collectors say, what the Go runtime and the
// operating system say of this process, and which version it is of, in the text format at
// /metrics. At /healthz it answers 200 while healthy says so and else 503. Anybody who
// reaches addr may ask, and keep at most maxConnections connections open.
//
// It returns nil if addr is empty, and else tells log the address.
func Listen(ctx context.Context, addr string, log *slog.Logger, healthy func() bool, all ...prometheus.Collector) (*Server, error) {
	if addr == "" {
		return nil, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics at %s: %w", addr, err)
	}
	s := &Server{addr: l.Addr(), http: http.Server{
		Handler:           handler(gatherer(all...), healthy),
		ReadHeaderTimeout: requestLimit,
		ReadTimeout:       requestLimit,
		WriteTimeout:      answerLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          stdlog.New(io.Discard, "", 0), // what strangers do wrong
	}}
	s.http.ConnState = s.connections.changed
	s.serving.Go(func() { _ = s.http.Serve(l) }) // until Close
	log.Info("serving metrics", "addr", s.addr.String())
	return s, nil
}

// Addr returns the address at which s listens, or nil if s is nil.
func (s *Server) Addr() net.Addr {
	if s == nil {
		return nil
	}
	return s.addr
}

// Close ends s at once. A nil Server is closed.
func (s *Server) Close() {
	if s != nil {
		s.http.Close()
		s.serving.Wait()
	}
}

// gatherer returns what collects all, and what describes this process. Goroutines are
// counted in a registry of their own, and first: a registry starts as many to gather with as
// it has collectors and the machine's load leads it to, and go_goroutines would count them.
func gatherer(all ...prometheus.Collector) prometheus.Gatherer {
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gpurun_build_info",
		Help: "1, with the version of gpurun, of Go, and of the kernels, which has to be the same on all machines.",
	}, []string{"version", "goversion", "kernels"})
	info.WithLabelValues(version.String(), runtime.Version(), strconv.Itoa(kernels.Version)).Set(1)
	runtimes, others := prometheus.NewRegistry(), prometheus.NewRegistry()
	runtimes.MustRegister(collectors.NewGoCollector())
	others.MustRegister(info, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	others.MustRegister(all...)
	return prometheus.Gatherers{runtimes, others}
}

func handler(g prometheus.Gatherer, healthy func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxAtOnce, Timeout: answerLimit / 2, DisableCompression: true,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !healthy() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
