package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
)

func TestCompute(t *testing.T) {
	dir := t.TempDir()
	key, addr, nobody := filepath.Join(dir, "key"), "unix:"+filepath.Join(dir, "worker"), "unix:"+filepath.Join(dir, "nobody")
	if err := gpurun.WriteKeyFile(key); err != nil {
		t.Fatal(err)
	}
	w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}, Listen: addr, KeyFile: key}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	}()

	var out bytes.Buffer
	if err := compute(&out, key, []string{addr, nobody}); err != nil {
		t.Fatal(err)
	}
	if said := out.String(); !strings.Contains(said, addr+" cpu computed ") || !strings.Contains(said, "note: host "+nobody+" is not there") {
		t.Errorf("it said\n%s", said)
	}
	if err := compute(&out, key, []string{nobody}); err == nil {
		t.Error("no error without any host")
	}
}
