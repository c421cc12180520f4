//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gpurun/gpurun"
)

// cluster is a coordinator and three workers, processes all of them.
type cluster struct {
	folder      string // of the binary and the key; removed at the end
	coordinator *process
	workers     []*worker // the first of which is left alone

	mu     sync.Mutex
	latest status
}

// process is a program that runs.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func start(cmd *exec.Cmd) (*process, error) {
	// In the group of this process they would get the terminal's interrupt too, and seem
	// to end by themselves. If this process is killed, they are.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		defer close(p.done)
		cmd.Wait() // the state says it all
	}()
	return p, nil
}

// ended returns an error if p runs no more.
func (p *process) ended(name string) error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself: %v", name, p.cmd.ProcessState)
	default:
		return nil
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// worker is a run of gpurun worker, and all that it takes to have another one.
type worker struct {
	*process
	name    string
	binary  string
	args    []string
	log     string // a file
	addr    string
	metrics string // an address
}

const (
	// listens is what a worker says when it does. To connect to it instead would have it
	// tell, in its log and in its metrics, of a coordinator that it turned away.
	listens = "listening at"

	// listenLimit is no measure of anything: what takes longer hangs.
	listenLimit = time.Minute
)

// start starts the worker, again if it has ended, and returns when it listens.
func (w *worker) start(ctx context.Context) error {
	out, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	before, err := out.Stat()
	if err != nil {
		return err
	}
	cmd := exec.Command(w.binary, w.args...)
	cmd.Env = append(os.Environ(), "GPURUN_CACHE="+filepath.Join(filepath.Dir(w.binary), "cache"))
	cmd.Stdout, cmd.Stderr = out, out
	p, err := start(cmd)
	if err != nil {
		return err
	}
	w.process = p
	for limit, poll := time.After(listenLimit), time.Tick(20*time.Millisecond); ; {
		ended := w.ended(w.name) // asked first: what it said at last counts
		if said, err := says(w.log, before.Size(), listens); said || err != nil {
			return err
		}
		if ended != nil {
			return fmt.Errorf("%w; see %s", ended, w.log)
		}
		select {
		case <-poll:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit:
			return fmt.Errorf("%s does not listen at %s after %v; see %s", w.name, w.addr, listenLimit, w.log)
		}
	}
}

// says reports whether there are words in a file from an offset on.
func says(file string, from int64, words string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return false, err
	}
	text, err := io.ReadAll(f)
	return bytes.Contains(text, []byte(words)), err
}

// startCluster builds the command and starts three workers of it, and this program as
// their coordinator. None is left if that fails or ctx ends.
func startCluster(ctx context.Context, logs string, seed uint64) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if c.folder, err = os.MkdirTemp("", "gpurun-soak-"); err != nil {
		return c, err
	}
	binary, key := filepath.Join(c.folder, "gpurun"), filepath.Join(c.folder, "key")
	if err := build(ctx, binary); err != nil {
		return c, err
	}
	if err := gpurun.WriteKeyFile(key); err != nil {
		return c, err
	}
	var hosts []string
	for i := range 3 {
		w, err := newWorker(i, binary, key, logs)
		if err != nil {
			return c, err
		}
		c.workers, hosts = append(c.workers, w), append(hosts, w.addr)
		if err := w.start(ctx); err != nil {
			return c, err
		}
	}
	return c, c.startCoordinator(ctx, hosts, key, seed)
}

// build builds the command from the source that this program is of.
func build(ctx context.Context, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/gpurun/gpurun/cmd/gpurun")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	// Killed, it would leave its folder behind.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 10*time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return nil
}

func newWorker(i int, binary, key, logs string) (*worker, error) {
	w := &worker{name: fmt.Sprint("worker ", i+1), binary: binary, log: filepath.Join(logs, fmt.Sprintf("worker-%d.log", i+1))}
	var err error
	if w.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	if w.metrics, err = freeAddress(); err != nil {
		return nil, err
	}
	w.args = []string{"worker", "--device", "cpu", "--key", key, "--listen", w.addr, "--metrics", w.metrics}
	return w, nil
}

// freeAddress returns an address of this machine at which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startCoordinator returns when the coordinator has begun with its jobs.
func (c *cluster) startCoordinator(ctx context.Context, hosts []string, key string, seed uint64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-coordinate", strings.Join(hosts, ","), "-key", key, "-seed", fmt.Sprint(seed))
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	if c.coordinator, err = start(cmd); err != nil {
		return err
	}
	said := make(chan struct{})
	go c.listen(read, said)
	select {
	case <-said:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.coordinator.done:
		return errors.New("the coordinator did not begin")
	}
}

// listen keeps the latest of what the coordinator says of itself, and closes said when
// it has said something.
func (c *cluster) listen(r io.ReadCloser, said chan<- struct{}) {
	defer r.Close()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var s status
		if json.Unmarshal(lines.Bytes(), &s) != nil {
			continue
		}
		c.mu.Lock()
		c.latest = s
		c.mu.Unlock()
		if said != nil {
			close(said)
			said = nil
		}
	}
}

func (c *cluster) status() status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest
}

// processes returns those that were started.
func (c *cluster) processes() (all []*process) {
	if c.coordinator != nil {
		all = append(all, c.coordinator)
	}
	for _, w := range c.workers {
		if w.process != nil {
			all = append(all, w.process)
		}
	}
	return all
}

// dump makes all processes say what their goroutines wait for, and end.
func (c *cluster) dump() {
	for _, p := range c.processes() {
		p.cmd.Process.Signal(syscall.SIGQUIT)
		p.cmd.Process.Signal(syscall.SIGCONT)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second): // stop kills it
		}
	}
}

func (c *cluster) stop() {
	for _, p := range c.processes() {
		p.kill()
	}
	os.RemoveAll(c.folder)
}
