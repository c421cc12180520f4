package gpurun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// ErrKernelEnded is matched by the error about a kernel of a coordinator's for which the process that
// ran it ended, or was ended.
var ErrKernelEnded = errors.New("the kernel ended the process that ran it")

const (
	// kernelTime is how long a kernel may take without coming on, unless Config.KernelTime
	// says otherwise. Launches are meant to take fractions of a second.
	kernelTime = time.Minute

	// kernelMemory is how much memory the process of a kernel may take, beside Config.Memory,
	// or without it.
	kernelMemory = 4 << 30

	// watchEach is how often such a process is looked at.
	watchEach = 200 * time.Millisecond

	// endPatience is how long such a process may take to end by itself.
	endPatience = time.Second
)

// sandbox is a device that runs kernels of coordinators, each job in a process of its own: it
// may write where it should not, take all memory, or never end.
type sandbox struct {
	info    device.Info
	slots   int
	command []string // which calls ServeKernels
	memory  int64    // Config.Memory
	limit   int64    // of the process's memory
	time    time.Duration
	log     *slog.Logger
}

// newSandboxes returns a sandbox for each device.
func newSandboxes(config *Config, devices []device.Device, log *slog.Logger) []dist.Device {
	all := make([]dist.Device, len(devices))
	for i, d := range devices {
		s := &sandbox{info: d.Info(), slots: d.Slots(), command: config.KernelCommand, memory: config.Memory, limit: kernelMemory, time: kernelTime, log: log}
		if config.Memory > 0 {
			s.limit = min(kernelMemory, config.Memory+1<<30)
		}
		if config.KernelTime > 0 {
			s.time = config.KernelTime
		}
		all[i] = s
	}
	return all
}

func (s *sandbox) ID() string { return s.info.ID }
func (s *sandbox) Slots() int { return s.slots }

// Begin starts the process, and has it compile the kernel.
func (s *sandbox) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	custom, ok := job.(*kernels.Custom)
	if !ok {
		return nil, fmt.Errorf("%s is no kernel of a user", job.Kernel())
	}
	if s.info.Backend != device.BackendOpenCL {
		return nil, errors.New("kernels of coordinators are OpenCL C, and this is no OpenCL device: name one with --device where its worker is started")
	}
	p, err := s.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("start a process for the kernel: %w", err)
	}
	p.busy.Add(1)
	defer p.busy.Add(-1)
	runner, err := p.host.Devices()[0].Begin(ctx, p.counted(custom))
	if err != nil {
		err = p.explain(err)
		p.end()
		return nil, err
	}
	return &sandboxRunner{runner, p}, nil
}

// kernelProcess is the process of a kernel.
type kernelProcess struct {
	sandbox *sandbox
	command *exec.Cmd
	alive   io.Closer // while it is open the process knows that this one lives
	said    *tail     // on its stderr
	host    *dist.RemoteHost
	ended   chan struct{} // closed when it has

	busy    atomic.Int32 // calls that wait for it
	reading atomic.Int32 // of those, which wait for arrays
	cameOn  atomic.Int64 // when it last did, in nanoseconds since start
	start   time.Time

	mu    sync.Mutex
	cause error // why it was ended
}

// start starts a process, and watches it.
func (s *sandbox) start(ctx context.Context) (*kernelProcess, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	here, there, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer there.Close()
	p := &kernelProcess{sandbox: s, said: &tail{}, ended: make(chan struct{}), start: time.Now()}
	p.command = exec.Command(s.command[0], append(s.command[1:], s.info.ID, fmt.Sprint(s.memory))...)
	p.command.ExtraFiles = []*os.File{there}
	p.command.Stderr = p.said
	if p.alive, err = p.command.StdinPipe(); err == nil {
		err = p.command.Start()
	}
	if err != nil {
		here.Close()
		return nil, err
	}
	go func() {
		_ = p.command.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	go p.watch()
	p.host, err = dist.Accept(ctx, here, "worker", nil)
	if err == nil && len(p.host.Devices()) != 1 {
		err = fmt.Errorf("it has %d devices", len(p.host.Devices()))
	}
	if err != nil {
		err = p.explain(err)
		p.end()
		return nil, err
	}
	return p, nil
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

// sandboxRunner runs the tiles of a kernel in its process.
type sandboxRunner struct {
	kernels.Runner
	process *kernelProcess
}

func (r *sandboxRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	p, progress := r.process, out.Progress
	out.Progress = func() {
		p.comeOn()
		if progress != nil {
			progress()
		}
	}
	defer func() { out.Progress = progress }()
	p.busy.Add(1)
	defer p.busy.Add(-1)
	defer p.comeOn()
	err := p.explain(r.Runner.Run(ctx, t, out))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (r *sandboxRunner) Close() error {
	err := r.Runner.Close()
	r.process.end()
	return err
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

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
