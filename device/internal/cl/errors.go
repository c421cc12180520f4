package cl

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a status that OpenCL returned. It is an error itself, so that
// errors.Is(err, OUT_OF_RESOURCES) works on whatever this package returns.
type Code int32

// The codes that this package or its callers tell apart. The others keep
// their names in messages.
const (
	DEVICE_NOT_FOUND              Code = -1
	MEM_OBJECT_ALLOCATION_FAILURE Code = -4
	OUT_OF_RESOURCES              Code = -5
	OUT_OF_HOST_MEMORY            Code = -6
	BUILD_PROGRAM_FAILURE         Code = -11
	INVALID_VALUE                 Code = -30
	INVALID_CONTEXT               Code = -34
	INVALID_COMMAND_QUEUE         Code = -36
	INVALID_MEM_OBJECT            Code = -38
	INVALID_BINARY                Code = -42
	INVALID_PROGRAM               Code = -44
	INVALID_KERNEL_NAME           Code = -46
	INVALID_KERNEL                Code = -48
	INVALID_ARG_VALUE             Code = -50
	INVALID_WORK_DIMENSION        Code = -53
	INVALID_EVENT                 Code = -58
	INVALID_OPERATION             Code = -59
	INVALID_BUFFER_SIZE           Code = -61
	PLATFORM_NOT_FOUND_KHR        Code = -1001
)

// Error returns the code as the C headers name it, and its number.
func (c Code) Error() string {
	name, ok := codeNames[c]
	if !ok {
		name = "OpenCL error"
	}
	return fmt.Sprintf("%s (%d)", name, int32(c))
}

// Error is a call that failed.
type Error struct {
	Op     string // what was attempted, such as "enqueue kernel mandelbrot_f64"
	Device string // the device's name, "" where there is none yet
	Code   Code   // what OpenCL said, or would have said
	Detail string // what else is known, or ""
}

// Error returns what failed, where and why.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Device != "" {
		b.WriteString(" on " + e.Device)
	}
	b.WriteString(": " + e.Code.Error())
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}

// Unwrap returns e.Code.
func (e *Error) Unwrap() error { return e.Code }

// IsOutOfMemory reports whether err says that the device or its driver had no
// memory for what was asked, so that the same with smaller buffers may work.
// Drivers allocate late: any command, and Finish, may fail so. NVIDIA's calls the
// queues of the context invalid then. A ledger's ErrBudget is not meant: it is no
// news from the driver.
func IsOutOfMemory(err error) bool {
	var code Code
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case MEM_OBJECT_ALLOCATION_FAILURE, OUT_OF_RESOURCES, OUT_OF_HOST_MEMORY, INVALID_BUFFER_SIZE, INVALID_COMMAND_QUEUE:
		return true
	}
	return false
}

var codeNames = map[Code]string{
	0:     "CL_SUCCESS",
	-1:    "CL_DEVICE_NOT_FOUND",
	-2:    "CL_DEVICE_NOT_AVAILABLE",
	-3:    "CL_COMPILER_NOT_AVAILABLE",
	-4:    "CL_MEM_OBJECT_ALLOCATION_FAILURE",
	-5:    "CL_OUT_OF_RESOURCES",
	-6:    "CL_OUT_OF_HOST_MEMORY",
	-7:    "CL_PROFILING_INFO_NOT_AVAILABLE",
	-8:    "CL_MEM_COPY_OVERLAP",
	-11:   "CL_BUILD_PROGRAM_FAILURE",
	-12:   "CL_MAP_FAILURE",
	-13:   "CL_MISALIGNED_SUB_BUFFER_OFFSET",
	-14:   "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
	-15:   "CL_COMPILE_PROGRAM_FAILURE",
	-16:   "CL_LINKER_NOT_AVAILABLE",
	-17:   "CL_LINK_PROGRAM_FAILURE",
	-30:   "CL_INVALID_VALUE",
	-31:   "CL_INVALID_DEVICE_TYPE",
	-32:   "CL_INVALID_PLATFORM",
	-33:   "CL_INVALID_DEVICE",
	-34:   "CL_INVALID_CONTEXT",
	-35:   "CL_INVALID_QUEUE_PROPERTIES",
	-36:   "CL_INVALID_COMMAND_QUEUE",
	-37:   "CL_INVALID_HOST_PTR",
	-38:   "CL_INVALID_MEM_OBJECT",
	-42:   "CL_INVALID_BINARY",
	-43:   "CL_INVALID_BUILD_OPTIONS",
	-44:   "CL_INVALID_PROGRAM",
	-45:   "CL_INVALID_PROGRAM_EXECUTABLE",
	-46:   "CL_INVALID_KERNEL_NAME",
	-47:   "CL_INVALID_KERNEL_DEFINITION",
	-48:   "CL_INVALID_KERNEL",
	-49:   "CL_INVALID_ARG_INDEX",
	-50:   "CL_INVALID_ARG_VALUE",
	-51:   "CL_INVALID_ARG_SIZE",
	-52:   "CL_INVALID_KERNEL_ARGS",
	-53:   "CL_INVALID_WORK_DIMENSION",
	-54:   "CL_INVALID_WORK_GROUP_SIZE",
	-55:   "CL_INVALID_WORK_ITEM_SIZE",
	-56:   "CL_INVALID_GLOBAL_OFFSET",
	-57:   "CL_INVALID_EVENT_WAIT_LIST",
	-58:   "CL_INVALID_EVENT",
	-59:   "CL_INVALID_OPERATION",
	-61:   "CL_INVALID_BUFFER_SIZE",
	-63:   "CL_INVALID_GLOBAL_WORK_SIZE",
	-64:   "CL_INVALID_PROPERTY",
	-1001: "CL_PLATFORM_NOT_FOUND_KHR",
	-9999: "illegal memory access in a kernel (NVIDIA)",
}
