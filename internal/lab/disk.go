//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small file system of one process: nobody else sees it but through its
// methods, which also work when the process has ended. It goes when the test does.
type Disk struct {
	t    testing.TB
	root *os.Root
}

// onDisk mounts a file system of $1 bytes at $0, waits for a line, and becomes the
// command that follows.
const onDisk = `size=$1; shift; mount -t tmpfs -o size="$size",mode=700 tmpfs "$0" && read -r _ && exec "$@" </dev/null`

// StartOnDisk is Start for a command that has a disk of so many bytes, in whole pages,
// at the folder dir, which has to be there.
func (h *Host) StartOnDisk(t testing.TB, dir string, size int64, env []string, command string, args ...string) (*Process, *Disk) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", onDisk, dir, fmt.Sprint(size), command}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := h.start(t, filepath.Base(command), env, cmd)
	d := &Disk{t: t}
	outside, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.until("has its disk", func() bool { return d.open(p.proc("root"+dir), outside) })
	t.Cleanup(func() { d.root.Close() })
	if _, err := io.WriteString(stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	return p, d
}

// open opens the folder at path if something is mounted there: if it is on another
// file system than it is outside.
func (d *Disk) open(path string, outside os.FileInfo) bool {
	root, err := os.OpenRoot(path)
	if err != nil {
		return false
	}
	inside, err := root.Stat(".")
	if err != nil || inside.Sys().(*syscall.Stat_t).Dev == outside.Sys().(*syscall.Stat_t).Dev {
		root.Close()
		return false
	}
	d.root = root
	return true
}

// ReadFile returns what a file on the disk holds.
func (d *Disk) ReadFile(name string) ([]byte, error) { return d.root.ReadFile(name) }

// Left returns the files that are on the disk.
func (d *Disk) Left() ([]string, error) { return leftIn(d.root.FS()) }

// Fill leaves no byte free, with a file of this name.
func (d *Disk) Fill(name string) {
	d.t.Helper()
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
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
