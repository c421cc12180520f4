package gpurun

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun/dist"
)

// listening returns an engine at which those may join that have its key, and its address.
func listening(t *testing.T) (*Engine, dist.Key, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := WriteKeyFile(file); err != nil {
		t.Fatal(err)
	}
	key, err := dist.ReadKeyFile(file)
	if err != nil {
		t.Fatal(err)
	}
	eng, err := Open(t.Context(), &Config{Devices: []string{"none"}, Listen: "127.0.0.1:0", KeyFile: file, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng, key, eng.cluster.listener.Addr().String()
}

// launchedWorker returns a worker that has been told addrs and key.
func launchedWorker(t *testing.T, key dist.Key, addrs ...string) *Worker {
	t.Helper()
	w, err := OpenWorker(t.Context(), &Config{Devices: []string{"cpu"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.launch = &Launch{Rank: 1, Size: 2, LocalSize: 1, addrs: addrs, key: key, patient: launchPatience}
	if w.trust, err = w.launch.trust(); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestJoinLaunch has an address at which somebody else listens before that of rank 0, and
// one at which nobody does.
func TestJoinLaunch(t *testing.T) {
	_, _, other := listening(t)
	nobody, _, silent := listening(t)
	nobody.Close()
	eng, key, addr := listening(t)
	w := launchedWorker(t, key, silent, other, addr)
	joined := make(chan error, 1)
	go func() { joined <- w.JoinLaunch(t.Context()) }()
	field, err := eng.Mandelbrot(t.Context(), View{Width: 60, Height: 40, Span: 3, MaxIter: 50})
	if err != nil || len(field.Counts) != 60*40 {
		t.Fatal(err)
	}
	eng.Close()
	if err := <-joined; err != nil {
		t.Errorf("rank 0 has ended: %v", err)
	}
}

func TestJoinLaunchErrors(t *testing.T) {
	eng, key, addr := listening(t)
	w := launchedWorker(t, dist.NewKey(), addr)
	if err := w.JoinLaunch(t.Context()); !errors.Is(err, dist.ErrUntrusted) {
		t.Errorf("with another key: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := launchedWorker(t, key, addr).JoinLaunch(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	eng.Close()
	if err := launchedWorker(t, key, addr).JoinLaunch(t.Context()); err != nil {
		t.Errorf("rank 0 had ended: %v", err)
	}
	w, err := OpenWorker(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.JoinLaunch(t.Context()); err == nil {
		t.Error("a worker that was not launched joins")
	}
}

// TestLaunchUse has each Launch used by what it is for, and once.
func TestLaunchUse(t *testing.T) {
	if _, err := Open(t.Context(), &Config{Launch: &Launch{Rank: 1, Size: 2, LocalSize: 1}}); err == nil {
		t.Error("rank 1 opens an engine")
	}
	if _, err := OpenWorker(t.Context(), &Config{Launch: &Launch{Rank: 0, Size: 2, LocalSize: 1}}, nil); err == nil {
		t.Error("rank 0 opens a worker")
	}
	for rank := range 2 {
		l := &Launch{Rank: rank, Size: 2, LocalSize: 1}
		if l.use(rank == 0) != nil || l.use(rank == 0) == nil {
			t.Errorf("rank %d cannot be used once, or can be twice", rank)
		}
	}
}

// TestLaunchThreads has at most one thread for each processor, and one at least.
func TestLaunchThreads(t *testing.T) {
	one, many := (&Launch{LocalSize: 1}).Threads(), (&Launch{LocalSize: 1 << 20}).Threads()
	if one < 1 || many != 1 {
		t.Errorf("alone %d, with many %d", one, many)
	}
}

// TestLaunchJoin has rank 1 wait for rank 0 at an address that is known before, dial again when
// that dies, or fails before its job is done, and end with the one that takes its place.
func TestLaunchJoin(t *testing.T) {
	t.Setenv("GPURUN_LAUNCH", "")
	t.Setenv("JOB_COMPLETION_INDEX", "1")
	file := filepath.Join(t.TempDir(), "key")
	if err := WriteKeyFile(file); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	config := &Config{Devices: []string{"cpu"}, Join: addr, KeyFile: file, Wait: time.Minute}
	l, err := Launched(config)
	if err != nil || l == nil || l.Rank != 1 || l.Size != 0 || l.Launcher != "Kubernetes" {
		t.Fatalf("%+v, %v", l, err)
	}
	config.Launch = l
	w, err := OpenWorker(t.Context(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	joined := make(chan error, 1)
	go func() { joined <- w.JoinLaunch(t.Context()) }()

	// A rank 0 that dies at once, after a time in which there was none.
	time.Sleep(10 * time.Millisecond)
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err := errors.Join(err, conn.Close(), listener.Close()); err != nil {
		t.Fatal(err)
	}

	for _, failing := range []bool{true, false} {
		eng := openRankZero(t, &Config{Devices: []string{"none"}, Join: addr, Listen: addr, KeyFile: file, Wait: time.Minute})
		for failing && eng.cluster.count() == 0 {
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if failing {
			cancel()
		}
		if _, err := eng.Mandelbrot(ctx, View{Width: 60, Height: 40, Span: 3, MaxIter: 50}); (err != nil) != failing {
			t.Error(err)
		}
		cancel()
		eng.Close()
	}
	if err := <-joined; err != nil {
		t.Errorf("rank 0 has ended: %v", err)
	}
}

// openRankZero opens the engine of rank 0 of a Job of Kubernetes.
func openRankZero(t *testing.T, config *Config) *Engine {
	t.Helper()
	t.Setenv("JOB_COMPLETION_INDEX", "0")
	var err error
	if config.Launch, err = Launched(config); err != nil || config.Launch.Rank != 0 {
		t.Fatalf("%+v, %v", config.Launch, err)
	}
	eng, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return eng
}

// TestLaunchJoinEndsEarly has workers that end before rank 0 has done anything, which who starts
// them again has to learn.
func TestLaunchJoinEndsEarly(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := WriteKeyFile(key); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GPURUN_LAUNCH", "")
	t.Setenv("JOB_COMPLETION_INDEX", "3")
	worker := func() *Worker {
		config := &Config{Devices: []string{"cpu"}, Join: freeAddr(t), KeyFile: key}
		var err error
		if config.Launch, err = Launched(config); err != nil {
			t.Fatal(err)
		}
		w, err := OpenWorker(t.Context(), config, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := worker()
	w.Drain()
	if err := w.JoinLaunch(t.Context()); !errors.Is(err, ErrDrained) {
		t.Errorf("asked to stop: %v", err)
	}
	w = worker()
	w.launch.patient = 0
	if err := w.JoinLaunch(t.Context()); err == nil || !strings.Contains(err.Error(), "--wait") || errors.Is(err, ErrDrained) {
		t.Errorf("without rank 0: %v", err)
	}
}

// TestLaunchJoinErrors has rank 0 without a place to listen, and processes of which nobody
// says which they are.
func TestLaunchJoinErrors(t *testing.T) {
	t.Setenv("GPURUN_LAUNCH", "")
	t.Setenv("JOB_COMPLETION_INDEX", "0")
	config := &Config{Devices: []string{"cpu"}, Join: "127.0.0.1:9473"}
	var err error
	if config.Launch, err = Launched(config); err != nil {
		t.Fatal(err)
	}
	if eng, err := Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("%v, %v", eng, err)
	}
	t.Setenv("JOB_COMPLETION_INDEX", "")
	if l, err := Launched(config); err == nil || !strings.Contains(err.Error(), "worker --join") {
		t.Errorf("%+v, %v", l, err)
	}
}

// freeAddr returns an address at which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
