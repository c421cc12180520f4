package cl

import (
	"fmt"
	"unsafe"
)

// Kernel is a function of a program, with its arguments. The arguments are
// state of the kernel: one goroutine at a time may set them and enqueue it.
type Kernel struct {
	object
	ctx      *Context
	what, op string // "kernel NAME", "enqueue kernel NAME"
	argument uint64 // where SetArg lays a scalar for the driver to copy
}

// LocalMem is an argument that is a pointer to local memory of so many bytes.
type LocalMem int64

// Scalar is an argument that is a number of Size bytes, 1 to 8, little-endian in Bits.
type Scalar struct {
	Bits uint64
	Size int
}

// CreateKernel returns the program's kernel called name, or INVALID_KERNEL_NAME.
func (p *Program) CreateKernel(name string) (*Kernel, error) {
	op := "create kernel " + name
	program := p.handle.Load()
	if program == 0 {
		return nil, p.ctx.released(op, INVALID_PROGRAM)
	}
	var code Code
	text := cString(name)
	handle := call(createKernel, program, uintptr(unsafe.Pointer(&text[0])), uintptr(unsafe.Pointer(&code)))
	if code != 0 {
		return nil, p.ctx.result(op, code)
	}
	k := &Kernel{ctx: p.ctx, what: "kernel " + name, op: "enqueue kernel " + name}
	k.own(kernels, handle)
	return k, nil
}

// Release gives the kernel up. It may be enqueued already.
func (k *Kernel) Release() {
	if k != nil {
		k.release(kernels, releaseKernel)
	}
}

// SetArgs sets the arguments of k from the first one on; see SetArg.
func (k *Kernel) SetArgs(values ...any) error {
	for i, v := range values {
		if err := k.SetArg(i, v); err != nil {
			return err
		}
	}
	return nil
}

// SetArg sets one argument, the first being 0. The value is an int32, uint32,
// int64, uint64, float32 or float64 of the parameter's exact size, a *Buffer,
// where nil is the null pointer, a Scalar, or a LocalMem. It holds until it is set
// again; a buffer must not be released before the kernel is enqueued.
func (k *Kernel) SetArg(index int, value any) error {
	kernel := k.handle.Load()
	if kernel == 0 {
		return k.argumentError(index, INVALID_KERNEL, "the kernel has been released")
	}
	slot := unsafe.Pointer(&k.argument)
	size := uintptr(8)
	switch v := value.(type) {
	case int32:
		size, *(*int32)(slot) = 4, v
	case uint32:
		size, *(*uint32)(slot) = 4, v
	case float32:
		size, *(*float32)(slot) = 4, v
	case int64:
		*(*int64)(slot) = v
	case uint64:
		*(*uint64)(slot) = v
	case float64:
		*(*float64)(slot) = v
	case *Buffer:
		var handle uintptr
		if v != nil {
			if handle = v.handle.Load(); handle == 0 {
				return k.argumentError(index, INVALID_MEM_OBJECT, "the buffer has been released")
			}
		}
		*(*uintptr)(slot) = handle
	case Scalar:
		size, *(*uint64)(slot) = uintptr(v.Size), v.Bits
	case LocalMem:
		size, slot = uintptr(v), nil
	default:
		return k.argumentError(index, INVALID_ARG_VALUE, fmt.Sprintf("a %T cannot be one", value))
	}
	if code := callCode(setKernelArg, kernel, uintptr(index), size, uintptr(slot)); code != 0 {
		return k.argumentError(index, code, fmt.Sprintf("given a %T", value))
	}
	return nil
}

func (k *Kernel) argumentError(index int, code Code, detail string) error {
	op := fmt.Sprintf("set argument %d of %s", index, k.what)
	return &Error{Op: op, Device: k.ctx.device.Name, Code: code, Detail: detail}
}

// WorkGroupInfo is what a kernel needs of its device.
type WorkGroupInfo struct {
	MaxSize           int   // the most work-items in a work-group
	PreferredMultiple int   // of which the size of a work-group should be a multiple
	LocalMem          int64 // bytes a work-group, as far as known yet
	PrivateMem        int64 // bytes a work-item, 0 where it is unknown
}

// WorkGroupInfo returns what k needs of its device.
func (k *Kernel) WorkGroupInfo() (WorkGroupInfo, error) {
	op := "query " + k.what
	kernel := k.handle.Load()
	if kernel == 0 {
		return WorkGroupInfo{}, k.ctx.released(op, INVALID_KERNEL)
	}
	h := []uintptr{kernel, k.ctx.device.id}
	maxSize, code := queryValue[uintptr](getKernelWorkGroupInfo, h, kernelWorkGroupSize)
	if code != 0 {
		return WorkGroupInfo{}, k.ctx.result(op, code)
	}
	multiple, code := queryValue[uintptr](getKernelWorkGroupInfo, h, kernelPreferredSizeMultiple)
	if code != 0 {
		return WorkGroupInfo{}, k.ctx.result(op, code)
	}
	localMem, code := queryValue[uint64](getKernelWorkGroupInfo, h, kernelLocalMemSize)
	if code != 0 {
		return WorkGroupInfo{}, k.ctx.result(op, code)
	}
	privateMem, _ := queryValue[uint64](getKernelWorkGroupInfo, h, kernelPrivateMemSize)
	return WorkGroupInfo{
		MaxSize: int(maxSize), PreferredMultiple: int(multiple),
		LocalMem: int64(localMem), PrivateMem: int64(privateMem),
	}, nil
}
