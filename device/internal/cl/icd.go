package cl

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// resolveDriver finds the entry points of a driver that was opened directly,
// without a loader, as in containers that hold libnvidia-opencl.so.1 alone. A
// driver exports little more than clGetExtensionFunctionAddress; by the
// extension cl_khr_icd that function knows clIcdGetPlatformIDsKHR, and each
// platform begins with a pointer to the table of all functions. ok is false
// if library has no such interface.
func resolveDriver(library uintptr) (found [numFunctions]uintptr, ok bool, err error) {
	getPlatforms := findSymbol(library, "clIcdGetPlatformIDsKHR")
	if lookup := findSymbol(library, "clGetExtensionFunctionAddress"); getPlatforms == 0 && lookup != 0 {
		name := cString("clIcdGetPlatformIDsKHR")
		getPlatforms, _, _ = purego.SyscallN(lookup, uintptr(unsafe.Pointer(&name[0])))
	}
	if getPlatforms == 0 {
		return found, false, nil
	}
	found[getPlatformIDs] = getPlatforms // it takes the same arguments

	var first *dispatched
	var n uint32
	r, _, _ := purego.SyscallN(getPlatforms, 1, uintptr(unsafe.Pointer(&first)), uintptr(unsafe.Pointer(&n)))
	if code := Code(int32(r)); code == PLATFORM_NOT_FOUND_KHR || code == 0 && n == 0 {
		return found, true, nil // no platform, so no other function is ever called
	} else if code != 0 {
		return found, true, fmt.Errorf("clIcdGetPlatformIDsKHR: %w", code)
	}
	if first == nil || first.table == nil {
		return found, true, errors.New("the driver has no table of functions")
	}
	for fn, entry := range entryPoints {
		if function(fn) == getPlatformIDs {
			continue
		}
		found[fn] = first.table[entry.slot]
		if found[fn] == 0 && !entry.optional {
			return found, true, fmt.Errorf("the driver's table of functions has no %s", entry.symbol)
		}
	}
	return found, true, nil
}

// dispatched is the part of every driver's object that cl_khr_icd defines.
// The table has more slots than these in drivers newer than OpenCL 1.2.
type dispatched struct {
	table *[106]uintptr
}
