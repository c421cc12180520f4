//go:build unix

package sim

import (
	"syscall"
	"time"
)

// processor returns the time that this process has had processors for.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
