package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// npyAlign is what the offset of the data in a .npy file is a multiple of, so
// that it can be mapped.
const npyAlign = 64

// writeNPY writes a row-major height×width array of uint32 in NumPy's format,
// version 1.0, little-endian: "A Simple File Format for NumPy Arrays", NEP 1.
func writeNPY(w io.Writer, values []uint32, width, height int) error {
	const magic = "\x93NUMPY\x01\x00"
	header := fmt.Sprintf("{'descr': '<u4', 'fortran_order': False, 'shape': (%d, %d), }", height, width)
	length := len(magic) + 2 + len(header) + 1
	header += strings.Repeat(" ", (npyAlign-length%npyAlign)%npyAlign) + "\n"

	start := binary.LittleEndian.AppendUint16([]byte(magic), uint16(len(header)))
	if _, err := w.Write(append(start, header...)); err != nil {
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
