// Package npy reads and writes matrices in NumPy's .npy format a rectangle at a
// time, so that they may be larger than memory: "A Simple File Format for NumPy
// Arrays", NEP 1, versions 1.0 to 3.0.
package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/gpurun/gpurun/kernels"
)

// ErrFormat is matched by errors about a file that is no .npy file, or one of
// something else than a matrix that this package reads.
var ErrFormat = errors.New("not a matrix that can be read")

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}

// Header says what a file holds: a matrix, or an array of any number of dimensions, which is
// then taken for a matrix whose rows are what lies along its last dimension.
type Header struct {
	Type       kernels.DType
	Rows, Cols int
	Fortran    bool  // column by column
	Shape      []int // of an array that is no matrix; nil for a matrix
}

// Uint32 is the type of counts.
const Uint32 = kernels.Uint32

const (
	magic = "\x93NUMPY"

	// align is what the offset of the data is a multiple of, so that they can be
	// mapped.
	align = 64

	// longest is the largest header that is read: a matrix's has about 100 bytes,
	// and NumPy refuses more than 10,000.
	longest = 1 << 14
)

// descriptions are the element types, as the format spells them, little-endian.
var descriptions = map[kernels.DType]string{
	kernels.Float32: "<f4", kernels.Float64: "<f8",
	kernels.Int8: "|i1", kernels.Int16: "<i2", kernels.Int32: "<i4", kernels.Int64: "<i8",
	kernels.Uint8: "|u1", kernels.Uint16: "<u2", kernels.Uint32: "<u4", kernels.Uint64: "<u8",
}

// ReadHeader reads the header of a .npy file, and returns the bytes that it takes:
// the data follow. The error matches ErrFormat, or is r's.
func ReadHeader(r io.Reader) (h Header, offset int64, err error) {
	start := make([]byte, len(magic)+2)
	if _, err := io.ReadFull(r, start); err != nil {
		return h, 0, shortHeader(err)
	}
	if string(start[:len(magic)]) != magic {
		return h, 0, formatError("it does not begin as .npy files do")
	}
	size := make([]byte, 4)
	major := start[len(magic)]
	switch major {
	case 1:
		size = size[:2]
	case 2, 3:
	default:
		return h, 0, formatError("version %d.%d of the format: save it as version 1.0, 2.0 or 3.0", major, start[len(magic)+1])
	}
	if _, err := io.ReadFull(r, size); err != nil {
		return h, 0, shortHeader(err)
	}
	n := uint32(binary.LittleEndian.Uint16(size))
	if len(size) == 4 {
		n = binary.LittleEndian.Uint32(size)
	}
	if n > longest {
		return h, 0, formatError("its header says that it has %d bytes: a matrix's has about 100", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, 0, shortHeader(err)
	}
	if h, err = parse(string(text)); err != nil {
		return h, 0, err
	}
	return h, int64(len(start) + len(size) + len(text)), nil
}

func shortHeader(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return formatError("it ends within its header")
	}
	return err
}

// parse makes a Header of the text of one, a Python dictionary.
func parse(text string) (h Header, err error) {
	d, err := parseDictionary(text)
	if err != nil {
		return h, err
	}
	h.Fortran = d.fortran
	for t, descr := range descriptions {
		switch d.descr {
		case descr:
			h.Type = t
		case ">" + descr[1:]:
			if t.Size() > 1 {
				return h, formatError("its elements, %q, are big-endian: convert them, with a.astype(%q)", d.descr, descr)
			}
		}
	}
	if !h.Type.Valid() {
		return h, formatError("its elements are of type %.40q: convert them, with a.astype('<f4') or a.astype('<f8')", d.descr)
	}
	return h, h.setShape(d.shape)
}

// setShape sets the rows and columns of an array with so many elements along each dimension.
func (h *Header) setShape(shape []int) error {
	h.Rows, h.Cols = 1, 1
	if n := len(shape); n > 0 {
		h.Cols = shape[n-1]
		for _, side := range shape[:n-1] {
			if side > 0 && h.Rows > math.MaxInt64/side {
				return formatError("its elements, %v, cannot be counted", shape)
			}
			h.Rows *= side
		}
	}
	if len(shape) != 2 {
		h.Shape = append([]int{}, shape...)
	}
	if h.Rows > 0 && h.Cols > (math.MaxInt64-longest)/h.Rows/h.Type.Size() {
		return formatError("%d×%d elements cannot be counted in bytes", h.Rows, h.Cols)
	}
	return nil
}

// Matrix returns an error that matches ErrFormat unless h is of a matrix of numbers that are
// multiplied.
func (h Header) Matrix() error {
	if h.Type != kernels.Float32 && h.Type != kernels.Float64 && h.Type != kernels.Uint32 {
		return formatError("its elements are of type %.40q: convert them, with a.astype('<f4') or a.astype('<f8')", descriptions[h.Type])
	}
	if h.Shape != nil {
		return formatError("it has %d dimensions: a matrix has 2", len(h.Shape))
	}
	return nil
}

// bytes returns how long the data are.
func (h Header) bytes() int64 { return int64(h.Rows) * int64(h.Cols) * int64(h.Type.Size()) }

// Append appends the header to to, in version 1.0.
func (h Header) Append(to []byte) []byte {
	fortran := "False"
	if h.Fortran {
		fortran = "True"
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descriptions[h.Type], fortran, h.tuple())
	start := len(magic) + 4
	text += strings.Repeat(" ", align-1-(start+len(text))%align) + "\n"
	to = append(append(to, magic...), 1, 0)
	to = binary.LittleEndian.AppendUint16(to, uint16(len(text)))
	return append(to, text...)
}

// tuple returns the shape as Python writes it.
func (h Header) tuple() string {
	shape := h.Shape
	if shape == nil {
		shape = []int{h.Rows, h.Cols}
	}
	var sides []string
	for _, n := range shape {
		sides = append(sides, strconv.Itoa(n))
	}
	if len(sides) == 1 {
		return "(" + sides[0] + ",)"
	}
	return "(" + strings.Join(sides, ", ") + ")"
}

// dictionary is the header as it is written.
type dictionary struct {
	descr   string
	fortran bool
	shape   []int
}

// parser reads a Python dictionary whose values are strings, booleans and tuples of
// numbers.
type parser struct {
	text string
	err  error
}

func parseDictionary(text string) (d dictionary, err error) {
	p := &parser{text: text}
	seen := map[string]bool{}
	p.expect("{")
	for p.err == nil && !p.accept("}") {
		key := p.quoted()
		p.expect(":")
		if seen[key] {
			p.fail("its header says %.40q twice", key)
		}
		seen[key] = true
		switch key {
		case "descr":
			d.descr = p.descr()
		case "fortran_order":
			d.fortran = p.boolean()
		case "shape":
			d.shape = p.tuple()
		default:
			p.fail("its header has the entry %.40q, which is not known", key)
		}
		if !p.accept(",") {
			p.expect("}")
			break
		}
	}
	if p.space(); p.err == nil && p.text != "" {
		p.fail("its header goes on after its end: %.40q", p.text)
	}
	for _, key := range []string{"descr", "fortran_order", "shape"} {
		if !seen[key] {
			p.fail("its header has no %q", key)
		}
	}
	return d, p.err
}

// fail keeps the first error, and ends the text.
func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = formatError(format, args...)
	}
	p.text = ""
}

func (p *parser) space() { p.text = strings.TrimLeft(p.text, " \t\r\n") }

// accept takes word, if it is next.
func (p *parser) accept(word string) bool {
	p.space()
	rest, found := strings.CutPrefix(p.text, word)
	p.text = rest
	return found
}

func (p *parser) expect(word string) {
	if !p.accept(word) {
		p.fail("its header has %.40q where %q is expected", p.text, word)
	}
}

func (p *parser) quoted() string {
	p.space()
	if p.text == "" || p.text[0] != '\'' && p.text[0] != '"' {
		p.fail("its header has %.40q where a name is expected", p.text)
		return ""
	}
	word, rest, found := strings.Cut(p.text[1:], p.text[:1])
	if !found {
		p.fail("its header has a name without an end")
		return ""
	}
	p.text = rest
	return word
}

func (p *parser) descr() string {
	if p.space(); strings.HasPrefix(p.text, "[") {
		p.fail("its elements are records: save one field of them")
		return ""
	}
	return p.quoted()
}

func (p *parser) boolean() bool {
	if p.accept("True") {
		return true
	}
	p.expect("False")
	return false
}

// mostDimensions is as many as NumPy has.
const mostDimensions = 64

func (p *parser) tuple() (sides []int) {
	p.expect("(")
	for p.err == nil && !p.accept(")") {
		sides = append(sides, p.number())
		if len(sides) > mostDimensions {
			p.fail("it has more than %d dimensions", mostDimensions)
		}
		if !p.accept(",") {
			p.expect(")")
			break
		}
	}
	return sides
}

func (p *parser) number() int {
	p.space()
	digits := len(p.text) - len(strings.TrimLeft(p.text, "0123456789"))
	n, err := strconv.Atoi(p.text[:digits])
	if err != nil {
		p.fail("its shape has %.40q where a number is expected", p.text)
		return 0
	}
	p.text = strings.TrimPrefix(p.text[digits:], "L") // of Python 2
	return n
}
