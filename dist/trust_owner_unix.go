//go:build unix

package dist

import (
	"io/fs"
	"syscall"
)

// owner returns the number of the user who owns a file, or -1 if it is not known.
func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
