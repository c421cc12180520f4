package cl

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Device is one OpenCL device. Its fields are what the driver said when the
// device was listed, and never change. Nothing is to be released.
type Device struct {
	Platform *Platform

	Name          string
	Vendor        string
	DriverVersion string     // such as "550.54.15"
	Version       string     // such as "OpenCL 3.0 CUDA"
	CVersion      string     // such as "OpenCL C 1.2"
	Type          DeviceType // one bit, or several on odd drivers
	VendorID      int        // of PCI where the vendor has one, such as 0x10de
	PCI           string     // such as "0000:3b:00.0", "" where it is unknown
	UUID          string     // in the form of RFC 9562, "" where it is unknown

	GlobalMem   int64 // bytes
	MaxAlloc    int64 // the largest buffer, in bytes: often a quarter of GlobalMem
	LocalMem    int64 // bytes a work-group
	HostUnified bool  // host and device share their memory

	ComputeUnits     int
	MaxWorkGroupSize int // work-items
	MaxClock         int // MHz, 0 where it is unknown
	VectorFloat      int // preferred lanes of a float vector
	VectorDouble     int // preferred lanes of a double vector, 0 without double

	SingleFP FPConfig
	DoubleFP FPConfig // 0 without double

	Extensions []string

	id uintptr
}

// FPConfig says what a device's arithmetic in one type can do, a
// cl_device_fp_config.
type FPConfig uint64

// HasDenorms reports whether denormal numbers are kept.
func (c FPConfig) HasDenorms() bool { return c&(1<<0) != 0 }

// InfNaN reports whether infinities and NaNs are kept.
func (c FPConfig) InfNaN() bool { return c&(1<<1) != 0 }

// RoundToNearest reports whether operations round to the nearest even.
func (c FPConfig) RoundToNearest() bool { return c&(1<<2) != 0 }

// HasFMA reports whether fma rounds once, as IEEE 754 has it.
func (c FPConfig) HasFMA() bool { return c&(1<<5) != 0 }

// RoundsDivideSqrt reports whether division and square root of float32 can be rounded correctly,
// by the compiler's option -cl-fp32-correctly-rounded-divide-sqrt.
func (c FPConfig) RoundsDivideSqrt() bool { return c&(1<<7) != 0 }

// HasExtension reports whether the device has the extension called name.
func (d *Device) HasExtension(name string) bool { return slices.Contains(d.Extensions, name) }

// newDevice asks the driver for everything about a device. What a driver does
// not know stays zero, but for what nobody can do without.
func newDevice(p *Platform, id uintptr) (*Device, error) {
	d := &Device{Platform: p, id: id}
	if err := d.queryRequired(); err != nil {
		return nil, err
	}
	h := []uintptr{id}
	d.Vendor, _ = queryString(getDeviceInfo, h, deviceVendor)
	d.VendorID = d.number(deviceVendorID)
	d.DriverVersion, _ = queryString(getDeviceInfo, h, driverVersion)
	d.Version, _ = queryString(getDeviceInfo, h, deviceVersion)
	d.CVersion, _ = queryString(getDeviceInfo, h, deviceOpenCLCVersion)
	extensions, _ := queryString(getDeviceInfo, h, deviceExtensions)
	d.Extensions = strings.Fields(extensions)

	d.ComputeUnits = d.number(deviceMaxComputeUnits)
	d.MaxClock = d.number(deviceMaxClockFrequency)
	d.VectorFloat = d.number(devicePreferredVectorWidthFloat)
	d.VectorDouble = d.number(devicePreferredVectorWidthDouble)
	d.HostUnified = d.number(deviceHostUnifiedMemory) != 0
	localMem, _ := queryValue[uint64](getDeviceInfo, h, deviceLocalMemSize)
	d.LocalMem = int64(localMem)
	d.SingleFP, _ = queryValue[FPConfig](getDeviceInfo, h, deviceSingleFPConfig)
	d.DoubleFP, _ = queryValue[FPConfig](getDeviceInfo, h, deviceDoubleFPConfig)
	d.PCI = d.pciAddress()
	d.UUID = d.uuid()
	return d, nil
}

func (d *Device) queryRequired() error {
	h := []uintptr{d.id}
	var code Code
	if d.Name, code = queryString(getDeviceInfo, h, deviceName); code != 0 {
		return &Error{Op: "ask for the name", Code: code}
	}
	if d.Type, code = queryValue[DeviceType](getDeviceInfo, h, deviceType); code != 0 {
		return &Error{Op: "ask for the type", Device: d.Name, Code: code}
	}
	size, code := queryValue[uint64](getDeviceInfo, h, deviceGlobalMemSize)
	if code != 0 {
		return &Error{Op: "ask for the size of the memory", Device: d.Name, Code: code}
	}
	d.GlobalMem = int64(size)
	if size, code = queryValue[uint64](getDeviceInfo, h, deviceMaxMemAllocSize); code != 0 {
		return &Error{Op: "ask for the largest allocation", Device: d.Name, Code: code}
	}
	d.MaxAlloc = int64(size)
	group, code := queryValue[uintptr](getDeviceInfo, h, deviceMaxWorkGroupSize)
	if code != 0 {
		return &Error{Op: "ask for the largest work-group", Device: d.Name, Code: code}
	}
	d.MaxWorkGroupSize = int(group)
	return nil
}

// number reads an attribute that is a cl_uint or a cl_bool, 0 where it is
// unknown.
func (d *Device) number(p param) int {
	n, _ := queryValue[uint32](getDeviceInfo, []uintptr{d.id}, p)
	return int(n)
}

// pciAddress returns domain:bus:device.function in hexadecimal, as lspci
// does, or "" if no extension of the device tells.
func (d *Device) pciAddress() string {
	h := []uintptr{d.id}
	if d.HasExtension("cl_khr_pci_bus_info") {
		type busInfo struct{ domain, bus, device, function uint32 }
		if a, code := queryValue[busInfo](getDeviceInfo, h, devicePCIBusInfo); code == 0 {
			return fmt.Sprintf("%04x:%02x:%02x.%x", a.domain, a.bus, a.device, a.function)
		}
	}
	if d.HasExtension("cl_nv_device_attribute_query") {
		bus, code := queryValue[uint32](getDeviceInfo, h, devicePCIBusNV)
		slot, code2 := queryValue[uint32](getDeviceInfo, h, devicePCISlotNV)
		if code == 0 && code2 == 0 {
			domain := d.number(devicePCIDomainNV) // unknown to older drivers
			return fmt.Sprintf("%04x:%02x:%02x.%x", domain, bus, slot>>3, slot&7)
		}
	}
	if d.HasExtension("cl_amd_device_attribute_query") {
		type topology struct {
			kind                  uint32 // 1 is PCIe
			_                     [17]byte
			bus, device, function uint8
		}
		if a, code := queryValue[topology](getDeviceInfo, h, deviceTopologyAMD); code == 0 && a.kind == 1 {
			return fmt.Sprintf("0000:%02x:%02x.%x", a.bus, a.device, a.function)
		}
	}
	return ""
}

// uuid returns what tells the device from all others, whatever is done to the numbers of
// devices, or "" if the driver does not tell.
func (d *Device) uuid() string {
	if !d.HasExtension("cl_khr_device_uuid") {
		return ""
	}
	u, code := queryValue[[16]byte](getDeviceInfo, []uintptr{d.id}, deviceUUID)
	if code != 0 || u == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// String returns the device's name and platform.
func (d *Device) String() string { return d.Name + " (" + d.Platform.Name + ")" }

// CreateContext opens the device. Its buffers are charged to ledger, which
// must not be nil.
func (d *Device) CreateContext(ledger *Ledger) (*Context, error) {
	var code Code
	properties := [...]uintptr{uintptr(contextPlatform), d.Platform.id, 0}
	var handle uintptr
	intoDriver(func() {
		handle = call(createContext, uintptr(unsafe.Pointer(&properties)), 1, uintptr(unsafe.Pointer(&d.id)),
			0, 0, uintptr(unsafe.Pointer(&code)))
	})
	if code != 0 {
		return nil, &Error{Op: "create context", Device: d.Name, Code: code}
	}
	c := &Context{device: d, ledger: ledger}
	c.own(contexts, handle)
	return c, nil
}
