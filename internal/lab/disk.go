//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small file system of a host, which only processes see that are started on it.
// It lasts until its test ends, whatever becomes of them.
type Disk struct {
	t      testing.TB
	host   *Host
	holder *Process // has it mounted
	dir    string
}

const (
	// mountDisk mounts a file system of $1 bytes at $0, and keeps it.
	mountDisk = `mount -t tmpfs -o size="$1",mode=700 tmpfs "$0" && echo mounted && exec sleep infinity`

	// inFolder becomes the command that follows, in the folder $0.
	inFolder = `cd "$0" && exec "$@"`
)

// Disk returns a disk of so many bytes, in whole pages, at the folder dir, which has to be
// there.
func (h *Host) Disk(t testing.TB, dir string, size int64) *Disk {
	t.Helper()
	cmd := exec.Command("sh", "-c", mountDisk, dir, fmt.Sprint(size))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	d := &Disk{t, h, h.start(t, "disk", nil, cmd), dir}
	d.holder.WaitFor("mounted")
	return d
}

// Start is Host.Start for a command that sees d.
func (d *Disk) Start(t testing.TB, env []string, command string, args ...string) *Process {
	t.Helper()
	cwd := t.TempDir()
	enter := append([]string{"--mount=" + d.holder.proc("ns/mnt"), "sh", "-c", inFolder, cwd, command}, args...)
	cmd := exec.Command("nsenter", enter...)
	cmd.Dir = cwd
	return d.host.start(t, filepath.Base(command), env, cmd)
}

// Dir returns a path of the disk's folder for those who do not see the disk.
func (d *Disk) Dir() string { return d.holder.proc("root" + d.dir) }

// Fill leaves no byte free, with a file of this name.
func (d *Disk) Fill(name string) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.Dir(), name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, os.Getpagesize())
	for {
		if _, err := f.Write(page); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}
