//go:build unix

package launch

import (
	"io/fs"
	"os"
	"syscall"
)

// Owned reports whether a file is this user's, and others cannot write or read it.
func Owned(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode().Perm()&0o077 == 0
}
