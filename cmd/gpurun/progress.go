package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how much of a job is done, on a terminal and nowhere else. A
// nil one shows nothing.
type progress struct {
	mu    sync.Mutex
	start time.Time
	out   io.Writer
	bars  *mpb.Progress
	bar   *mpb.Bar
}

const (
	// progressDelay is how long a job may take without a bar.
	progressDelay = 300 * time.Millisecond

	progressTotal = 10000
	progressWidth = 64
)

// newProgress returns a bar on stderr, or nil where stderr is not a terminal.
func newProgress(stderr io.Writer) *progress {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &progress{start: time.Now(), out: f}
}

// set shows done, from 0 to 1.
func (p *progress) set(done float64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		if time.Since(p.start) < progressDelay || done >= 1 {
			return
		}
		p.bars = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(progressWidth))
		p.bar = p.bars.AddBar(progressTotal,
			mpb.BarRemoveOnComplete(),
			mpb.AppendDecorators(
				decor.Percentage(decor.WCSyncSpace),
				decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace), ""),
			))
	}
	p.bar.SetCurrent(min(int64(done*progressTotal), progressTotal-1))
}

// finish takes the bar away.
func (p *progress) finish() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.bar = nil
	}
}
