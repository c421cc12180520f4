package gpurun

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// kernelProcess is the process of a kernel.
type kernelProcess struct {
	sandbox *sandbox
	command *exec.Cmd
	alive   io.Closer // while it is open the process knows that this one lives
	said    *tail     // on its stderr
	host    *dist.RemoteHost
	ended   chan struct{}     // closed when it has
	source  [sha256.Size]byte // the hash of what it runs
	rest    *time.Timer       // that ends it if it waits

	busy     atomic.Int32 // calls that wait for it
	reading  atomic.Int32 // of those, which wait for arrays
	cameOn   atomic.Int64 // when it last did, in nanoseconds since start
	start    time.Time
	answered atomic.Int64 // when a tile last was, likewise

	mu    sync.Mutex
	cause error // why it was ended
}

// watch ends the process if it takes too much memory, or does not come on.
func (p *kernelProcess) watch() {
	proc, err := process.NewProcess(int32(p.command.Process.Pid))
	if err != nil {
		return // it has ended
	}
	ticker := time.NewTicker(watchEach)
	defer ticker.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-ticker.C:
		}
		if p.busy.Load() == 0 || p.reading.Load() > 0 {
			p.comeOn()
		}
		if still := time.Since(p.start) - time.Duration(p.cameOn.Load()); still > p.sandbox.time {
			p.kill(fmt.Errorf("it did not come on for %v", p.sandbox.time))
		}
		if m, err := proc.MemoryInfo(); err == nil && m.RSS > uint64(p.sandbox.limit) {
			p.kill(fmt.Errorf("it took %s of memory, where it may have %s", humanize.IBytes(m.RSS), humanize.IBytes(uint64(p.sandbox.limit))))
		}
	}
}

// comeOn notes that the process has come some way.
func (p *kernelProcess) comeOn() { p.cameOn.Store(int64(time.Since(p.start))) }

// kill ends the process for a cause.
func (p *kernelProcess) kill(cause error) {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = cause
		p.sandbox.log.Warn("kernel ended", "device", p.sandbox.info.ID, "err", cause)
	}
	p.mu.Unlock()
	_ = p.command.Process.Kill() // it may have ended
}

// explain returns the error of a call to the process: if that has ended, why.
func (p *kernelProcess) explain(err error) error {
	if err == nil {
		return nil
	}
	if p.host == nil || p.host.Err() != nil {
		select { // the connection ends first
		case <-p.ended:
		case <-time.After(endPatience):
		}
	}
	select {
	case <-p.ended:
	default:
		return err
	}
	p.mu.Lock()
	cause := p.cause
	p.mu.Unlock()
	if cause == nil {
		cause = errors.New(p.command.ProcessState.String())
		if said := p.said.String(); said != "" {
			cause = fmt.Errorf("%w: %s", cause, said)
		}
	}
	return fmt.Errorf("%w: %w", ErrKernelEnded, cause)
}

// end ends the process, which nobody waits for any more.
func (p *kernelProcess) end() {
	if p.host != nil {
		p.host.Abandon()
	}
	select {
	case <-p.ended:
		return
	case <-time.After(endPatience / 10):
	}
	_ = p.command.Process.Kill()
	<-p.ended
}

// counted returns job with arrays of which the reads are counted: while the process waits for
// them it cannot come on.
func (p *kernelProcess) counted(job *kernels.Custom) *kernels.Custom {
	c := *job
	c.Args = append([]kernels.Arg{}, job.Args...)
	for i, a := range c.Args {
		if a.Reads() {
			c.Args[i].Array = countedArray{a.Array, p}
		}
	}
	return &c
}

// countedArray is an array for a kernelProcess.
type countedArray struct {
	kernels.Array
	process *kernelProcess
}

func (a countedArray) Read(to []byte, t kernels.Tile) error {
	a.process.reading.Add(1)
	defer a.process.reading.Add(-1)
	defer a.process.comeOn()
	return a.Array.Read(to, t)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailBytes is how much of a process's stderr is told.
const tailBytes = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(p), nil
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
