package device

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
)

// errNoOpenCL is matched by the error of a machine without an OpenCL library.
var errNoOpenCL = cl.ErrNoLibrary

// errBrokenLibrary is matched by the error of a GPURUN_OPENCL_LIB that cannot be
// used.
var errBrokenLibrary = cl.ErrBrokenLibrary

// openCLID returns the id of device d of platform p, both counted from 0 in
// the order of the driver.
func openCLID(p, d int) string { return fmt.Sprintf("ocl:%d.%d", p, d) }

// discovering lets one goroutine at a time ask for devices: while PoCL 3.1 makes itself ready for the
// first, it crashes under another.
var discovering sync.Mutex

// discoverOpenCL returns the devices of every OpenCL platform. A platform or a
// device that fails is an error beside the others.
func discoverOpenCL(memory int64) ([]candidate, error) {
	discovering.Lock()
	defer discovering.Unlock()
	platforms, err := cl.GetPlatformIDs()
	errs := []error{err}
	var candidates []candidate
	for p, platform := range platforms {
		if platform == nil {
			continue
		}
		devices, err := platform.GetDeviceIDs(cl.DEVICE_TYPE_ALL)
		errs = append(errs, err)
		for i, d := range devices {
			if d == nil {
				continue
			}
			info := openCLInfo(openCLID(p, i), d, memory)
			candidates = append(candidates, candidate{
				info: info,
				open: func() (Device, error) {
					opened := newOpenCLDevice(info, d)
					opened.loaded = loadRates(opened.ratesName(), opened.measurables())
					return opened, nil
				},
			})
		}
	}
	return candidates, errors.Join(errs...)
}

// vendors are those whose GPUs programs compute on, by their numbers of PCI. What they are
// called in drivers differs.
var vendors = map[int]string{0x10de: "nvidia", 0x1002: "amd", 0x8086: "intel"}

func openCLInfo(id string, d *cl.Device, memory int64) Info {
	kind := Accelerator
	switch {
	case d.Type&cl.DEVICE_TYPE_GPU != 0:
		kind = GPU
	case d.Type&cl.DEVICE_TYPE_CPU != 0:
		kind = CPU
	}
	vendor := ""
	if kind == GPU { // PoCL makes up a vendor's number for each processor
		vendor = vendors[d.VendorID]
	}
	return Info{
		ID: id, Kind: kind, Backend: BackendOpenCL,
		Name: d.Name, Driver: d.Platform.Name + " " + d.DriverVersion, Vendor: vendor, PCI: d.PCI, UUID: d.UUID,
		Units: d.ComputeUnits, Memory: d.GlobalMem, MaxAlloc: d.MaxAlloc, Budget: budget(d.GlobalMem, memory),
		Float32: support(d.SingleFP), Float64: support(d.DoubleFP),
	}
}

// support returns how far arithmetic with these abilities keeps to IEEE 754.
func support(c cl.FPConfig) Support {
	switch {
	case c == 0:
		return None
	case c.HasFMA() && c.HasDenorms() && c.InfNaN() && c.RoundToNearest():
		return Exact
	}
	return Inexact
}

// openCLDevice is one OpenCL device. It opens a context when the first job
// begins, which takes some drivers long.
type openCLDevice struct {
	info   Info
	device *cl.Device
	ledger *cl.Ledger

	mu      sync.Mutex
	context *openCLContext // nil before the first job, and after a failure

	opened atomic.Bool // a product has begun: its kernels are compiled and cached

	// fault, if a test has set it, makes the driver fail: see cl.Context.SetFault.
	fault func(op string) cl.Code

	// lanes, if a test has set it, are those of the vectors of the Mandelbrot kernel,
	// 1 for the kernel for GPUs.
	lanes int

	// begins counts the Begin calls whose caller may have gone.
	begins sync.WaitGroup
	speeds map[kernels.DType]*speedometer // of Mandelbrot steps

	products map[kernels.DType]*speedometer  // of the steps of matrix products
	matMul   map[kernels.DType]opencl.MatMul // how they are launched: see launch
	loaded   map[string]float64              // what the cache had of the speeds; nil if it was not asked
}

func newOpenCLDevice(info Info, d *cl.Device) *openCLDevice {
	speeds := func() map[kernels.DType]*speedometer {
		return map[kernels.DType]*speedometer{
			kernels.Float32: newSpeedometer(info.Kind, d.ComputeUnits, d.MaxClock, kernels.Float32),
			kernels.Float64: newSpeedometer(info.Kind, d.ComputeUnits, d.MaxClock, kernels.Float64),
		}
	}
	return &openCLDevice{
		info: info, device: d, ledger: cl.NewLedger(info.Budget), speeds: speeds(), products: speeds(),
		matMul: map[kernels.DType]opencl.MatMul{},
	}
}

// openCLSlots lets one tile compute while the result of another is copied.
const openCLSlots = 2

func (d *openCLDevice) Info() Info       { return d.info }
func (d *openCLDevice) ID() string       { return d.info.ID }
func (d *openCLDevice) Slots() int       { return openCLSlots }
func (d *openCLDevice) PeakBytes() int64 { return d.ledger.Peak() }

// Begin can take seconds, for a driver's compiler cannot be interrupted; where
// ctx is done first, the compilation ends behind the caller's back and its
// program is there for the next job.
func (d *openCLDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type outcome struct {
		runner kernels.Runner
		err    error
	}
	begun := make(chan outcome, 1)
	d.begins.Go(func() {
		r, err := d.newRunner(job)
		begun <- outcome{r, err}
	})
	select {
	case o := <-begun:
		if o.err != nil {
			return nil, o.err
		}
		return o.runner, nil
	case <-ctx.Done():
		d.begins.Go(func() {
			if o := <-begun; o.err == nil {
				o.runner.Close()
			}
		})
		return nil, ctx.Err()
	}
}

func (d *openCLDevice) newRunner(job kernels.Job) (kernels.Runner, error) {
	if d.info.Support(job.DType()) != None {
		switch job := job.(type) {
		case *kernels.Mandelbrot:
			return newOpenCLMandelbrot(d, job)
		case *kernels.MatMul[float32]:
			return newOpenCLMatMul(d, job)
		case *kernels.MatMul[float64]:
			return newOpenCLMatMul(d, job)
		case *kernels.Custom:
			return newOpenCLCustom(d, job)
		}
	}
	return nil, unsupported(job)
}

func (d *openCLDevice) Close() error {
	d.begins.Wait()
	if d.loaded != nil {
		storeRates(d.ratesName(), d.loaded, d.measurables())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.context != nil {
		d.context.release()
		d.context = nil
	}
	return nil
}

// acquire returns the device's context, which the caller releases.
func (d *openCLDevice) acquire() (*openCLContext, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.context == nil {
		c, err := d.device.CreateContext(d.ledger)
		if err != nil {
			return nil, err
		}
		c.SetFault(d.fault)
		d.context = &openCLContext{Context: c, users: 1, programs: map[opencl.Program]*cl.Program{}}
	}
	d.context.retain()
	return d.context, nil
}

// abandon makes the next acquire create a context, if c is the current one:
// after a failure some drivers refuse everything in the context that it
// happened in.
func (d *openCLDevice) abandon(c *openCLContext) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.context == c {
		d.context = nil
		c.release()
	}
}

// openCLContext is a context with the programs built in it, shared by the
// device and its runners.
type openCLContext struct {
	*cl.Context

	mu       sync.Mutex
	users    int
	programs map[opencl.Program]*cl.Program
}

func (c *openCLContext) retain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users++
}

func (c *openCLContext) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users > 0 {
		return
	}
	for _, p := range c.programs {
		p.Release()
	}
	c.Context.Release()
}

// program returns p built: from this context, from the cache, or from source.
func (c *openCLContext) program(p opencl.Program) (*cl.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if built := c.programs[p]; built != nil {
		return built, nil
	}
	d := c.Device()
	name := cacheName(p.Source, p.Options, d.Name, d.Vendor, d.Version, d.DriverVersion, d.Platform.Name, d.Platform.Version)
	if binary := cacheLoad(name); binary != nil {
		if built, err := c.CreateProgramWithBinary(binary, p.Options); err == nil {
			c.programs[p] = built
			return built, nil
		}
	}
	built, err := c.CreateProgramWithSource(p.Source, p.Options)
	if err != nil {
		return nil, err
	}
	if binary, err := built.Binary(); err == nil {
		cacheStore(name, binary) // or it is built again next time
	}
	c.programs[p] = built
	return built, nil
}

// kernel returns a kernel of p, which the caller releases.
func (c *openCLContext) kernel(p opencl.Program) (*cl.Kernel, error) {
	built, err := c.program(p)
	if err != nil {
		return nil, err
	}
	return built.CreateKernel(p.Entry)
}
