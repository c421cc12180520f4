// Package picture writes pictures that may be larger than memory: their rows come from
// top to bottom, some at a time, and are compressed on all cores.
//
// The bytes of a file depend on the picture alone, not on how many rows come at a time,
// nor on the number of cores. A file of which a write failed cannot be finished any more.
package picture

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// BytesPerPixel is what a pixel takes in the rows that are written: red, green and blue.
const BytesPerPixel = 3

// compressionLevel is the quickest. Level 5 takes twice as long for files that are up to
// a tenth smaller.
const compressionLevel = 1

// ErrRows is matched by errors about rows that do not make up the picture.
var ErrRows = errors.New("not the rows of the picture")

// progress counts the rows of a picture that have come.
type progress struct {
	width, height int
	rows          int
}

func newProgress(width, height int) (progress, error) {
	if width < 1 || height < 1 || width > math.MaxInt32 || height > math.MaxInt32 {
		return progress{}, fmt.Errorf("a picture of %d×%d pixels: its sides must be from 1 to 2³¹−1", width, height)
	}
	return progress{width: width, height: height}, nil
}

// stride returns the bytes of a row.
func (p *progress) stride() int { return p.width * BytesPerPixel }

// take counts the rows in rgb, of which there may not be more than are missing.
func (p *progress) take(rgb []byte) error {
	rows := len(rgb) / p.stride()
	if rows*p.stride() != len(rgb) {
		return fmt.Errorf("%w: %d bytes are not a number of rows of %d pixels", ErrRows, len(rgb), p.width)
	}
	if rows > p.height-p.rows {
		return fmt.Errorf("%w: %d rows, and %d of %d were missing", ErrRows, rows, p.height-p.rows, p.height)
	}
	p.rows += rows
	return nil
}

// whole returns an error if rows are missing.
func (p *progress) whole() error {
	if p.rows < p.height {
		return fmt.Errorf("%w: %d of %d have come", ErrRows, p.rows, p.height)
	}
	return nil
}

// each calls do for 0 … n−1 on all cores and waits. It returns the first error, after
// which it calls do for no more.
func each(n int, do func(i int) error) error {
	var (
		next    atomic.Int64
		failed  atomic.Bool
		once    sync.Once
		err     error
		working sync.WaitGroup
	)
	for range min(runtime.GOMAXPROCS(0), n) {
		working.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if e := do(i); e != nil {
					failed.Store(true)
					once.Do(func() { err = e })
				}
			}
		})
	}
	working.Wait()
	return err
}
