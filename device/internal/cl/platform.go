package cl

import (
	"errors"
	"fmt"
	"unsafe"
)

// Platform is one OpenCL driver. Platforms are constants of the process:
// nothing is to be released.
type Platform struct {
	Name    string // such as "NVIDIA CUDA"
	Vendor  string // such as "NVIDIA Corporation"
	Version string // such as "OpenCL 3.0 CUDA 12.4.131"

	id uintptr
}

// GetPlatformIDs returns the platforms of this machine. None is not an error;
// having no OpenCL library at all is ErrNoLibrary. A platform that answers no
// question is nil, and an error beside the others.
func GetPlatformIDs() ([]*Platform, error) {
	var n uint32
	var code Code
	var err error
	intoDriver(func() {
		if err = load(); err == nil {
			code = callCode(getPlatformIDs, 0, 0, uintptr(unsafe.Pointer(&n)))
		}
	})
	if err != nil {
		return nil, err
	}
	if code == PLATFORM_NOT_FOUND_KHR || code == 0 && n == 0 {
		return nil, nil
	}
	ids := make([]uintptr, n)
	if code == 0 {
		code = callCode(getPlatformIDs, uintptr(n), uintptr(unsafe.Pointer(unsafe.SliceData(ids))), 0)
	}
	if code != 0 {
		return nil, &Error{Op: "list the platforms", Code: code}
	}
	platforms := make([]*Platform, n)
	var errs []error
	for i, id := range ids {
		p := &Platform{id: id}
		handles := []uintptr{id}
		p.Name, code = queryString(getPlatformInfo, handles, platformName)
		if code != 0 {
			errs = append(errs, &Error{Op: fmt.Sprintf("ask platform %d for its name", i), Code: code})
			continue
		}
		p.Vendor, _ = queryString(getPlatformInfo, handles, platformVendor)
		p.Version, _ = queryString(getPlatformInfo, handles, platformVersion)
		platforms[i] = p
	}
	return platforms, errors.Join(errs...)
}

// GetDeviceIDs returns the platform's devices of the kinds in t. None is not
// an error. A device that does not tell what it is is nil, and an error beside
// the others.
func (p *Platform) GetDeviceIDs(t DeviceType) ([]*Device, error) {
	var n uint32
	var code Code
	intoDriver(func() {
		code = callCode(getDeviceIDs, p.id, uintptr(t), 0, 0, uintptr(unsafe.Pointer(&n)))
	})
	if code == DEVICE_NOT_FOUND || code == 0 && n == 0 {
		return nil, nil
	}
	ids := make([]uintptr, n)
	if code == 0 {
		code = callCode(getDeviceIDs, p.id, uintptr(t), uintptr(n), uintptr(unsafe.Pointer(unsafe.SliceData(ids))), 0)
	}
	if code != 0 {
		return nil, &Error{Op: "list the devices of " + p.Name, Code: code}
	}
	devices := make([]*Device, n)
	var errs []error
	for i, id := range ids {
		var err error
		if devices[i], err = newDevice(p, id); err != nil {
			errs = append(errs, fmt.Errorf("device %d of %s: %w", i, p.Name, err))
		}
	}
	return devices, errors.Join(errs...)
}
