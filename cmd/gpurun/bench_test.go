package main

import (
	"context"
	"testing"
	"time"
)

// TestBenchInterrupted: whenever it is interrupted, nothing of a table is printed.
func TestBenchInterrupted(t *testing.T) {
	for _, after := range []time.Duration{0, 50 * time.Millisecond, time.Second} {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(after, cancel)
		var stdout, stderr buffer
		code := run(ctx, []string{"bench", "matmul", "--device", "cpu", "--size", "8,500", "--time", "1h"}, &stdout, &stderr)
		if code != exitInterrupted || stdout.Len() > 0 {
			t.Errorf("after %v: exit code %d, output %q", after, code, stdout.String())
		}
		wantLine(t, stderr.String(), interrupted)
	}
}
