package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// writeNPY writes a row-major height×width array of uint32 in NumPy's format,
// version 1.0, little-endian: "A Simple File Format for NumPy Arrays", NEP 1.
func writeNPY(w io.Writer, values []uint32, width, height int) error {
	const align = 64 // of the data's offset, so that it can be mapped
	header := fmt.Sprintf("{'descr': '<u4', 'fortran_order': False, 'shape': (%d, %d), }", height, width)
	prefix := len("\x93NUMPY\x01\x00") + 2
	padding := align - (prefix+len(header)+1)%align
	header += strings.Repeat(" ", padding%align) + "\n"
	if _, err := fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s", len(header)&0xff, len(header)>>8, header); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, values)
}
