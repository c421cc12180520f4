package gpurun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/shirou/gopsutil/v4/cpu"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/launch"
)

// Launch is the place of this process among those that a launcher, such as mpiexec, has
// started for one command. That of rank 0 opens an engine, and the others are its workers:
// see Config.Launch.
type Launch struct {
	Launcher string // "mpiexec", "mpirun", "srun" or "Kubernetes"

	// Rank is this process's number, from 0 to Size−1, where Size is 0 if the launcher does
	// not say it; LocalRank is that among the LocalSize processes on this machine.
	Rank, Size           int
	LocalRank, LocalSize int

	group   *launch.Group
	key     dist.Key      // made by rank 0, where it has no other
	addrs   []string      // of rank 0, for the others
	join    bool          // addrs are Config.Join, where rank 0 may end and begin again
	patient time.Duration // how long to look for rank 0
	used    atomic.Bool
	stop    context.CancelFunc // makes waiting end
	waiting chan struct{}      // closed when rank 0 has met the others; nil before it waits
	locks   []*flock.Flock     // of the devices that this process has
}

// Launched returns the place of this process, or nil if it is by itself: no launcher that
// gpurun knows has started it, or no other process, or the environment variable
// GPURUN_LAUNCH is off. The error matches ErrLaunch if the launcher cannot be talked to.
// It is to be called once in a process, with the Config that is to have the Launch.
//
// Known are MPICH's mpiexec and those that are made of it, and srun --mpi=pmi2, by version 1
// of PMI; Open MPI's mpirun and srun --mpi=pmix, by PMIx; and srun by itself. There rank 0
// leaves a file for the others, in the folder that the environment variable
// GPURUN_RENDEZVOUS names or else among the caches of the user's home; or, if config has a
// KeyFile and srun was given --resv-ports, it listens at such a port and the others find it.
//
// With config.Join the launcher is asked for no more than the rank, and others are known,
// too: Indexed Jobs of Kubernetes.
func Launched(config *Config) (*Launch, error) {
	g, err := launch.Find(os.Getenv, launch.Options{Join: config.Join, Keyed: config.KeyFile != ""})
	if err != nil || g == nil {
		return nil, wrapLaunch(err)
	}
	return &Launch{
		Launcher: g.Launcher, Rank: g.Rank, Size: g.Size, LocalRank: g.LocalRank, LocalSize: g.LocalSize, group: g,
		addrs: g.Given, join: config.Join != "", patient: max(launchPatience, config.Wait),
	}, nil
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

// trust returns what only the processes of this launch know, or nil if they do not meet.
// Rank 0 makes it.
func (l *Launch) trust() (*dist.Trust, error) {
	if l.given() {
		return nil, nil
	}
	if l.Rank == 0 {
		l.key = dist.NewKey()
	}
	return dist.TrustKey(l.key)
}

// given reports whether the processes know where rank 0 is without having met.
func (l *Launch) given() bool { return l.group != nil && len(l.group.Given) > 0 }

// restarts reports whether the launcher starts a process again that ended with an error, and
// only then.
func (l *Launch) restarts() bool { return l.Launcher == "Kubernetes" }

// derive returns the key of this launch alone, of one that others have too.
func (l *Launch) derive(key dist.Key) dist.Key {
	if l.group == nil || l.group.Label == "" {
		return key
	}
	return key.Derive(l.group.Label)
}

// listen returns the address at which rank 0 listens, if Config.Listen is addr.
func (l *Launch) listen(addr string) (string, error) {
	if l.join && addr == "" {
		return "", errors.New("gpurun: rank 0 has to listen where Config.Join says, and Config.Listen (--listen) is empty: it may be :port")
	}
	if l.group != nil {
		addr = cmp.Or(addr, l.group.Listen)
	}
	return cmp.Or(addr, ":0"), nil
}

// lead tells the others that rank 0 listens at addr, without waiting for them.
func (l *Launch) lead(addr net.Addr, log *slog.Logger) error {
	if l.given() {
		log.Info("the other processes are told where this one is", "launcher", l.Launcher, "listens", addr.String())
		return nil
	}
	addrs, err := launch.Addrs(addr)
	if err != nil {
		return wrapLaunch(err)
	}
	if err := l.group.Post(launch.Meeting{Addrs: addrs, Key: l.key.Reveal(), Command: launch.Command(os.Args[1:])}); err != nil {
		return wrapLaunch(err)
	}
	if l.LocalSize < l.Size && onlyLoopback(addrs) {
		log.Warn("processes on other machines cannot reach this one", "addrs", addrs)
	}
	log.Info("waiting for the other processes", "launcher", l.Launcher, "size", l.Size, "addrs", addrs)
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.waiting = make(chan struct{})
	late := time.AfterFunc(launchLate, func() {
		log.Warn("not all processes have come: the others wait for them", "launcher", l.Launcher, "size", l.Size)
	})
	go func() {
		defer close(l.waiting)
		defer late.Stop()
		if err := l.group.Wait(ctx); err != nil {
			log.Warn("the other processes do not come", "err", err)
		}
	}()
	return nil
}

func onlyLoopback(addrs []string) bool {
	return !slices.ContainsFunc(addrs, func(addr string) bool {
		a, err := netip.ParseAddrPort(addr)
		return err != nil || !a.Addr().IsLoopback()
	})
}

// How long processes may take to come before that is said, and how long rank 0 waits for
// them when it is done. If it did not, they would wait for it, and there are launchers that
// end all processes, this one too, when one goes before.
const (
	launchLate  = 10 * time.Second
	launchGrace = time.Minute
)

// end waits until the launcher has been let go, but not for ever: what that does when this
// process ends is its affair.
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

// fail tells the others that rank 0 cannot begin: not every launcher ends them then.
func (l *Launch) fail() {
	if l.given() || l.waiting != nil || l.group.Post(launch.Meeting{}) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), launchGrace)
	defer cancel()
	_ = l.group.Wait(ctx) // the caller has a better error
}

// use returns an error if l is not for a process of rank 0, or of another one, or has been
// used before.
func (l *Launch) use(engine bool) error {
	switch {
	case engine && l.Rank != 0:
		return fmt.Errorf("gpurun: rank %d cannot open an engine: it is a worker of rank 0's, see OpenWorker", l.Rank)
	case !engine && l.Rank == 0:
		return errors.New("gpurun: rank 0 cannot be a worker: it opens the engine, see Open")
	case l.used.Swap(true):
		return errors.New("gpurun: the Launch was used before: it is for one engine, or one worker")
	}
	return nil
}

// meet learns from rank 0 where it is.
func (l *Launch) meet(ctx context.Context) error {
	if l.given() {
		return nil
	}
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

// launchPatience is how long a process at least goes on to look for rank 0 when it does not
// find it.
const launchPatience = 30 * time.Second

// JoinLaunch serves the engine of rank 0 until that is closed, for a worker with
// Config.Launch. When the connection breaks it is dialled again, for 30 s, or for Config.Wait
// if that is longer; without Config.Join only until nobody listens there any more. That rank 0
// has gone, or cannot be reached, is no error here, but a warning in the log: it has the job's
// result, or its error, and the exit code that counts. JoinLaunch also returns when ctx is
// done, when Drain was called, and with an error if rank 0 does not trust this process, or is
// another version. It closes the devices, so that w is of no more use.
//
// With Config.Join rank 0 may end and begin again, so it is also looked for when its engine was
// closed after a job that failed, or without any. Kubernetes starts a process again that
// ended with an error: so there is one there when Drain was called before, which matches
// ErrDrained, and when rank 0 was not to be found.
func (w *Worker) JoinLaunch(ctx context.Context) error {
	if w.launch == nil {
		return w.closed(errors.New("gpurun: the worker has no Config.Launch: use Join or Serve"))
	}
	addrs, lost, pause := w.launch.addrs, time.Now(), firstRedial
	for met := false; ; {
		before := w.host.Stats().Sessions
		addr, err := w.serveOne(ctx, addrs)
		switch {
		case w.host.Stats().Sessions > before: // now it is known which address is rank 0's
			addrs, lost, pause, met = []string{addr}, time.Now(), firstRedial, true
		case addr != "":
			addrs = without(addrs, addr)
		}
		gone := errors.Is(err, launch.ErrRefused) && !w.launch.join && (met || !w.launch.given())
		switch {
		case ctx.Err() != nil:
			return w.closed(ctx.Err())
		case err == nil && !w.host.Draining():
			return w.closed(nil)
		case w.host.Draining() && w.launch.restarts():
			return w.closed(fmt.Errorf("gpurun: rank %d was %w", w.launch.Rank, ErrDrained))
		case w.host.Draining():
			return w.closed(nil)
		case w.launch.restarts() && time.Since(lost) > w.launch.patient:
			return w.closed(fmt.Errorf("gpurun: rank %d has not found rank 0 at %s for %v: look at that, or set a longer --wait: %w",
				w.launch.Rank, addrs[0], w.launch.patient, err))
		case gone, time.Since(lost) > w.launch.patient:
			if !met || !gone {
				w.log.Warn("rank 0 has ended, or cannot be reached from here", "met", met, "err", err)
			}
			return w.closed(nil)
		case forGood(err) && len(addrs) == 1:
			return w.closed(fmt.Errorf("gpurun: rank %d cannot join rank 0: %w", w.launch.Rank, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		if met || w.launch.join { // the others begin at about the same time
			pause = min(2*pause, lastRedial)
		}
	}
}

// serveOne serves the one of addrs that answers first, and returns which that was, if any
// did.
func (w *Worker) serveOne(ctx context.Context, addrs []string) (addr string, err error) {
	conn, addr, err := launch.Dial(ctx, addrs)
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		conn.Close()
		return "", err
	}
	return addr, w.host.ServeConn(ctx, conn, w.trust, host)
}

// without returns addrs without one, which is somebody else's, unless it is the last: then
// it is left.
func without(addrs []string, one string) []string {
	others := slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool { return addr == one })
	if len(others) == 0 {
		return addrs
	}
	return others
}
