//go:build unix

package gpurun

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestStartsAreBounded has processes asked for by jobs that are over before they are there.
func TestStartsAreBounded(t *testing.T) {
	s := &sandbox{command: []string{"sh", "-c", "cat"}, limit: 1 << 30, time: time.Minute, log: quiet(nil), room: make(chan struct{}, mostStarting)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		if _, err := s.started(over, sha256.Sum256(fmt.Append(nil, i))); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	s.mu.Lock()
	n := len(s.starting)
	s.mu.Unlock()
	if n > mostIdle {
		t.Errorf("%d processes are being started for nobody", n)
	}
	if err := s.Close(); err != nil || len(s.idle) > 0 {
		t.Errorf("%v, and %d processes wait", err, len(s.idle))
	}
}
