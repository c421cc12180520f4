package main

import (
	"context"
	"testing"
	"time"
)

// TestBenchInterrupted: whenever it is interrupted, nothing of a table is printed.
func TestBenchInterrupted(t *testing.T) {
	for _, args := range [][]string{
		{"bench", "matmul", "--device", "cpu", "--size", "8,500", "--time", "1h"},
		{"bench", "mandel", "--device", "cpu", "--view", "outside,inside", "--time", "1h"},
	} {
		for _, after := range []time.Duration{0, 50 * time.Millisecond, time.Second} {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(after, cancel)
			var stdout, stderr buffer
			code := run(ctx, args, &stdout, &stderr)
			if code != exitInterrupted || stdout.Len() > 0 {
				t.Errorf("%s after %v: exit code %d, output %q", args[1], after, code, stdout.String())
			}
			wantLine(t, stderr.String(), interrupted)
		}
	}
}
