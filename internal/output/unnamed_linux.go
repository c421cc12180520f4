package output

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// createUnnamed makes a file in the folder of path that has no name, so that nothing is
// left of it when the process is killed, and that nameIt can call path, as it has tried with
// another file.
func createUnnamed(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	trial, err := os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o666)
	if err != nil {
		return nil, err
	}
	err = errors.Join(nameIt(trial, path), os.Remove(path), trial.Close())
	if err != nil {
		return nil, err
	}
	return os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o666)
}

// nameIt gives the name path to a file of createUnnamed.
func nameIt(f *os.File, path string) error {
	from := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	return os.NewSyscallError("linkat", err)
}
