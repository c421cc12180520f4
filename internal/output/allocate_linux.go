package output

import (
	"errors"
	"os"
	"syscall"
)

// allocate has the file system set so many bytes aside, if it can.
func allocate(f *os.File, size int64) error {
	err := error(syscall.EINTR)
	for err == syscall.EINTR {
		err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return err
}
