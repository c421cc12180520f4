// Package launch finds out whether this process is one of several that a launcher, such
// as mpiexec or srun, has started for one command, and brings them together: the process
// of rank 0 tells the others where it listens, and by what key it is known.
//
// It speaks the launcher's own protocol, and links no MPI.
package launch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Group is the processes of one command, of which this one is one. Its methods must not
// be called by two goroutines at once.
type Group struct {
	Launcher string // as people call it: "mpiexec", "srun"

	// Rank is this process's number, from 0 to Size−1; LocalRank is that among the LocalSize
	// processes on the same machine.
	Rank, Size           int
	LocalRank, LocalSize int

	board board
}

// board is where rank 0 leaves a line of text for the others. It is used once.
type board interface {
	// post leaves text, which is there for the others once wait has returned.
	post(text string) error

	// wait waits until every process of the group waits.
	wait() error

	// read returns what was posted.
	read() (string, error)

	// leave tells the launcher that this process is done with the board.
	leave() error

	// abandon makes what is under way end with an error. It may be called beside any other.
	abandon()
}

// ErrLaunch is matched by errors about what a launcher has said.
var ErrLaunch = errors.New("cannot meet the processes that were started with this one")

// Error is about a launcher that does not do what is expected of it.
type Error struct {
	Launcher string
	Err      error
}

// Error returns what is wrong, and what to do.
func (e *Error) Error() string {
	return fmt.Sprintf("%v by %s: %v; GPURUN_LAUNCH=off makes each of them work by itself, and --hosts and gpurun worker need no launcher", ErrLaunch, e.Launcher, e.Err)
}

// Is tells whether target is ErrLaunch.
func (e *Error) Is(target error) bool { return target == ErrLaunch }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Find returns the group of this process, or nil if it is by itself: no launcher that is
// known has started it, or no other process, or the environment variable GPURUN_LAUNCH is
// off. getenv is os.Getenv.
func Find(getenv func(string) string) (*Group, error) {
	switch mode := getenv("GPURUN_LAUNCH"); mode {
	case "", "auto":
	case "off":
		return nil, nil
	default:
		return nil, fmt.Errorf("GPURUN_LAUNCH is %q: it must be off, or auto, or not be set", mode)
	}
	if getenv("PMI_FD") == "" {
		return nil, nil
	}
	g := &Group{Launcher: "mpiexec"}
	if getenv("MPI_LOCALRANKID") == "" && getenv("SLURM_STEP_ID") != "" {
		g.Launcher = "srun"
	}
	err := g.count(getenv)
	if err == nil && g.Size == 1 {
		return nil, nil
	}
	if err == nil {
		g.board, err = openPMI(getenv("PMI_FD"))
	}
	if err != nil {
		return nil, &Error{g.Launcher, err}
	}
	return g, nil
}

// count reads the ranks and sizes of g.
func (g *Group) count(getenv func(string) string) error {
	var errs []error
	number := func(name string) int {
		n, err := strconv.Atoi(getenv(name))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is %q and no number", name, getenv(name)))
		}
		return n
	}
	g.Rank, g.Size = number("PMI_RANK"), number("PMI_SIZE")
	switch {
	case getenv("MPI_LOCALRANKID") != "":
		g.LocalRank, g.LocalSize = number("MPI_LOCALRANKID"), number("MPI_LOCALNRANKS")
	case getenv("SLURM_LOCALID") != "":
		var err error
		g.LocalRank = number("SLURM_LOCALID")
		if g.LocalSize, err = tasksOnNode(getenv("SLURM_STEP_TASKS_PER_NODE"), number("SLURM_NODEID")); err != nil {
			errs = append(errs, err)
		}
	default: // another launcher, which says nothing of machines
		g.LocalRank, g.LocalSize = 0, 1
	}
	switch {
	case len(errs) > 0:
		return errs[0]
	case g.Size < 1 || g.Rank < 0 || g.Rank >= g.Size:
		return fmt.Errorf("this process is rank %d of %d", g.Rank, g.Size)
	case g.LocalSize < 1 || g.LocalSize > g.Size || g.LocalRank < 0 || g.LocalRank >= g.LocalSize:
		return fmt.Errorf("this process is number %d of the %d on this machine, and %d in all", g.LocalRank, g.LocalSize, g.Size)
	}
	return nil
}

// Post leaves m for the others, for rank 0. They have it once Wait has returned.
func (g *Group) Post(m Meeting) error {
	err := g.board.post(m.encode())
	return g.wrap(err)
}

// Wait waits until the others wait for what rank 0 has posted, and lets go of the
// launcher. It returns early when ctx is done.
func (g *Group) Wait(ctx context.Context) error {
	_, err := g.meet(ctx, func() (string, error) { return "", g.board.wait() })
	return err
}

// Meet waits for what rank 0 posts, returns it, and lets go of the launcher.
func (g *Group) Meet(ctx context.Context) (Meeting, error) {
	text, err := g.meet(ctx, func() (string, error) {
		if err := g.board.wait(); err != nil {
			return "", err
		}
		return g.board.read()
	})
	if err != nil {
		return Meeting{}, err
	}
	m, err := decode(text)
	return m, g.wrap(err)
}

// meet calls f, which uses the board for the last time.
func (g *Group) meet(ctx context.Context, f func() (string, error)) (string, error) {
	stop := context.AfterFunc(ctx, g.board.abandon)
	text, err := f()
	if err == nil {
		err = g.board.leave()
	}
	if !stop() {
		return "", ctx.Err()
	}
	g.board.abandon()
	return text, g.wrap(err)
}

func (g *Group) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &Error{g.Launcher, err}
}
