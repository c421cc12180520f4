package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// outputFile is a file that appears whole or not at all: it is written under a
// temporary name beside its own, which commit gives it.
type outputFile struct {
	path string // where it goes; empty for stdout
	temp string // where it is now; empty where it is written in place
	file *os.File
	buf  *bufio.Writer
	done bool
}

// unfinished holds the temporary names of the outputs that are being written.
var unfinished sync.Map

// discardOutputs removes what all outputs have written so far, for a process
// that is about to end.
func discardOutputs() {
	unfinished.Range(func(temp, _ any) bool {
		os.Remove(temp.(string))
		return true
	})
}

// createOutput makes a file that commit will name path, or opens stdout for
// "-". It fails at once where path cannot be written, before anything is
// computed. The caller must call discard, which does nothing after commit.
func createOutput(path string) (*outputFile, error) {
	if path == "-" {
		return newOutput("", "", os.Stdout), nil
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
		return newOutput(path, "", f), nil
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
		return nil, fmt.Errorf("open output %s: %w", path, pathCause(err))
	}
	unfinished.Store(temp, nil)
	return newOutput(path, temp, f), nil
}

func newOutput(path, temp string, f *os.File) *outputFile {
	return &outputFile{path: path, temp: temp, file: f, buf: bufio.NewWriterSize(f, 1<<20)}
}

// Write writes to the file.
func (o *outputFile) Write(p []byte) (int, error) { return o.buf.Write(p) }

// commit finishes the file and gives it its name.
func (o *outputFile) commit() error {
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
		return fmt.Errorf("write %s: %w", o.name(), pathCause(err))
	}
	o.done = true
	unfinished.Delete(o.temp)
	return nil
}

// discard removes what was written, unless it was committed. It does nothing on
// nil.
func (o *outputFile) discard() {
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

func (o *outputFile) name() string {
	if o.path == "" {
		return "standard output"
	}
	return o.path
}

// pathCause drops the temporary name from an error about it.
func pathCause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}
