//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package dist

import (
	"os"
	"syscall"
	"time"
)

// lockPatience is how long lockFolder waits for others.
const lockPatience = 2 * time.Second

// lockFolder waits until no other process, and nobody else in this one, holds
// the lock of a folder, and returns how to give it back. It locks the folder
// itself, so that no file is left behind. Whoever may read the folder may hold
// the lock, so after a while it goes on without; so it does where there are no
// locks.
func lockFolder(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockPatience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK {
			break
		}
	}
	return func() { f.Close() } // which unlocks
}
