package main

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/npy"
)

// npyWriter is the bandWriter of counts: a row-major height×width array of uint32, as a
// .npy file.
type npyWriter struct {
	w     io.Writer
	width int
	row   []byte
}

// newNPYWriter returns a writer to a file of which all that is to come is set aside, and writes
// its header.
func newNPYWriter(to *contextFile, width, height int) (*npyWriter, error) {
	header := npyHeader(width, height)
	size := float64(len(header)) + 4*float64(width)*float64(height)
	if !to.out.InPlace() {
		// What no file can hold is refused like what this disk cannot.
		if err := to.out.Reserve(int64(min(size, math.MaxInt64/2))); err != nil {
			return nil, err
		}
	}
	_, err := to.Write(header)
	return &npyWriter{w: to, width: width}, err
}

func npyHeader(width, height int) []byte {
	return npy.Header{Type: npy.Uint32, Rows: height, Cols: width}.Append(nil)
}

func (n *npyWriter) WriteBand(band *gpurun.Field) error { return n.writeRows(band.Counts) }

func (n *npyWriter) Close() error { return nil }

func (n *npyWriter) writeRows(values []uint32) error {
	for ; len(values) > 0; values = values[n.width:] {
		n.row = n.row[:0]
		for _, v := range values[:n.width] {
			n.row = binary.LittleEndian.AppendUint32(n.row, v)
		}
		if _, err := n.w.Write(n.row); err != nil {
			return err
		}
	}
	return nil
}
