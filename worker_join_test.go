package gpurun_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
)

// journal keeps what a worker logs.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(line))
	return len(line), nil
}

func (j *journal) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "")
}

func joiner(t *testing.T, log *journal) *gpurun.Worker {
	t.Helper()
	w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}}, log.log())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestJoinGivesUp joins where no later attempt would do better.
func TestJoinGivesUp(t *testing.T) {
	for addr, want := range map[string]string{
		"head":                   "missing port",
		"[::1]:9473:and-nothing": "too many colons",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := joiner(t, &journal{}).Join(ctx, addr)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", addr, err, want)
		}
	}
}

// TestJoinSaysWhyItWaits joins where nobody listens yet, for some attempts.
func TestJoinSaysWhyItWaits(t *testing.T) {
	var said journal
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	path := filepath.Join(t.TempDir(), "head")
	if err := joiner(t, &said).Join(ctx, "unix:"+path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if text := said.text(); !strings.Contains(text, path) || strings.Count(text, "trying again") != 1 {
		t.Errorf("the log has %q, want once why it cannot join", text)
	}
}
