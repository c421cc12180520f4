//go:build linux

package lab

import (
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Slow has p run and stand still by turns, until end is called, which waits for that
// and leaves p running, or until p ends.
func (p *Process) Slow(run, pause time.Duration) (end func()) {
	ended := make(chan struct{})
	var finished sync.WaitGroup
	turn := func() {
		for {
			select {
			case <-ended:
				return
			case <-p.done:
				return
			case <-time.After(run):
			}
			// An error is that p has ended.
			_ = p.whileStopped(func() error {
				select {
				case <-ended:
				case <-p.done:
				case <-time.After(pause):
				}
				return nil
			})
		}
	}
	p.cycles.Add(1)
	finished.Go(func() {
		defer p.cycles.Done()
		turn()
	})
	return sync.OnceFunc(func() {
		close(ended)
		finished.Wait()
	})
}

// whileStopped calls f while no thread of p runs. p goes on afterwards, unless
// somebody else had stopped it before.
func (p *Process) whileStopped(f func() error) error {
	p.pausing.Lock()
	defer p.pausing.Unlock()
	if p.Stopped() {
		return f()
	}
	if err := p.stop(); err != nil {
		return err
	}
	defer p.cmd.Process.Signal(syscall.SIGCONT)
	return f()
}

// letRun lets p, which the lab has stopped, run for a moment.
func (p *Process) letRun(moment time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	time.Sleep(moment)
	return p.stop()
}

// stop stops p and waits until none of its threads runs.
func (p *Process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(hangLimit); !p.Stopped(); time.Sleep(time.Millisecond) {
		if p.Ended() {
			return fmt.Errorf("%s has ended", p.name)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not stop", p.name)
		}
	}
	return nil
}

// Stopped reports whether all threads of p stand still, by SIGSTOP.
func (p *Process) Stopped() bool {
	files, err := filepath.Glob(p.proc("task/*/stat"))
	if err != nil || len(files) == 0 {
		return false
	}
	for _, name := range files {
		fields := statFields(name)
		if fields == nil {
			continue // the thread has ended
		}
		if state := string(fields[0]); state != "T" && state != "Z" && state != "X" {
			return false
		}
	}
	return !p.Ended()
}
