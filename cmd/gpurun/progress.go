package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/gpurun/gpurun"
)

// progress shows how much of a job is done, and under that what each of several devices
// does, on a terminal and nowhere else. A nil one shows nothing.
type progress struct {
	mu    sync.Mutex
	start time.Time
	out   *os.File
	bars  *mpb.Progress
	bar   *mpb.Bar
	live  func() *gpurun.Report // or nil
	begin *time.Timer
	ended bool

	// Of the goroutine that renders the bar.
	watched   watched
	remaining remaining
}

const (
	// progressDelay is how long a job may take without a bar.
	progressDelay = 300 * time.Millisecond

	progressTotal = 10000
	progressWidth = 64

	// refreshRate is the time from one look of the bar to the next.
	refreshRate = 200 * time.Millisecond

	// remainingWindow is the time over which the speed of a job is measured: hosts come
	// and go.
	remainingWindow = 30 * time.Second
)

// remaining tells how long a job still takes, by how it went on of late. What was done
// before the first look, such as in an earlier run, does not count as speed.
type remaining struct{ seen []doneAt }

// doneAt is the part of a job that was done at a time.
type doneAt struct {
	when time.Time
	done float64
}

// add takes in done, as it is now, and returns how long the rest takes, in seconds
// without fractions, if that is known.
func (r *remaining) add(done float64, now time.Time) (left time.Duration, known bool) {
	if done <= 0 {
		return 0, false
	}
	r.seen = append(r.seen, doneAt{now, done})
	for len(r.seen) > 2 && now.Sub(r.seen[1].when) >= remainingWindow {
		r.seen = r.seen[1:]
	}
	first := r.seen[0]
	took, more := now.Sub(first.when).Seconds(), done-first.done
	const longest = 1e9 // seconds
	if took < 1 || more <= 0 || (1-done)*took >= longest*more {
		return 0, false
	}
	return (time.Duration((1 - done) / more * took * float64(time.Second))).Round(time.Second), true
}

// newProgress returns a bar on stderr, or nil where stderr is not a terminal.
func newProgress(stderr io.Writer) *progress {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &progress{start: time.Now(), out: f}
}

// watch has what live returns shown too, from soon after now on if that is not nil: also
// while no part of a job is done.
func (p *progress) watch(live func() *gpurun.Report) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live = live
	p.begin = time.AfterFunc(progressDelay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.ended:
		case live() != nil:
			p.show()
		default:
			p.begin.Reset(refreshRate)
		}
	})
}

// show makes the bar, if it is not there. p.mu is held.
func (p *progress) show() {
	if p.bar != nil || p.ended {
		return
	}
	p.bars = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(progressWidth), mpb.WithRefreshRate(refreshRate))
	options := []mpb.BarOption{
		mpb.BarRemoveOnComplete(),
		mpb.BarFillerTrim(),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			done := float64(s.Current) / progressTotal
			text := fmt.Sprintf(" %d %%", int(100*done))
			if left, known := p.remaining.add(done, time.Now()); known {
				text += fmt.Sprintf(", %v left", left)
			}
			return text
		})),
	}
	if live := p.live; live != nil {
		options = append(options, mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			_, height, err := term.GetSize(int(p.out.Fd()))
			if err != nil || s.Aborted || s.Completed {
				return nil
			}
			return writeLive(w, live, &p.watched, s.AvailableWidth, height)
		}), false))
	}
	p.bar = p.bars.AddBar(progressTotal, options...)
}

// set shows done, from 0 to 1.
func (p *progress) set(done float64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil && (time.Since(p.start) < progressDelay || done >= 1) {
		return
	}
	p.show()
	if p.bar != nil {
		p.bar.SetCurrent(min(int64(done*progressTotal), progressTotal-1))
	}
}

// Write writes lines, above the bar if there is one.
func (p *progress) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		return p.bars.Write(lines)
	}
	return p.out.Write(lines)
}

// finish takes the bar away.
func (p *progress) finish() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.begin != nil {
		p.begin.Stop()
	}
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.bar = nil
	}
}
