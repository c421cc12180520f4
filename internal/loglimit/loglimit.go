// Package loglimit keeps a log short in which the same message comes again and again,
// as it does while somebody scans ports.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// Of each message burst records pass at once, and from then on one each interval.
	burst    = 10
	interval = time.Second

	// maxMessages bounds the messages that are told apart. The rest count as one.
	maxMessages = 256
)

// New returns a handler that hands the records on to next, but of those with the same
// message no more than 10 at once and then one a second. How many it has suppressed it
// says in the next one that passes, as the attribute "suppressed"; not if none comes, or
// only after hundreds of others.
func New(next slog.Handler) slog.Handler {
	return handler{next, &limits{messages: map[string]*allowance{}}}
}

type handler struct {
	slog.Handler
	limits *limits // those derived from one handler have the same
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.limits}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.limits}
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	passes, suppressed := h.limits.take(r.Message, time.Now())
	if !passes {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return h.Handler.Handle(ctx, r)
}

type limits struct {
	mu       sync.Mutex
	messages map[string]*allowance
	rest     allowance
}

// allowance is how many records of a message may still pass.
type allowance struct {
	whole      time.Time // when a burst may pass again
	suppressed int
}

func (l *limits) take(message string, now time.Time) (passes bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.messages[message]
	if a == nil {
		a = l.add(message, now)
	}
	from := a.whole
	if from.Before(now) {
		from = now
	}
	if from.Sub(now) > (burst-1)*interval {
		a.suppressed++
		return false, 0
	}
	a.whole = from.Add(interval)
	suppressed, a.suppressed = a.suppressed, 0
	return true, suppressed
}

// add returns an allowance for a new message, in the place of those that are whole if
// there are too many, or else the one of the rest.
func (l *limits) add(message string, now time.Time) *allowance {
	if len(l.messages) >= maxMessages {
		for m, a := range l.messages {
			if !a.whole.After(now) {
				delete(l.messages, m)
			}
		}
	}
	if len(l.messages) >= maxMessages {
		return &l.rest
	}
	a := &allowance{}
	l.messages[message] = a
	return a
}
