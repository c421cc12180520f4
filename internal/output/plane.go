package output

import (
	"context"
	"io"
)

// Plane is a matrix of elements in a file, row by row.
type Plane struct {
	At      int64 // where it begins
	Width   int   // elements a row
	Element int   // bytes of an element
}

// writeOnce is about how many bytes are written, or read, before ctx is looked at again.
const writeOnce = 8 << 20

// Write writes packed, w×h elements row by row, to where the element in column x and row
// y of the plane is the first of them. It returns ctx's error if ctx is done before.
func (p Plane) Write(ctx context.Context, to io.WriterAt, x, y, w, h int, packed []byte) error {
	return p.each(ctx, x, y, w, h, packed, func(part []byte, at int64) error {
		_, err := to.WriteAt(part, at)
		return err
	})
}

// Read reads what Write writes.
func (p Plane) Read(ctx context.Context, from io.ReaderAt, x, y, w, h int, packed []byte) error {
	return p.each(ctx, x, y, w, h, packed, func(part []byte, at int64) error {
		_, err := from.ReadAt(part, at)
		return err
	})
}

// each calls do with the stretches of packed that lie side by side in the plane too.
func (p Plane) each(ctx context.Context, x, y, w, h int, packed []byte, do func(part []byte, at int64) error) error {
	row, stride := w*p.Element, int64(p.Width)*int64(p.Element)
	at := p.At + int64(y)*stride + int64(x)*int64(p.Element)
	rows, looked := 1, 0
	if int64(row) == stride {
		rows = max(1, writeOnce/max(row, 1))
	}
	for j := 0; j < h; j += rows {
		part := packed[j*row : min(j+rows, h)*row]
		if looked += len(part); looked >= writeOnce || j == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			looked = 0
		}
		if err := do(part, at+int64(j)*stride); err != nil {
			return err
		}
	}
	return nil
}
