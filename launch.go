package gpurun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/launch"
)

// Launch is the place of this process among those that a launcher, such as mpiexec, has
// started for one command. That of rank 0 opens an engine, and the others are its workers:
// see Config.Launch.
type Launch struct {
	Launcher string // "mpiexec" or "srun"

	// Rank is this process's number, from 0 to Size−1; LocalRank is that among the LocalSize
	// processes on this machine.
	Rank, Size           int
	LocalRank, LocalSize int

	group   *launch.Group
	key     dist.Key // made by rank 0, where it has no other
	addrs   []string // of rank 0, for the others
	stop    context.CancelFunc
	waiting chan struct{} // closed when rank 0 has met the others; nil before it waits
}

// Launched returns the place of this process, or nil if it is by itself: no launcher that
// gpurun knows has started it, or no other process, or the environment variable
// GPURUN_LAUNCH is off. The error matches ErrLaunch if the launcher cannot be talked to.
//
// Known is what speaks version 1 of PMI: MPICH's mpiexec and those that are made of it, and
// Slurm's srun with --mpi=pmi2. It can be called once in a process.
func Launched() (*Launch, error) {
	g, err := launch.Find(os.Getenv)
	if err != nil || g == nil {
		return nil, wrapLaunch(err)
	}
	return &Launch{Launcher: g.Launcher, Rank: g.Rank, Size: g.Size, LocalRank: g.LocalRank, LocalSize: g.LocalSize, group: g}, nil
}

func wrapLaunch(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gpurun: %w", err)
}

// Threads returns how many threads of this process may compute, so that those on the same
// machine share its processors: at least 1, and at most as many as it may use now, which is
// fewer where the launcher has bound it to some. It is for runtime.GOMAXPROCS.
func (l *Launch) Threads() int {
	all, err := cpu.Counts(true)
	if n := launch.Processors(os.Getenv); n > 0 {
		all = n
	} else if err != nil {
		all = runtime.NumCPU()
	}
	return max(1, min(runtime.GOMAXPROCS(0), all/l.LocalSize))
}

// trust returns what only the processes of this launch know. Rank 0 makes it.
func (l *Launch) trust() (*dist.Trust, error) {
	if l.Rank == 0 {
		l.key = dist.NewKey()
	}
	return dist.TrustKey(l.key)
}

// lead tells the others that rank 0 listens at addr, without waiting for them.
func (l *Launch) lead(addr net.Addr, log *slog.Logger) error {
	addrs, err := launch.Addrs(addr)
	if err != nil {
		return wrapLaunch(err)
	}
	if err := l.group.Post(launch.Meeting{Addrs: addrs, Key: l.key.Reveal(), Command: launch.Command(os.Args[1:])}); err != nil {
		return wrapLaunch(err)
	}
	log.Info("waiting for the other processes", "launcher", l.Launcher, "size", l.Size, "addrs", addrs)
	ctx, cancel := context.WithCancel(context.Background())
	l.stop, l.waiting = cancel, make(chan struct{})
	go func() {
		defer close(l.waiting)
		if err := l.group.Wait(ctx); err != nil && ctx.Err() == nil {
			log.Warn("the other processes do not come", "err", err)
		}
	}()
	return nil
}

// launchGrace is how long rank 0 waits, when it is done, for processes that have not come
// yet: they would wait for it.
const launchGrace = 5 * time.Second

// fail tells the others that rank 0 cannot begin: not every launcher ends them then.
func (l *Launch) fail() {
	if l.Rank != 0 || l.waiting != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), launchGrace)
	defer cancel()
	if l.group.Post(launch.Meeting{}) == nil {
		_ = l.group.Wait(ctx) // the caller has a better error
	}
}

// end lets go of the launcher.
func (l *Launch) end() {
	if l.waiting == nil {
		return
	}
	select {
	case <-l.waiting:
	case <-time.After(launchGrace):
	}
	l.stop()
	<-l.waiting
}

// meet learns from rank 0 where it is.
func (l *Launch) meet(ctx context.Context) error {
	m, err := l.group.Meet(ctx)
	if err != nil {
		return wrapLaunch(err)
	}
	if len(m.Addrs) == 0 {
		return fmt.Errorf("gpurun: rank %d has nothing to do: rank 0 could not begin, and says why", l.Rank)
	}
	if m.Command != launch.Command(os.Args[1:]) {
		return fmt.Errorf("gpurun: rank %d was started with another command line than rank 0: give them the same one, or set GPURUN_LAUNCH=off to have each work by itself", l.Rank)
	}
	l.addrs = m.Addrs
	if m.Key != "" {
		if l.key, err = dist.ParseKey(m.Key); err != nil {
			return fmt.Errorf("gpurun: the key of rank 0: %w", err)
		}
	}
	return nil
}

// launchPatience is how long a process goes on to look for rank 0 when it does not find it.
const launchPatience = 30 * time.Second

// JoinLaunch serves the engine of rank 0 until that is closed, for a worker with
// Config.Launch. When the connection breaks it is dialled again, for 30 s, unless nobody
// listens there any more: then rank 0 has ended. JoinLaunch also returns when ctx is done, or
// when Drain was called. It closes the devices, so that w is of no more use.
func (w *Worker) JoinLaunch(ctx context.Context) error {
	if w.launch == nil {
		return w.closed(errors.New("gpurun: the worker has no Config.Launch: use Join or Serve"))
	}
	addrs, lost := w.launch.addrs, time.Now()
	for pause := firstRedial; ; pause = min(2*pause, lastRedial) {
		conn, err := launch.Dial(ctx, addrs)
		only, began := len(addrs) == 1, time.Now()
		if err == nil {
			if err = w.host.ServeConn(ctx, conn, w.trust, hostOf(conn)); err != nil {
				addrs = without(addrs, conn.RemoteAddr().String(), errors.Is(err, dist.ErrUntrusted))
			}
		}
		if time.Since(began) > launchPatience/2 { // longer than any handshake
			lost = time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return w.closed(ctx.Err())
		case err == nil, w.host.Draining(), errors.Is(err, syscall.ECONNREFUSED):
			return w.closed(nil)
		case forGood(err) && only, errors.Is(err, dist.ErrVersion), time.Since(lost) > launchPatience:
			return w.closed(fmt.Errorf("gpurun: rank %d cannot join rank 0: %w", w.launch.Rank, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// without returns addrs with one of them at the end, or left out for good where there is
// another: it may be that of somebody else.
func without(addrs []string, one string, forGood bool) []string {
	others := slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool { return addr == one })
	if forGood && len(others) > 0 {
		return others
	}
	return append(others, one)
}

// hostOf returns the other end's address without the port.
func hostOf(conn net.Conn) string {
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	return host
}
