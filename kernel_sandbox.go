package gpurun

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

	// idleTime is how long such a process waits for the same kernel to be run again, and stoppedTime
	// if it may not have stopped what it was told to.
	idleTime    = 10 * time.Second
	stoppedTime = time.Second

	// stuckTime is after how long without an answer such a process is ended when it is told to stop: it
	// may be at what an earlier job began.
	stuckTime = 5 * time.Second

	// mostIdle is how many such processes wait at most, for each device.
	mostIdle = 4

	// mostStarting is how many start at a time, for each device.
	mostStarting = 2 * mostIdle

	// mostAge is how old such a process is at most when it begins to wait: drivers keep memory, and a
	// shortage of it has made its tiles small for good.
	mostAge = time.Minute
)

// sandbox is a device that runs kernels of coordinators, each in a process of its own: it
// may write where it should not, take all memory, or never end. A process whose job has ended well
// waits for the next of the same source.
type sandbox struct {
	info    device.Info
	slots   int
	command []string // which calls ServeKernels
	memory  int64    // Config.Memory
	limit   int64    // of the process's memory
	time    time.Duration
	log     *slog.Logger

	ctx    context.Context // done when it is closed
	cancel context.CancelFunc
	starts sync.WaitGroup
	room   chan struct{} // holds a token for each process that starts

	mu       sync.Mutex
	idle     []*kernelProcess // that wait, the one that has for longest first
	starting []*kernelStart
}

// kernelStart is a process that is being started.
type kernelStart struct {
	source  [sha256.Size]byte
	wanted  bool // somebody waits for it
	cancel  context.CancelFunc
	done    chan struct{} // closed when process or err is set
	process *kernelProcess
	err     error
}

// kernelRunners returns what runs kernels of coordinators on each of the devices, and notes in infos
// which those are. There is nil where none are run.
func kernelRunners(config *Config, devices []device.Device, infos []dist.DeviceInfo, log *slog.Logger) (all []dist.Device, sandboxes []*sandbox) {
	all = make([]dist.Device, len(devices))
	for i, d := range devices {
		if d.Info().Backend == device.BackendCPU {
			if infos[i].Functions = registeredNames(); infos[i].Functions != "" {
				all[i] = registeredOnCPU{d}
			}
			continue
		}
		if !config.AllowKernels {
			continue
		}
		infos[i].Source = true
		s := &sandbox{info: d.Info(), slots: d.Slots(), command: config.KernelCommand, memory: config.Memory, limit: kernelMemory, time: kernelTime, log: log,
			room: make(chan struct{}, mostStarting)}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		if config.Memory > 0 {
			s.limit = min(kernelMemory, config.Memory+1<<30)
		}
		if config.KernelTime > 0 {
			s.time = config.KernelTime
		}
		all[i], sandboxes = s, append(sandboxes, s)
	}
	return all, sandboxes
}

func (s *sandbox) ID() string { return s.info.ID }
func (s *sandbox) Slots() int { return s.slots }

// Begin has a process compile the kernel: a new one, unless one waits.
func (s *sandbox) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	custom, ok := job.(*kernels.Custom)
	if !ok {
		return nil, fmt.Errorf("%s is no kernel of a user", job.Kernel())
	}
	source := sha256.Sum256([]byte(custom.Source))
	p := s.resume(source)
	if p == nil {
		var err error
		if p, err = s.started(ctx, source); err != nil {
			return nil, fmt.Errorf("start a process for the kernel: %w", err)
		}
	}
	p.busy.Add(1)
	defer p.busy.Add(-1)
	runner, err := p.host.Devices()[0].Begin(ctx, p.counted(custom))
	switch {
	case err == nil:
		return &sandboxRunner{Runner: runner, process: p}, nil
	case ctx.Err() != nil && p.host.Err() == nil:
		s.keep(p, stoppedTime)
	default:
		err = p.explain(err)
		p.end()
	}
	return nil, err
}

// started returns a process for this source, when it has started. If ctx is done before that it waits
// for the next: jobs that are over sooner than a process is there may come by the hundred.
func (s *sandbox) started(ctx context.Context, source [sha256.Size]byte) (*kernelProcess, error) {
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return nil, s.ctx.Err()
	}
	i := slices.IndexFunc(s.starting, func(start *kernelStart) bool { return start.source == source && !start.wanted })
	if i < 0 {
		i = len(s.starting)
		startCtx, cancel := context.WithCancel(s.ctx)
		start := &kernelStart{source: source, cancel: cancel, done: make(chan struct{})}
		s.starting = append(s.starting, start)
		s.starts.Go(func() { s.carryOut(startCtx, start) })
	}
	start := s.starting[i]
	start.wanted = true
	s.mu.Unlock()
	select {
	case <-start.done:
		return start.process, start.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	there := false
	select {
	case <-start.done:
		there = start.err == nil
	default:
		start.wanted = false
		s.cancelStarts()
	}
	s.mu.Unlock()
	if there {
		s.keep(start.process, idleTime)
	}
	return nil, ctx.Err()
}

// cancelStarts ends the oldest of the starts that nobody wants, if there are more than may wait. s.mu
// is held.
func (s *sandbox) cancelStarts() {
	unwanted := func(start *kernelStart) bool { return !start.wanted }
	count := 0
	for _, start := range s.starting {
		if unwanted(start) {
			count++
		}
	}
	if count > mostIdle {
		i := slices.IndexFunc(s.starting, unwanted)
		s.starting[i].cancel()
		s.starting = slices.Delete(s.starting, i, i+1)
	}
}

// carryOut starts a process, and has it wait if nobody wants it any more.
func (s *sandbox) carryOut(ctx context.Context, start *kernelStart) {
	defer start.cancel()
	p, err := s.start(ctx)
	if err == nil {
		p.source = start.source
	}
	s.mu.Lock()
	s.starting = slices.DeleteFunc(s.starting, func(x *kernelStart) bool { return x == start })
	wanted := start.wanted
	if start.process, start.err = p, err; wanted {
		close(start.done)
	}
	s.mu.Unlock()
	if !wanted && err == nil {
		s.keep(p, idleTime)
	}
}

// resume returns a process that waits for this source, if one does.
func (s *sandbox) resume(source [sha256.Size]byte) *kernelProcess {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.idle, func(p *kernelProcess) bool { return p.source == source && p.host.Err() == nil })
	if i < 0 {
		return nil
	}
	p := s.idle[i]
	s.idle = slices.Delete(s.idle, i, i+1)
	p.rest.Stop()
	p.said.reset()
	return p
}

// keep has p, whose job has ended well, wait so long for the next, if it is not too old.
func (s *sandbox) keep(p *kernelProcess, wait time.Duration) {
	if time.Since(p.start) > mostAge {
		p.end()
		return
	}
	s.mu.Lock()
	p.rest = time.AfterFunc(wait, func() { s.forget(p) })
	s.idle = append(s.idle, p)
	oldest := s.idle[0]
	enough := s.ctx.Err() == nil && len(s.idle) <= mostIdle
	s.mu.Unlock()
	if !enough {
		s.forget(oldest)
	}
}

// forget ends p if it waits.
func (s *sandbox) forget(p *kernelProcess) {
	s.mu.Lock()
	i := slices.Index(s.idle, p)
	if i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		p.rest.Stop()
	}
	s.mu.Unlock()
	if i >= 0 {
		p.end()
	}
}

// Close ends the processes that wait. No others will.
func (s *sandbox) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.starts.Wait()
	s.mu.Lock()
	idle := slices.Clone(s.idle)
	s.mu.Unlock()
	for _, p := range idle {
		s.forget(p)
	}
	return nil
}

// start starts a process, and watches it.
func (s *sandbox) start(ctx context.Context) (*kernelProcess, error) {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
	p.command.WaitDelay = endPatience / 10 // what it has started itself, such as a linker, may hold that open
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
	s.log.Debug("process for kernels starts", "device", s.info.ID, "pid", p.command.Process.Pid)
	go p.watch()
	p.host, err = dist.Accept(ctx, here, "worker", nil)
	if err == nil && len(p.host.Devices()) != 1 {
		err = fmt.Errorf("it has %d devices", len(p.host.Devices()))
	}
	if err != nil {
		if ctx.Err() != nil { // nobody wants to know
			_ = p.command.Process.Kill()
		}
		err = p.explain(err)
		p.end()
		return nil, err
	}
	return p, nil
}

// sandboxRunner runs the tiles of a kernel in its process.
type sandboxRunner struct {
	kernels.Runner
	process *kernelProcess
	failed  atomic.Bool // a tile has
	stopped atomic.Bool // one was
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
	err := p.explain(r.Runner.Run(ctx, t, out))
	switch {
	case err == nil:
		p.comeOn()
		p.answered.Store(p.cameOn.Load())
	case ctx.Err() != nil:
		r.stopped.Store(true)
		return ctx.Err()
	default:
		r.failed.Store(true)
	}
	return err
}

func (r *sandboxRunner) Close() error {
	err := r.Runner.Close()
	wait := idleTime
	if r.stopped.Load() {
		wait = stoppedTime
	}
	p := r.process
	stuck := r.stopped.Load() && time.Since(p.start)-time.Duration(p.answered.Load()) > stuckTime // at what may never end
	if err != nil || stuck || r.failed.Load() || p.host.Err() != nil {
		p.end()
	} else {
		p.sandbox.keep(p, wait)
	}
	return err
}
