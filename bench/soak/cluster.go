//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
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
	metrics string // an address; empty where the command has no such flag
}

// start starts the worker, again if it has ended, and returns when it listens.
func (w *worker) start() error {
	out, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(w.binary, w.args...)
	cmd.Env = append(os.Environ(), "GPURUN_CACHE="+filepath.Join(filepath.Dir(w.binary), "cache"))
	cmd.Stdout, cmd.Stderr = out, out
	p, err := start(cmd)
	if err != nil {
		return err
	}
	w.process = p
	for range 1000 {
		if c, err := net.Dial("tcp", w.addr); err == nil {
			return c.Close()
		}
		if err := w.ended(w.name); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s does not listen at %s", w.name, w.addr)
}

// startCluster builds the command and starts three workers of it, and this program as
// their coordinator.
func startCluster(logs string, seed uint64) (c *cluster, err error) {
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
	build := exec.Command("go", "build", "-o", binary, "github.com/gpurun/gpurun/cmd/gpurun")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return c, fmt.Errorf("build the command: %w\n%s", err, out)
	}
	if err := gpurun.WriteKeyFile(key); err != nil {
		return c, err
	}
	help, err := exec.Command(binary, "worker", "--help").Output()
	if err != nil {
		return c, err
	}
	measured := slices.Contains(strings.Fields(string(help)), "--metrics")
	var hosts []string
	for i := range 3 {
		w, err := newWorker(i, binary, key, logs, measured)
		if err == nil {
			err = w.start()
		}
		if err != nil {
			return c, err
		}
		c.workers, hosts = append(c.workers, w), append(hosts, w.addr)
	}
	return c, c.startCoordinator(hosts, key, seed)
}

func newWorker(i int, binary, key, logs string, measured bool) (*worker, error) {
	w := &worker{name: fmt.Sprint("worker ", i+1), binary: binary, log: filepath.Join(logs, fmt.Sprintf("worker-%d.log", i+1))}
	var err error
	if w.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	w.args = []string{"worker", "--device", "cpu", "--key", key, "--listen", w.addr}
	if measured {
		if w.metrics, err = freeAddress(); err != nil {
			return nil, err
		}
		w.args = append(w.args, "--metrics", w.metrics)
	}
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
func (c *cluster) startCoordinator(hosts []string, key string, seed uint64) error {
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

func (c *cluster) stop() {
	if c.coordinator != nil {
		c.coordinator.kill()
	}
	for _, w := range c.workers {
		w.kill()
	}
	os.RemoveAll(c.folder)
}
