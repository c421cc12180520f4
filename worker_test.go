package gpurun_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
)

// testLog returns a log that is the test's.
func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// startWorker serves on a unix socket until the test ends, and returns its
// address.
func startWorker(t *testing.T, path, keyFile string) (w *gpurun.Worker, stop func()) {
	t.Helper()
	w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}, KeyFile: keyFile, Listen: "unix:" + path}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx) }()
	return w, func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	}
}

// TestHosts computes on two hosts with a key, and on the one that is left when
// the other has gone, which is noted; and on both when it has come back.
func TestHosts(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := gpurun.WriteKeyFile(key); err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	_, stopA := startWorker(t, a, key)
	defer stopA()
	_, stopB := startWorker(t, b, key)
	v := smallView()
	v.Precision = gpurun.Float64
	want, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: []string{"unix:" + a, "unix:" + b}, KeyFile: key, Tiles: 10})
	check := func(devices, missing int) {
		t.Helper()
		got, err := eng.Mandelbrot(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Counts, want.Counts) || !slices.Equal(got.Magnitudes, want.Magnitudes) {
			t.Error("the result differs")
		}
		if n := len(eng.Report().Devices); n != devices || len(eng.MissingHosts()) != missing {
			t.Errorf("%d devices and %v missing, want %d and %d", n, eng.MissingHosts(), devices, missing)
		}
	}
	check(2, 0)
	stopB()
	for deadline := time.Now().Add(10 * time.Second); len(eng.MissingHosts()) == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	check(1, 1)
	_, stopB = startWorker(t, b, key)
	defer stopB()
	for deadline := time.Now().Add(20 * time.Second); len(eng.MissingHosts()) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	check(2, 0)
}

// TestBothTrusts has a key and certificates in one Config, of which neither
// side could say which of them counts.
func TestBothTrusts(t *testing.T) {
	config := &gpurun.Config{
		Devices: []string{"none"}, Hosts: []string{"unix:nobody"}, Listen: "unix:" + filepath.Join(t.TempDir(), "s"),
		KeyFile: "key", TLSCA: "ca.pem",
	}
	_, atWorker := gpurun.OpenWorker(t.Context(), config, nil)
	_, atEngine := gpurun.Open(t.Context(), config)
	for _, err := range []error{atWorker, atEngine} {
		if err == nil || !strings.HasPrefix(err.Error(), "gpurun: Config has both") {
			t.Errorf("the error is %v", err)
		}
	}
	config.KeyFile = ""
	if _, err := gpurun.Open(t.Context(), config); err == nil || !strings.HasPrefix(err.Error(), "--tls-cert is missing") {
		t.Errorf("the error is %v", err)
	}
}

// TestDrain has the only worker leave in the middle of a job: the job says so.
func TestDrain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w")
	w, stop := startWorker(t, path, "")
	defer stop()
	eng := open(t, &gpurun.Config{
		Devices: []string{"none"}, Hosts: []string{"unix:" + path}, Tiles: 100,
		Progress: func(float64) { w.Drain() },
	})
	// It takes a processor a second, of which little has passed at the first tile.
	v := gpurun.View{
		Span: 3, Width: 300, Height: 200, MaxIter: 600000, Precision: gpurun.Float64, Julia: &siegelDisc,
	}
	ended := make(chan error, 1)
	go func() {
		_, err := eng.Mandelbrot(t.Context(), v)
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, gpurun.ErrNoDevice) {
			t.Errorf("the error is %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the job does not end")
	}
}

// TestJoin has a worker join an engine that has no device, in the middle of a
// job, and leave when the engine is closed.
func TestJoin(t *testing.T) {
	path := "unix:" + filepath.Join(t.TempDir(), "c")
	w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	joined := make(chan error, 1)
	go func() { joined <- w.Join(ctx, path) }() // before anybody listens
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Listen: path, Wait: time.Minute})
	f, err := eng.Mandelbrot(t.Context(), smallView())
	if err != nil {
		t.Fatal(err)
	}
	want, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), smallView())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Counts, want.Counts) {
		t.Error("the result differs")
	}
	w.Drain()
	if err := <-joined; err != nil {
		t.Errorf("Join returned %v", err)
	}
}
