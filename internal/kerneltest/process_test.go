package kerneltest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gpurun/gpurun"
)

func TestMain(m *testing.M) { Main(m) }

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// TestProcessWaits runs three kernels by turns, which start a process each and not one for each run.
func TestProcessWaits(t *testing.T) {
	requireOpenCL(t)
	dir := t.TempDir()
	key, addr := filepath.Join(dir, "key"), "unix:"+filepath.Join(dir, "worker")
	if err := gpurun.WriteKeyFile(key); err != nil {
		t.Fatal(err)
	}
	var log lines
	w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{
		Devices: []string{"opencl"}, Listen: addr, KeyFile: key, AllowKernels: true, KernelCommand: []string{os.Args[0], serveKernel},
	}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	devices := len(w.Devices())
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	defer func() {
		cancel()
		<-served // the error is ctx's
	}()
	eng, err := gpurun.Open(t.Context(), &gpurun.Config{Devices: []string{"none"}, Hosts: []string{addr}, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	x, z := []float32{1, 2, 3}, make([]float32, 3)
	for i := range 30 {
		kernel := gpurun.Elementwise(fmt.Sprintf("z = x + %d", i%3), nil)
		if err := eng.Run(t.Context(), kernel, gpurun.In("x", x), gpurun.Out("z", z)); err != nil {
			t.Fatal(err)
		}
		if z[2] != float32(3+i%3) {
			t.Fatalf("run %d: %v", i, z)
		}
	}
	if n := log.count("process for kernels starts"); n < 3 || n > 3*devices {
		t.Errorf("%d processes were started on %d devices for three kernels", n, devices)
	}
}
