// Package launch finds out whether this process is one of several that a launcher, such
// as mpiexec or srun, has started for one command, and brings them together: the process
// of rank 0 tells the others where it listens, and by what key it is known. It also tells
// which of a machine's GPUs each of its processes is to use.
//
// It speaks the launcher's own protocol, or, where that has none, leaves a file for the
// others, or has them look for rank 0 on the hosts that the launcher names. It links no MPI.
package launch

import (
	"context"
	"errors"
	"fmt"
)

// Group is the processes of one command, of which this one is one. Its methods must not
// be called by two goroutines at once.
type Group struct {
	Launcher string // as people call it: "mpiexec", "mpirun", "srun", "Kubernetes"

	// Rank is this process's number, from 0 to Size−1, where Size is 0 if the launcher does
	// not say it; LocalRank is that among the LocalSize processes on the same machine.
	Rank, Size           int
	LocalRank, LocalSize int

	// Given is where the processes look for rank 0 without having met, host:port, the likeliest
	// first. If there is any, Post, Wait and Meet are not for this group: rank 0 listens at a
	// port that is known before, and all have the same key.
	Given []string

	// Listen is the address at which rank 0 has to listen, :port, if the launcher has set
	// that aside.
	Listen string

	// Label, if not empty, names this group among all that have the same key at the addresses
	// of Given: a key of its own is to be derived with it.
	Label string

	board board
}

// board is where rank 0 leaves a line of text for the others. It is used once: rank 0 posts,
// waits and leaves; the others wait, read and leave.
type board interface {
	// post leaves text, which is there for the others once wait has returned to them.
	post(text string) error

	// wait returns to rank 0 when all others have been there, and to them when something has
	// been posted.
	wait() error

	// read returns what was posted.
	read() (string, error)

	// leave ends the use of the board.
	leave() error

	// abandon makes what is under way end with an error. It may be called beside any other,
	// itself too, and is called at the end.
	abandon()
}

// boardKey is the key under which rank 0 posts, on boards that have keys.
const boardKey = "gpurun-rank-0"

// maxPosting bounds what is read, in bytes.
const maxPosting = 8192

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
	cancelled := !stop()
	g.board.abandon()
	if cancelled {
		return "", ctx.Err()
	}
	return text, g.wrap(err)
}

// letGo ends the use of a board that nobody needs.
func (g *Group) letGo() error {
	if g.board == nil {
		return nil
	}
	err := g.board.leave()
	g.board.abandon()
	return g.wrap(err)
}

func (g *Group) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &Error{g.Launcher, err}
}
