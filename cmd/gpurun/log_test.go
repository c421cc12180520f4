package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogFlag logs in both formats, and quietly.
func TestLogFlag(t *testing.T) {
	var out buffer
	for _, format := range []string{"text", "json"} {
		var f logFormat
		if err := f.Set(format); err != nil {
			t.Fatal(err)
		}
		f.open(&out, false).Info("said")
		f.open(&out, true).Info("unsaid")
		f.open(&out, true).Warn("grave")
	}
	var none logFormat
	if none.open(&out, false) != nil || none.Set("xml") == nil {
		t.Error("there is a log where none was asked for, or one in XML")
	}
	if s := out.String(); strings.Count(s, "said") != 2 || strings.Count(s, "grave") != 2 || strings.Contains(s, "unsaid") || strings.Count(s, "\n{") != 2 {
		t.Errorf("the log is\n%s", s)
	}
}

// TestWorkerIsWatched starts a worker that serves metrics and logs as JSON.
func TestWorkerIsWatched(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		args := []string{"worker", "--listen", "unix:" + filepath.Join(t.TempDir(), "w"), "--device", "cpu", "--metrics", "127.0.0.1:0", "--log", "json"}
		ended <- run(ctx, args, io.Discard, write)
		write.Close()
	}()
	metrics := ""
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		var line struct{ Level, Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Level != "INFO" {
			t.Errorf("%v: %s", err, lines.Text())
		}
		if line.Msg == "serving metrics" {
			metrics = line.Addr
		}
		if strings.HasPrefix(line.Msg, "listening at ") {
			break
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(text), `gpurun_worker_tiles_total{device="cpu",outcome="done"} 0`) {
		t.Errorf("%v: %s", err, text)
	}
	go io.Copy(io.Discard, read)
	cancel()
	if code := <-ended; code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

// TestWarnings logs as the processes of a launcher do by default.
func TestWarnings(t *testing.T) {
	var out strings.Builder
	log := warnings(logWriter(&out, nil), 3)
	log.Info("unsaid")
	log.Warn("said")
	if s := out.String(); !strings.Contains(s, "level=WARN msg=said rank=3\n") || strings.Contains(s, "unsaid") {
		t.Errorf("the log is\n%s", s)
	}
	bar := &progress{}
	if w := logWriter(&out, bar); w != bar {
		t.Errorf("with a bar it goes to %v", w)
	}
}
