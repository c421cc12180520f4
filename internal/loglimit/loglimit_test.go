package loglimit_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/internal/loglimit"
)

func newLog() (*slog.Logger, *bytes.Buffer) {
	var out bytes.Buffer
	return slog.New(loglimit.New(slog.NewTextHandler(&out, nil))), &out
}

// TestBurstAndRate logs one message 100 times a second for 5 s, and another now and
// then, by a logger derived from the same.
func TestBurstAndRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := newLog()
		other := log.With("host", "a").WithGroup("g")
		for i := range 500 {
			log.Warn("scanned")
			if i%200 == 0 {
				other.Warn("rare")
			}
			time.Sleep(10 * time.Millisecond)
		}
		log.Warn("scanned")
		// 10 at 0 s, and one at 1, 2, 3, 4 and 5 s: of 100 in each second 90, then 99 are
		// suppressed.
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var scanned, suppressed []string
		rare := 0
		for _, line := range lines {
			switch {
			case strings.Contains(line, "msg=rare"):
				rare++
			default:
				scanned = append(scanned, line)
			}
			if _, n, ok := strings.Cut(line, "suppressed="); ok {
				suppressed = append(suppressed, n)
			}
		}
		if len(scanned) != 15 || rare != 3 || fmt.Sprint(suppressed) != "[90 99 99 99 99]" {
			t.Errorf("%d scanned, %d rare, suppressed %v:\n%s", len(scanned), rare, suppressed, out)
		}
	})
}

// TestBurstComesBack is quiet for a while between two bursts.
func TestBurstComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := newLog()
		for range 2 {
			for range 30 {
				log.Info("m")
			}
			time.Sleep(10 * time.Second)
		}
		if n := strings.Count(out.String(), "\n"); n != 20 || strings.Count(out.String(), "suppressed=20") != 1 {
			t.Errorf("%d lines:\n%s", n, out)
		}
	})
}

// TestMemory logs messages of which no two are the same: those that come after as many
// as are told apart are limited together, and none of them is kept.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := newLog()
		for i := range 1000 {
			log.Info(fmt.Sprint(i))
		}
		if n := strings.Count(out.String(), "\n"); n != 256+10 {
			t.Errorf("%d records passed, want 256 and a burst of the rest", n)
		}
		time.Sleep(10 * time.Second)
		out.Reset()
		log.Info("later")
		if strings.Contains(out.String(), "suppressed") || out.Len() == 0 {
			t.Errorf("a new message, when others have become quiet: %s", out)
		}

		var before, after runtime.MemStats
		quiet := slog.New(loglimit.New(slog.NewTextHandler(discard{}, nil)))
		runtime.GC()
		runtime.ReadMemStats(&before)
		long := strings.Repeat("x", 1<<10)
		for i := range 20_000 {
			quiet.Info(fmt.Sprint(i, long))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
			t.Errorf("20,000 messages of 1 KiB keep %d bytes", grown)
		}
		quiet.Info("")
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
