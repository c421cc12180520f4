package main

import (
	"encoding/binary"
	"io"

	"github.com/gpurun/gpurun/internal/npy"
)

// writeNPY writes a row-major height×width array of uint32 as a .npy file.
func writeNPY(w io.Writer, values []uint32, width, height int) error {
	if _, err := w.Write(npy.Header{Type: npy.Uint32, Rows: height, Cols: width}.Append(nil)); err != nil {
		return err
	}
	row := make([]byte, 0, 4*width)
	for j := range height {
		row = row[:0]
		for _, v := range values[j*width : (j+1)*width] {
			row = binary.LittleEndian.AppendUint32(row, v)
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}
