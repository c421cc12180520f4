package npy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// ErrChanged is matched by errors about a file that changed while it was in use.
var ErrChanged = errors.New("the file changed while it was being read")

// File is a .npy file that is being read. Its methods are safe for concurrent use,
// but for Close.
type File struct {
	Header

	path   string
	file   *os.File
	offset int64
	size   int64
	time   time.Time
}

// Open opens the matrix in the file at path. The error matches ErrFormat if there
// is none that can be read, or what package os says.
func Open(path string) (*File, error) {
	f, err := OpenArray(path)
	if err != nil {
		return nil, err
	}
	if err := f.Matrix(); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return f, nil
}

// OpenArray is Open for arrays of any number of dimensions and of all element types.
func OpenArray(path string) (*File, error) {
	// A pipe without a writer would block.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, cause(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("open %s: %w", path, formatError("it is no regular file, and has to be read in any order: copy it into one"))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, cause(err))
	}
	f := &File{path: path, file: file}
	if err := f.readHeader(); err != nil {
		file.Close()
		return nil, fmt.Errorf("open %s: %w", path, cause(err))
	}
	return f, nil
}

func (f *File) readHeader() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	f.size, f.time = info.Size(), info.ModTime()
	f.Header, f.offset, err = ReadHeader(io.NewSectionReader(f.file, 0, f.size))
	if err != nil {
		return err
	}
	if has := f.size - f.offset; has < f.bytes() {
		return formatError("%d×%d elements of %v take %d bytes, and it has only %d: it is not whole", f.Rows, f.Cols, f.Type, f.bytes(), has)
	}
	return nil
}

// Path returns the name with which the file was opened.
func (f *File) Path() string { return f.path }

// Info returns what the system says of the file now.
func (f *File) Info() (fs.FileInfo, error) { return f.file.Stat() }

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Check returns an error that matches ErrChanged if the file has been written to
// since it was opened, as far as its size and time tell.
func (f *File) Check() error {
	info, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("read %s: %w", f.path, cause(err))
	}
	if info.Size() != f.size || !info.ModTime().Equal(f.time) {
		return fmt.Errorf("read %s: %w: run it again when nothing writes to it any more", f.path, ErrChanged)
	}
	return nil
}

// Lines returns how many lines the file has, and how many elements a line: rows and
// columns, or columns and rows if it is written column by column. What lies in a
// line lies side by side.
func (f *File) Lines() (lines, length int) {
	if f.Fortran {
		return f.Cols, f.Rows
	}
	return f.Rows, f.Cols
}

// Read is ReadBytes for elements of T, which is the file's type.
func Read[T float32 | float64](f *File, to []T, t kernels.Tile) error {
	return f.ReadBytes(kernels.Bytes(to), t)
}

// ReadBytes reads the lines Y … and of each of them the elements X … of t, which lies
// within Lines, into to, packed.
func (f *File) ReadBytes(to []byte, t kernels.Tile) error {
	_, length := f.Lines()
	return f.ReadLines(to, t, length)
}

// ReadLines is ReadBytes where the elements of the file, in the order in which they lie there,
// are taken for lines of the given length.
func (f *File) ReadLines(to []byte, t kernels.Tile, length int) error {
	size := int64(f.Type.Size())
	at := f.offset + (int64(t.Y)*int64(length)+int64(t.X))*size
	lines, width := t.H, t.W*int(size)
	if t.W == length {
		lines, width = 1, width*t.H // they follow each other
	}
	for y := range lines {
		if err := f.readAt(to[y*width:][:width], at+int64(y)*int64(length)*size); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) readAt(p []byte, at int64) error {
	_, err := f.file.ReadAt(p, at)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("read %s: %w: it has become shorter", f.path, ErrChanged)
	}
	return fmt.Errorf("read %s: %w", f.path, cause(err))
}

// cause drops the operation and the path from an error, which are said already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
