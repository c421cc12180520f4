package gpurun

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// TestManyNames registers functions until no more fit, with names as long as they may be, and has a
// coordinator meet a worker that has them all.
func TestManyNames(t *testing.T) {
	before, bytes := maps.Clone(functions.byName), functions.bytes
	defer func() { functions.byName, functions.bytes = before, bytes }()
	k := &Kernel{CPU: func(*Part) error { return errors.New("it was called") }}
	refused := func() (refused bool) {
		defer func() { refused = recover() != nil }()
		for i := range 1000 {
			k.Register(fmt.Sprintf("%03d%s", i, strings.Repeat("é", (longestName-3)/2)))
		}
		return false
	}
	if !refused() {
		t.Error("1000 long names were registered")
	}
	if n := len(functions.byName); n < len(before)+100 {
		t.Errorf("%d names are the most", n)
	}
	addr := "unix:" + filepath.Join(t.TempDir(), "worker")
	w, err := OpenWorker(t.Context(), &Config{Devices: []string{"cpu"}, Listen: addr}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	defer func() {
		cancel()
		<-served // the error is ctx's
	}()
	eng, err := Open(t.Context(), &Config{Devices: []string{"none"}, Hosts: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	eng.Close()
}
