package cl

// DeviceType is a set of kinds of devices, a cl_device_type.
type DeviceType uint64

// The kinds of devices.
const (
	DEVICE_TYPE_CPU         DeviceType = 1 << 1
	DEVICE_TYPE_GPU         DeviceType = 1 << 2
	DEVICE_TYPE_ACCELERATOR DeviceType = 1 << 3
	DEVICE_TYPE_ALL         DeviceType = 0xFFFFFFFF
)

// MemFlags says how a buffer is used and where it lies, a cl_mem_flags.
type MemFlags uint64

// The first three say what kernels do with the buffer: give one of them.
// MEM_ALLOC_HOST_PTR asks for memory that the host can reach, pinned where
// the device has its own: mapped, it is what non-blocking transfers need.
const (
	MEM_READ_WRITE     MemFlags = 1 << 0
	MEM_WRITE_ONLY     MemFlags = 1 << 1
	MEM_READ_ONLY      MemFlags = 1 << 2
	MEM_ALLOC_HOST_PTR MemFlags = 1 << 4
)

// MapFlags says what the host does with a mapping, a cl_map_flags.
type MapFlags uint64

// The uses of a mapping.
const (
	MAP_READ  MapFlags = 1 << 0
	MAP_WRITE MapFlags = 1 << 1
)

// QueueProperties is a cl_command_queue_properties. Queues are always in order.
type QueueProperties uint64

// QUEUE_PROFILING_ENABLE makes Event.ProfilingInfo work, at some cost a command.
const QUEUE_PROFILING_ENABLE QueueProperties = 1 << 1

// Status is how far a command has come. It falls from QUEUED to COMPLETE.
type Status int32

// The states of a command.
const (
	COMPLETE Status = iota
	RUNNING
	SUBMITTED
	QUEUED
)

// param names an attribute of an object.
type param uint32

const (
	platformVersion param = 0x0901
	platformName    param = 0x0902
	platformVendor  param = 0x0903

	deviceType                       param = 0x1000
	deviceVendorID                   param = 0x1001
	deviceMaxComputeUnits            param = 0x1002
	deviceMaxWorkGroupSize           param = 0x1004
	devicePreferredVectorWidthFloat  param = 0x100A
	devicePreferredVectorWidthDouble param = 0x100B
	deviceMaxClockFrequency          param = 0x100C
	deviceMaxMemAllocSize            param = 0x1010
	deviceSingleFPConfig             param = 0x101B
	deviceGlobalMemSize              param = 0x101F
	deviceLocalMemSize               param = 0x1023
	deviceName                       param = 0x102B
	deviceVendor                     param = 0x102C
	driverVersion                    param = 0x102D
	deviceVersion                    param = 0x102F
	deviceExtensions                 param = 0x1030
	deviceDoubleFPConfig             param = 0x1032
	deviceHostUnifiedMemory          param = 0x1035
	deviceOpenCLCVersion             param = 0x103D

	devicePCIBusNV    param = 0x4008 // cl_nv_device_attribute_query
	devicePCISlotNV   param = 0x4009
	devicePCIDomainNV param = 0x400A
	deviceTopologyAMD param = 0x4037 // cl_amd_device_attribute_query
	devicePCIBusInfo  param = 0x410F // cl_khr_pci_bus_info
	deviceUUID        param = 0x106A // cl_khr_device_uuid

	contextPlatform param = 0x1084

	programBinarySizes param = 0x1165
	programBinaries    param = 0x1166
	programBuildLog    param = 0x1183

	kernelWorkGroupSize         param = 0x11B0
	kernelLocalMemSize          param = 0x11B2
	kernelPreferredSizeMultiple param = 0x11B3
	kernelPrivateMemSize        param = 0x11B4

	eventExecutionStatus param = 0x11D3

	profilingQueued param = 0x1280
	profilingSubmit param = 0x1281
	profilingStart  param = 0x1282
	profilingEnd    param = 0x1283
)
