package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// lock is the right to write to a folder. It ends with the process.
type lock struct{ file *flock.Flock }

// How long lockFolder waits for a process that has the lock: one that has been killed
// may take a moment to go, and one that only looks who has it takes no longer.
const (
	lockPatience = 2 * time.Second
	lockPoll     = 20 * time.Millisecond
)

// lockFolder takes the lock of the folder dir, and leaves a word of who has it.
func lockFolder(ctx context.Context, dir string) (*lock, error) {
	path := filepath.Join(dir, lockFile)
	l := &lock{flock.New(path, flock.SetPermissions(0o666))}
	waiting, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	ok, err := l.file.TryLockContext(waiting, lockPoll)
	if ctx.Err() != nil {
		l.release() // it may have been taken all the same
		return nil, ctx.Err()
	}
	switch {
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("lock the folder %s: %w", dir, err)
	case !ok:
		return nil, fmt.Errorf("%w: %s works in %s: wait for it, or end it", ErrBusy, name(path), dir)
	}
	// Best effort: the lock is what counts.
	_ = os.WriteFile(path, []byte(thisProcess()), 0o666)
	return l, nil
}

func (l *lock) release() { l.file.Close() }

func thisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	return fmt.Sprintf("process %d on %s", os.Getpid(), host)
}

// name returns what the process with the lock at path has left there.
func name(path string) string {
	text, err := os.ReadFile(path)
	if word := printable(strings.TrimSpace(string(text))); err == nil && word != "" && len(word) < 200 {
		return word
	}
	return "another process"
}

// holder returns who has the lock of the folder dir, or nothing if nobody has.
func holder(dir string) string {
	path := filepath.Join(dir, lockFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	l := flock.New(path, flock.SetFlag(os.O_RDONLY))
	if ok, err := l.TryRLock(); ok || err != nil {
		l.Close()
		return ""
	}
	return name(path)
}
