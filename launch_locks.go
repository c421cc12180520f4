package gpurun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/gpurun/gpurun/dist/launch"
)

// lockDevice takes the lock of the device called name for the process called self, which
// ends with that process at the latest. It returns nil and the holder if another process
// has it, and an error if there can be no locks here. Processes of one user keep clear
// of each other, as long as they have the same folder of temporary files.
func lockDevice(name, self string) (lock *flock.Flock, holder string, err error) {
	dir, err := lockFolder()
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(dir, fileName(name))
	lock = flock.New(path)
	taken, err := lock.TryLock()
	switch {
	case err != nil:
		lock.Close()
		return nil, "", fmt.Errorf("lock %s: %w", path, err)
	case !taken:
		lock.Close()
		return nil, lockHolder(path), nil
	}
	_ = os.WriteFile(path, []byte(self), 0o600) // for people: the lock is what counts
	return lock, "", nil
}

// lockFolder returns the folder for locks, which it makes. What others could write to is
// refused: they could keep this user from the devices, or have other files written to.
func lockFolder() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("gpurun-devices-%d", os.Geteuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make a folder for the locks of devices: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the folder for the locks of devices: %w", err)
	}
	if !info.IsDir() || !launch.Owned(info) {
		return "", fmt.Errorf("%s is to be a folder that is this user's alone, mode 0700: remove it", dir)
	}
	return dir, nil
}

// lockHolder returns what the process that has the lock at path has left there.
func lockHolder(path string) string {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 || len(text) > 200 {
		return "another process"
	}
	return string(text)
}

// fileName returns name with nothing in it that a file's name may not have somewhere.
func fileName(name string) string {
	plain := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}
	return strings.Map(plain, name) + ".lock"
}
