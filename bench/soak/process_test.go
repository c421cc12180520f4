//go:build linux

package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell returns a worker that is a script.
func shell(t *testing.T, script string) *worker {
	t.Helper()
	w := &worker{name: "the script", binary: "/bin/sh", args: []string{"-c", script}, log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() {
		if w.process != nil {
			w.kill()
		}
	})
	return w
}

// TestStart waits for what workers say, and not for what those before them said.
func TestStart(t *testing.T) {
	w := shell(t, "echo "+listens+" x; exec sleep 60")
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := w.cmd.Process.Pid
	if group, err := syscall.Getpgid(pid); group != pid {
		t.Errorf("the group of %d is %d, %v: what the terminal sends comes to it too", pid, group, err)
	}
	w.kill()
	w.args[1] = "exit 3"
	if err := w.start(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("one that ends: %v", err)
	}
	w.args[1] = "exec sleep 60"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one that says nothing: %v", err)
	}
}

// TestActEnds looks at whether churn ends with its context, and not when workers are back.
func TestActEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := shell(t, "trap '' TERM; echo "+listens+"; while :; do sleep 1; done")
	if err := w.start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	for _, what := range []string{terminated, stopped, killed} {
		c := &churn{random: rand.New(rand.NewPCG(1, 2))}
		if err := c.act(ctx, w, what); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestSamplesStay looks at whether samples are in the file when one of the two processes ends.
func TestSamplesStay(t *testing.T) {
	sleeper, err := start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	defer sleeper.kill()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 2 {
			sleeper.kill()
		}
		fmt.Fprint(w, "go_goroutines 17\ngo_memstats_heap_inuse_bytes 2.5e+06\n")
	}))
	defer server.Close()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "samples.csv")
	c := &cluster{
		coordinator: &process{&exec.Cmd{Process: self}, make(chan struct{})},
		workers:     []*worker{{process: sleeper, name: "the worker", metrics: strings.TrimPrefix(server.URL, "http://")}},
	}
	samples, err := c.sample(t.Context(), &churn{began: time.Now()}, file)
	if err == nil || !strings.Contains(err.Error(), "the worker ended by itself: signal: killed") {
		t.Errorf("the error is: %v", err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(samples) != 2 || len(rows) != 1+len(samples) {
		t.Errorf("of %d samples there are %d rows and a header, %v", len(samples), len(rows)-1, err)
	}
}
