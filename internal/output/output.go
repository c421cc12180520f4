// Package output writes files that appear whole or not at all.
package output

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/dustin/go-humanize"
)

// File is a file that appears whole or not at all: it is written without a name where the
// system has such files, or else under a temporary one beside its own, which Commit gives
// it. What is written with WriteAt may be so by several goroutines at once; nothing else is
// safe for concurrent use.
type File struct {
	path  string // where it goes; empty for stdout
	temp  string // its temporary name; empty where it is written in place
	named bool   // it has that name
	file  *os.File
	buf   *bufio.Writer
	done  bool
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
	o, err := createTemporary(path, temp)
	if err == nil && mode != 0 {
		if err = o.file.Chmod(mode); err != nil {
			o.Discard()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open output %s: %w", path, Cause(err))
	}
	return o, nil
}

// unnamed is createUnnamed, unless a test wants names.
var unnamed = createUnnamed

// createTemporary makes the file that will be path, and is or can be called temp.
func createTemporary(path, temp string) (*File, error) {
	if f, err := unnamed(temp); err == nil {
		return newFile(path, temp, f), nil
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	o := newFile(path, temp, f)
	o.setNamed()
	return o, nil
}

// setNamed notes that the file has its temporary name.
func (o *File) setNamed() {
	o.named = true
	unfinished.Store(o.temp, nil)
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
	err := Reserve(o.file, size)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("write %s, of %s: %w", o.Name(), humanize.IBytes(uint64(size)), err)
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w; make room, or name a file on another disk", err)
	}
	return err
}

// Reserve makes f so many bytes long, and finds out at once if there is no room for them,
// where the system can tell.
func Reserve(f *os.File, size int64) error {
	err := f.Truncate(size)
	if err == nil && size > 0 {
		err = allocate(f, size)
	}
	return Cause(err)
}

// CreateReserved makes a file of so many bytes, which are 0, in place of one that was there
// before, and that may have another name. It leaves none where there is no room for it.
func CreateReserved(path string, size int64) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write %s: %w", path, Cause(err))
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		if err = Reserve(f, size); err == nil {
			return f, nil
		}
		f.Close()
		os.Remove(path)
	}
	return nil, fmt.Errorf("write %s, of %s: %w", path, humanize.IBytes(uint64(size)), Cause(err))
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

// Take makes the file that which is at path, instead of what was written, and gives it its
// name, as Commit does. It is not at path any more then, unless it had to be copied, to another
// file system. It returns ctx's error if ctx is done before.
func (o *File) Take(ctx context.Context, path string) error {
	if o.InPlace() {
		return fmt.Errorf("write %s: it is no regular file: name one", o.Name())
	}
	from, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Name(), err)
	}
	defer from.Close()
	if err := o.move(from); err == nil {
		return nil
	}
	err = copyAll(ctx, o.file, from)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("write %s: %w", o.Name(), Cause(err))
	}
	return o.Commit()
}

// move gives from the name of the file, if it is on the same file system.
func (o *File) move(from *os.File) error {
	info, err := o.file.Stat()
	if err == nil {
		err = from.Sync()
	}
	if err == nil {
		err = os.Rename(from.Name(), o.path)
	}
	if err != nil {
		return err
	}
	// It is there, whatever else fails.
	_ = from.Chmod(info.Mode().Perm())
	syncFolder(o.path)
	o.Discard()
	return nil
}

// copyAll copies what from has to the beginning of to, until ctx is done.
func copyAll(ctx context.Context, to, from *os.File) error {
	const often = 8 << 20
	for {
		switch _, err := io.CopyN(to, from, often); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Within reports whether the file will be in the folder dir.
func (o *File) Within(dir string) bool {
	if o.path == "" {
		return false
	}
	in, err1 := os.Stat(filepath.Dir(o.path))
	of, err2 := os.Stat(dir)
	return err1 == nil && err2 == nil && os.SameFile(in, of)
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
	if err == nil && o.temp != "" {
		err = o.file.Sync()
	}
	whole := false
	if err == nil && o.temp != "" && !o.named {
		// A name that is taken has to be replaced by another, which is there for a moment only:
		// who is killed then leaves it behind.
		if err = nameIt(o.file, o.path); err == nil {
			whole = true
		} else if err = nameIt(o.file, o.temp); err == nil {
			o.setNamed()
		}
	}
	if o.path != "" {
		err = errors.Join(err, o.file.Close())
	}
	if err == nil && o.temp != "" && !whole {
		err = os.Rename(o.temp, o.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Name(), Cause(err))
	}
	if o.temp != "" {
		syncFolder(o.path)
	}
	o.removeTemporary()
	o.done = true
	return nil
}

// syncFolder makes the name of path outlast a crash of the machine, where the system can
// do that.
func syncFolder(path string) {
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
}

// removeTemporary takes the temporary name away, if it is there.
func (o *File) removeTemporary() {
	if o.named {
		os.Remove(o.temp)
		unfinished.Delete(o.temp)
		o.named = false
	}
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
	o.removeTemporary()
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
