package dist

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// unixListener is a listener whose socket lies elsewhere than it was bound.
type unixListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo // of path, to tell the socket from another's
}

const (
	// maxSocketPath is the longest path of a socket that every system takes,
	// in bytes: macOS has the shortest, 104 with a zero at the end.
	maxSocketPath = 103

	// boundBytes is what the path where a socket is bound has beyond the
	// folder: "/.g", the ten digits of os.MkdirTemp and "/s".
	boundBytes = 15
)

// ListenUnix listens on a unix socket at path with mode 0600, so that only
// this user can connect. It replaces a socket on which nobody listens any
// more; if somebody does, or path is something else, the error matches
// fs.ErrExist. Closing the listener removes the socket.
//
// path has at most 103 bytes and its folder 88, which is a limit of systems,
// and the folder must be writable. On Windows sockets have no mode, and the
// folder says who may connect.
func ListenUnix(path string) (net.Listener, error) {
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("listening on the unix socket %s: %w", path, err)
	}
	return l, nil
}

func listenUnix(path string) (*unixListener, error) {
	if path == "" || abstract(path) {
		return nil, errors.New("it needs a path: a socket without one has no permissions")
	}
	if max(len(path), len(filepath.Dir(path))+boundBytes) > maxSocketPath {
		return nil, errors.New("the path is too long for a socket; name a shorter one")
	}
	// Else two that find the same stale socket could remove each other's new one.
	defer lockFolder(filepath.Dir(path))()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// It is bound where nobody else can enter, and only shown when its mode is
	// right: a mask for the mode would hold for all threads of the process.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".g")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bound := filepath.Join(dir, "s")
	if runtime.GOOS == "windows" {
		bound = path // it does not follow a socket that is moved
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	info, err := show(bound, path)
	if err != nil {
		l.Close()
		return nil, err
	}
	return &unixListener{l, path, info}, nil
}

// show gives the socket at bound its mode and its final path.
func show(bound, path string) (fs.FileInfo, error) {
	if bound != path {
		if err := os.Chmod(bound, 0o600); err != nil {
			return nil, err
		}
		// Unlike a rename, a link does not replace what came there meanwhile.
		if err := os.Link(bound, path); errors.Is(err, fs.ErrExist) {
			return nil, inUse("another process has taken it just now")
		} else if err != nil {
			if err := os.Rename(bound, path); err != nil {
				return nil, err
			}
		}
	}
	return os.Lstat(path)
}

// wsaConnRefused is what Windows says for ECONNREFUSED; elsewhere no error has
// this number.
const wsaConnRefused = syscall.Errno(10061)

// removeStale removes what is at path if it is a socket on which nobody
// listens. Anything else is an error; nothing is none.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return inUse("there is something else than a socket; name another path")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return inUse("another process listens there; name another path, or stop it")
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, wsaConnRefused):
		return os.Remove(path)
	}
	return inUse("whether a process listens there cannot be told; remove it if none does: " + err.Error())
}

func inUse(why string) error { return fmt.Errorf("%w: %s", fs.ErrExist, why) }

// Addr returns the path that was asked for.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening, and removes the socket if it is still this one's.
func (l *unixListener) Close() error {
	if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.info) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}
