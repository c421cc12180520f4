//go:build unix

package gpurun

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// newSandbox returns one whose processes do nothing, and have one of their own, which is not ended with them.
func newSandbox() *sandbox {
	s := &sandbox{command: []string{"sh", "-c", "cat; true"}, limit: 1 << 30, time: time.Minute, log: quiet(nil), room: make(chan struct{}, mostStarting)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// TestStartsAreBounded has processes asked for by jobs that are over before they are there.
func TestStartsAreBounded(t *testing.T) {
	s := newSandbox()
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

// newProcess returns a process of s that is so old, and has answered so long ago, which a host in this
// process stands in for.
func newProcess(t *testing.T, s *sandbox, age, answered time.Duration) *kernelProcess {
	t.Helper()
	here, there, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(there)
	there.Close()
	if err != nil {
		t.Fatal(err)
	}
	cpu, err := device.OpenCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	pullers, infos := hosted([]device.Device{cpu})
	served := make(chan error, 1)
	go func() {
		served <- dist.NewHost("kernel", pullers, infos, nil).ServeConn(context.Background(), conn, nil, "localhost")
	}()
	t.Cleanup(func() { <-served }) // which ends with the process
	p := &kernelProcess{sandbox: s, said: &tail{}, ended: make(chan struct{}), start: time.Now().Add(-age)}
	p.answered.Store(int64(age - answered))
	p.command = exec.Command("sh", "-c", "cat > /dev/null")
	if p.alive, err = p.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.ended)
	}()
	if p.host, err = dist.Accept(t.Context(), here, "worker", nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// actor is a Runner whose Run returns what ctx says, or err.
type actor struct{ err error }

func (a actor) Run(ctx context.Context, _ kernels.Tile, _ *kernels.Result) error {
	return errors.Join(ctx.Err(), a.err)
}
func (actor) Close() error { return nil }

// TestProcessesThatWait has jobs end in all ways: the process waits for the next one, or is ended.
func TestProcessesThatWait(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx           context.Context
		age, answered time.Duration // the process's
		err           error
		waits         bool
	}{
		"answered":                        {t.Context(), time.Second, time.Second, nil, true},
		"answered, after long":            {t.Context(), 40 * time.Second, 40 * time.Second, nil, true},
		"failed":                          {t.Context(), time.Second, 0, errors.New("it cannot"), false},
		"stopped":                         {over, time.Second, time.Second, nil, true},
		"stopped, and silent for long":    {over, 40 * time.Second, 40 * time.Second, nil, false},
		"stopped, and answered meanwhile": {over, 40 * time.Second, time.Second, nil, true},
		"old":                             {t.Context(), 2 * mostAge, 0, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox()
			p := newProcess(t, s, c.age, c.answered)
			r := &sandboxRunner{Runner: actor{c.err}, process: p}
			if err := r.Run(c.ctx, kernels.Tile{W: 1, H: 1}, &kernels.Result{}); (err == nil) != (c.ctx.Err() == nil && c.err == nil) {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			waits := len(s.idle) == 1
			s.mu.Unlock()
			select {
			case <-p.ended:
				waits = false
			default:
			}
			if waits != c.waits {
				t.Errorf("it waits: %v", waits)
			}
			if got := s.resume(p.source); (got == p) != c.waits {
				t.Errorf("the next job has %v", got)
			} else if got != nil {
				s.keep(p, idleTime)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			<-p.ended
		})
	}
}
