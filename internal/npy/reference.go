package npy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// ErrOther is matched by the error about a file that is not the one that was meant.
var ErrOther = errors.New("it is another file here")

// MaxPath is how many bytes the path of a Reference has at most.
const MaxPath = 4096

// Reference says which file is meant, to a process that may have it by the same path.
type Reference struct {
	Path   string // absolute; UTF-8
	Size   int64
	Time   int64             // of its last change, in nanoseconds since 1970
	Sample [sha256.Size]byte // SHA-256 of samples
}

const (
	// sampleBytes are hashed in each of so many places: enough that whoever knows the
	// hash has the file, and little enough to be read at once.
	sampleBytes  = 4096
	samplePlaces = 64
)

// Reference returns which file f is.
func (f *File) Reference() (Reference, error) {
	path, err := filepath.Abs(f.path)
	switch {
	case err != nil:
		return Reference{}, fmt.Errorf("read %s: %w", f.path, err)
	case len(path) > MaxPath || !utf8.ValidString(path):
		return Reference{}, fmt.Errorf("read %s: %w: its name is longer than %d bytes, or no UTF-8: give it another", f.path, ErrFormat, MaxPath)
	}
	sample, err := f.sample()
	return Reference{Path: path, Size: f.size, Time: f.time.UnixNano(), Sample: sample}, err
}

// sample returns a hash of the file's size, its beginning and end, and of places spread
// evenly between them.
func (f *File) sample() (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(f.size)))
	buf := make([]byte, sampleBytes)
	for i := range int64(samplePlaces) {
		n := min(sampleBytes, f.size)
		at := (f.size - n) / (samplePlaces - 1) * i
		if i == samplePlaces-1 {
			at = f.size - n
		}
		if err := f.readAt(buf[:n], at); err != nil {
			return sum, err
		}
		hash.Write(buf[:n])
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// OpenSame opens the file that ref means. The error matches ErrOther if what has its
// path here differs in size, time or samples, or is as Open's.
func OpenSame(ref Reference) (*File, error) {
	if !filepath.IsAbs(ref.Path) {
		return nil, fmt.Errorf("open %s: %w: its path is not absolute", ref.Path, ErrOther)
	}
	f, err := Open(ref.Path)
	if err != nil {
		return nil, err
	}
	if err := f.compare(ref); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", f.path, err)
	}
	return f, nil
}

func (f *File) compare(ref Reference) error {
	if f.size != ref.Size {
		return fmt.Errorf("%w: it has %d bytes, and should have %d", ErrOther, f.size, ref.Size)
	}
	if !sameTime(f.time.UnixNano(), ref.Time) {
		return fmt.Errorf("%w: it was written to at another time", ErrOther)
	}
	sample, err := f.sample()
	if err == nil && sample != ref.Sample {
		return fmt.Errorf("%w: it has the same size and time, and other elements", ErrOther)
	}
	return err
}

// sameTime reports whether two times are one, where clients of a file system may have cut
// one of them off to seconds.
func sameTime(a, b int64) bool {
	const second = int64(time.Second)
	if a%second == 0 || b%second == 0 {
		return a/second == b/second
	}
	return a == b
}
