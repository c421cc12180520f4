//go:build linux

package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// What happens to workers.
const (
	killed     = "killed"
	terminated = "terminated"
	stopped    = "stopped"
)

var acts = []string{killed, terminated, stopped}

const (
	// mostStopped is longer than the 10 to 12 s after which a session is given up.
	mostStopped = 16 * time.Second

	mostAbsent = 3 * time.Second

	// drainLimit is longer than the 30 s for which a worker drains at most.
	drainLimit = 45 * time.Second
)

// event is one act of churn.
type event struct {
	seconds, back float64 // when, and when the worker was there again if it was, from the start
	worker, act   string
}

// churn does something to one worker after the other.
type churn struct {
	workers []*worker
	pause   time.Duration // mean
	random  *rand.Rand
	began   time.Time

	mu     sync.Mutex
	events []event
}

// run goes on until ctx is done. A worker may be absent or stopped then.
func (c *churn) run(ctx context.Context) error {
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(c.random.ExpFloat64() * float64(c.pause))):
		}
		w := c.workers[i%len(c.workers)]
		if err := w.ended(w.name); err != nil {
			return err
		}
		e := event{seconds: time.Since(c.began).Seconds(), worker: w.name, act: acts[c.random.IntN(len(acts))]}
		c.mu.Lock()
		c.events = append(c.events, e)
		c.mu.Unlock()
		if err := c.act(ctx, w, e.act); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s, %s: %w", w.name, e.act, err)
		}
		c.mu.Lock()
		c.events[i].back = time.Since(c.began).Seconds()
		c.mu.Unlock()
	}
}

// act does something to w and returns when it is there again, or ctx is done.
func (c *churn) act(ctx context.Context, w *worker, what string) error {
	switch what {
	case stopped:
		if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		if err := c.sleep(ctx, mostStopped); err != nil {
			return err
		}
		return w.cmd.Process.Signal(syscall.SIGCONT)
	case terminated:
		if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(drainLimit):
			return fmt.Errorf("it has not ended after %v", drainLimit)
		}
		if !w.cmd.ProcessState.Success() {
			return fmt.Errorf("%v", w.cmd.ProcessState)
		}
	case killed:
		w.kill()
	}
	if err := c.sleep(ctx, mostAbsent); err != nil {
		return err
	}
	return w.start(ctx)
}

// sleep sleeps for up to most.
func (c *churn) sleep(ctx context.Context, most time.Duration) error {
	select {
	case <-time.After(time.Duration(c.random.Int64N(int64(most)))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// happened returns what has happened so far.
func (c *churn) happened() []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

func writeEvents(name string, events []event) error {
	rows := [][]string{{"seconds", "back_seconds", "worker", "act"}}
	for _, e := range events {
		back := ""
		if e.back > 0 {
			back = fmt.Sprintf("%.1f", e.back)
		}
		rows = append(rows, []string{fmt.Sprintf("%.1f", e.seconds), back, e.worker, e.act})
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := csv.NewWriter(f).WriteAll(rows); err != nil {
		return err
	}
	return f.Close()
}
