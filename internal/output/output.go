// Package output writes files that appear whole or not at all.
package output

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/dustin/go-humanize"
)

// File is a file that appears whole or not at all: it is written under a temporary
// name beside its own, which Commit gives it. What is written with WriteAt may be so
// by several goroutines at once; nothing else is safe for concurrent use.
type File struct {
	path string // where it goes; empty for stdout
	temp string // where it is now; empty where it is written in place
	file *os.File
	buf  *bufio.Writer
	done bool
}

// unfinished holds the temporary names of the outputs that are being written.
var unfinished sync.Map

// DiscardAll removes what all outputs have written so far, for a process
// that is about to end.
func DiscardAll() {
	unfinished.Range(func(temp, _ any) bool {
		os.Remove(temp.(string))
		return true
	})
}

// Create makes a file that Commit will name path, or opens stdout for
// "-". It fails at once where path cannot be written, before anything is
// computed. The caller must call Discard, which does nothing after Commit.
func Create(path string) (*File, error) {
	if path == "-" {
		return newFile("", "", os.Stdout), nil
	}
	// A link stays a link, to the new content, also where it led nowhere.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if target, err := os.Readlink(path); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	var mode fs.FileMode // of the file that is to be replaced
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open output: %w", err)
	case info.IsDir():
		return nil, fmt.Errorf("open output: %s is a directory: name a file in it", path)
	case !info.Mode().IsRegular():
		// A device or a pipe, such as /dev/null, cannot be replaced.
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("open output: %w", err)
		}
		return newFile(path, "", f), nil
	default:
		mode = info.Mode().Perm()
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-"+rand.Text()[:8])
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil && mode != 0 {
		if err = f.Chmod(mode); err != nil {
			f.Close()
			os.Remove(temp)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open output %s: %w", path, Cause(err))
	}
	unfinished.Store(temp, nil)
	return newFile(path, temp, f), nil
}

func newFile(path, temp string, f *os.File) *File {
	return &File{path: path, temp: temp, file: f, buf: bufio.NewWriterSize(f, 1<<20)}
}

// Write writes to the file, after what was written before.
func (o *File) Write(p []byte) (int, error) { return o.buf.Write(p) }

// InPlace reports whether the file is no regular one, and so can only be written from its
// beginning to its end, and does not disappear where it is discarded.
func (o *File) InPlace() bool { return o.temp == "" }

// Reserve makes the file so many bytes long, to be written with WriteAt or else from its
// beginning with Write, and finds out at once if there is no room for them, where the
// system can tell.
func (o *File) Reserve(size int64) error {
	if o.InPlace() {
		return fmt.Errorf("write %s: it is no regular file, and has to be written in any order: name one", o.Name())
	}
	err := o.file.Truncate(size)
	if err == nil && size > 0 {
		err = allocate(o.file, size)
	}
	if err != nil {
		return fmt.Errorf("write %s, of %s: %w", o.Name(), humanize.IBytes(uint64(size)), Cause(err))
	}
	return nil
}

// WriteAt writes to a file that was reserved, if only without a length: what is written
// beyond its end makes it longer.
func (o *File) WriteAt(p []byte, at int64) (int, error) {
	n, err := o.file.WriteAt(p, at)
	if err != nil {
		err = fmt.Errorf("write %s: %w", o.Name(), Cause(err))
	}
	return n, err
}

// Replaces reports whether the file will take the place of other.
func (o *File) Replaces(other fs.FileInfo) bool {
	if o.temp == "" {
		return false
	}
	info, err := os.Stat(o.path)
	return err == nil && os.SameFile(info, other)
}

// Commit finishes the file and gives it its name.
func (o *File) Commit() error {
	err := o.buf.Flush()
	if o.path != "" {
		if o.temp != "" && err == nil {
			err = o.file.Sync()
		}
		err = errors.Join(err, o.file.Close())
	}
	if o.temp != "" && err == nil {
		err = os.Rename(o.temp, o.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Name(), Cause(err))
	}
	o.done = true
	unfinished.Delete(o.temp)
	return nil
}

// Discard removes what was written, unless it was committed. It does nothing on
// nil.
func (o *File) Discard() {
	if o == nil || o.done {
		return
	}
	if o.path != "" {
		o.file.Close()
	}
	if o.temp != "" {
		os.Remove(o.temp)
		unfinished.Delete(o.temp)
	}
	o.done = true
}

// Name returns what people know the file by.
func (o *File) Name() string {
	if o.path == "" {
		return "standard output"
	}
	return o.path
}

// Cause drops the temporary name from an error about it.
func Cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}
