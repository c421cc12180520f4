package dist

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/gpurun/gpurun/kernels"
)

// customSpec is a kernels.Custom on the wire, without its arrays.
type customSpec struct {
	Source  string    `cbor:"1,keyasint"`
	Entry   string    `cbor:"2,keyasint"`
	W       int       `cbor:"3,keyasint"`
	H       int       `cbor:"4,keyasint"`
	GroupW  int       `cbor:"5,keyasint,omitempty"`
	GroupH  int       `cbor:"6,keyasint,omitempty"`
	Items   int       `cbor:"7,keyasint,omitempty"`
	Rows    bool      `cbor:"8,keyasint,omitempty"`
	Args    []argSpec `cbor:"9,keyasint"`
	Name    string    `cbor:"10,keyasint,omitempty"`
	Columns int       `cbor:"11,keyasint,omitempty"`
}

// argSpec is a kernels.Arg on the wire.
type argSpec struct {
	Name  string `cbor:"1,keyasint"`
	Role  uint8  `cbor:"2,keyasint"`
	Type  uint8  `cbor:"3,keyasint,omitempty"`
	Bits  uint64 `cbor:"4,keyasint,omitempty"`
	W     int    `cbor:"5,keyasint,omitempty"`
	H     int    `cbor:"6,keyasint,omitempty"`
	Each  int    `cbor:"7,keyasint,omitempty"`
	HaloX int    `cbor:"8,keyasint,omitempty"`
	HaloY int    `cbor:"9,keyasint,omitempty"`
	Edge  uint8  `cbor:"10,keyasint,omitempty"`
	HaloZ int    `cbor:"11,keyasint,omitempty"`
}

// The most that a kernel has which is taken from the wire.
const (
	maxSource   = 1 << 20
	maxArgs     = 256
	maxNameSize = 256
)

func specOfCustom(c *kernels.Custom) customSpec {
	s := customSpec{Source: c.Source, Entry: c.Entry, W: c.W, H: c.H, GroupW: c.Group[0], GroupH: c.Group[1], Items: c.Items, Rows: c.Rows, Name: c.Name, Columns: c.Columns}
	for _, a := range c.Args {
		s.Args = append(s.Args, argSpec{
			Name: a.Name, Role: uint8(a.Role), Type: uint8(a.Type), Bits: a.Bits, W: a.W, H: a.H, Each: a.Each,
			HaloX: a.Halo[0], HaloY: a.Halo[1], HaloZ: a.Halo[2], Edge: uint8(a.Edge),
		})
	}
	return s
}

// job returns the kernel with the arrays that array returns for the arguments that are read.
func (s customSpec) job(array func(operand int) kernels.Array) *kernels.Custom {
	c := &kernels.Custom{Source: s.Source, Entry: s.Entry, W: s.W, H: s.H, Group: [2]int{s.GroupW, s.GroupH}, Items: s.Items, Rows: s.Rows, Name: s.Name, Columns: s.Columns}
	for i, a := range s.Args {
		arg := kernels.Arg{
			Name: a.Name, Role: kernels.Role(a.Role), Type: kernels.DType(a.Type), Bits: a.Bits, W: a.W, H: a.H, Each: a.Each,
			Halo: [3]int{a.HaloX, a.HaloY, a.HaloZ}, Edge: kernels.Edge(a.Edge),
		}
		if arg.Reads() {
			arg.Array = array(i)
		}
		c.Args = append(c.Args, arg)
	}
	return c
}

// unreadArray is an array that is still with the coordinator.
type unreadArray struct{}

func (unreadArray) Read([]byte, kernels.Tile) error { return errors.New("it is not to be read yet") }

// fetchedArray is an array of which parts are fetched when they are needed.
type fetchedArray struct {
	ctx     context.Context
	of      *hostedOperands
	operand int
}

func (a fetchedArray) Read(to []byte, t kernels.Tile) error {
	return a.of.fetching.read(a.ctx, a.of, a.operand, to, t)
}

// decodeCustom returns the kernel that spec describes, whose arrays cannot be read.
func decodeCustom(spec []byte) (kernels.Job, error) {
	var s customSpec
	if err := decoding.Unmarshal(spec, &s); err != nil {
		return nil, protocolError("job: %v", err)
	}
	if len(s.Source) > maxSource || len(s.Args) > maxArgs || len(s.Entry) > maxNameSize || len(s.Name) > maxNameSize {
		return nil, protocolError("job: a kernel of %d bytes with %d arguments", len(s.Source), len(s.Args))
	}
	if slices.ContainsFunc(s.Args, func(a argSpec) bool { return len(a.Name) > maxNameSize }) {
		return nil, protocolError("job: the name of an argument has more than %d bytes", maxNameSize)
	}
	c := s.job(func(int) kernels.Array { return unreadArray{} })
	if err := c.Validate(); err != nil {
		return nil, protocolError("job: %v", err)
	}
	if c.Bounds().Empty() {
		return nil, protocolError("job: %v elements", c.Bounds())
	}
	for i, a := range c.Args {
		bytes := int64(8 * (len(c.Args) + 1)) // of one element in all arrays
		if whole := s.stored(i); (a.Cut() || a.Role == kernels.Whole) && !(fitsOperand(whole.W, whole.H, bytes) && fitsOperand(c.W, c.H, bytes)) {
			return nil, protocolError("job: %v elements for %v", whole, c.Bounds())
		}
	}
	return c, nil
}

// fitsOperand reports whether w×h elements of so many bytes can be counted as an operand's.
func fitsOperand(w, h int, bytes int64) bool {
	return h == 0 || w == 0 || int64(w) <= maxOperand/bytes/int64(h)
}

func (s customSpec) count() int { return len(s.Args) }

func (s customSpec) reads(operand int) bool { return s.arg(operand).Reads() }

func (s customSpec) elementOf(operand int) int { return s.arg(operand).Type.Size() }

func (s customSpec) arg(operand int) kernels.Arg {
	a := s.Args[operand]
	return kernels.Arg{Role: kernels.Role(a.Role), Type: kernels.DType(a.Type), W: a.W, H: a.H, Each: a.Each}
}

func (s customSpec) stored(operand int) kernels.Tile {
	switch a := s.arg(operand); {
	case a.Role == kernels.Whole:
		return kernels.Tile{W: a.W, H: a.H}
	case a.Each > 0:
		return kernels.Tile{W: a.W, H: 1}
	}
	return kernels.Tile{W: s.W, H: s.H}
}

func (s customSpec) same(other operandSpec) bool { return reflect.DeepEqual(s, other) }

// errNoKernels is what a host says, or is said of it, that runs none.
var errNoKernels = errors.New("this host runs no kernels of others: start its worker with --allow-kernels, a key and an OpenCL device (--device), or leave it out")

// errNotRegistered is said of a host which does not have a kernel's function in Go.
var errNotRegistered = errors.New("the program of this host's worker has not registered the kernel's function in Go: import the package that does, or leave the host out")

// takes reports whether the device can compute job.
func (d DeviceInfo) takes(job kernels.Job) bool {
	c, ok := job.(*kernels.Custom)
	return !ok || c.Source != "" && d.Source || c.Name != "" && strings.Contains("\n"+d.Functions, "\n"+c.Name+"\n")
}

// declines reports whether d has no part in job, which it cannot compute, and why if no other device
// of its host can either.
func (d *remoteDevice) declines(job kernels.Job) (bool, error) {
	switch c, _ := job.(*kernels.Custom); {
	case d.info.takes(job):
		return false, nil
	case slices.ContainsFunc(d.host.peer.Devices, func(i DeviceInfo) bool { return i.takes(job) }):
		return true, nil
	case c.Source != "":
		return true, errNoKernels
	}
	return true, errNotRegistered
}
