package gpurun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/metrics"
	"github.com/gpurun/gpurun/kernels"
)

// Config says what an Engine may use. The zero value, like a nil *Config,
// stands for the defaults.
type Config struct {
	// Devices chooses the devices: "auto" (all GPUs, or else the CPU), "all"
	// (GPUs and CPU together), "cpu", "gpu", "opencl" (any OpenCL device), ids as
	// Engine.Devices reports them, or "none" to leave the work to hosts. Several
	// entries are a union. Default "auto".
	Devices []string

	// Hosts are machines that run "gpurun worker", as host:port or unix:/path.
	// They work on every image beside the devices of this machine, and on every matrix
	// product that is large enough: see Engine.Gemm64. A host that goes comes back into
	// the job when it can be reached again.
	Hosts []string

	// Listen is an address, host:port or unix:/path, at which workers may join by
	// themselves ("gpurun worker --join"), also while a job runs. Empty if none
	// may.
	Listen string

	// Join is where the process of rank 0 listens, host:port, for those that a launcher starts
	// which does not bring them together: see Launched. Rank 0 has Listen, which may be :port,
	// and all have the same key or certificates.
	Join string

	// Launch is what Launched returned, for Open in the process of rank 0, and for OpenWorker
	// in the others. Then the engine is joined by those processes, at Listen or any other port
	// of its process. Without a key or certificates they use a key that they share for this one
	// run. It can be used once.
	//
	// Then Devices are those of this process alone: of the OpenCL devices that it names, those
	// that the process was given, or its part of what those on this machine have together,
	// and none that another launched process of this user has. Where none of them is left "auto" is the
	// CPU, and others are an error that matches ErrDevice. "none" has rank 0 leave the
	// computing to the others: with that alone they have "auto".
	Launch *Launch

	// KeyFile is the file of the key that the hosts have too: see "gpurun
	// keygen". Without it, and without certificates, only hosts on this machine
	// can be used.
	KeyFile string

	// TLSCert, TLSKey and TLSCA are files of the operator's own certificates, all
	// three or none, which take the place of KeyFile: this side's certificate, with
	// those between it and the authority; its private key, to which only its owner
	// may have access; and the authorities that are trusted. They are PEM, and are
	// read once.
	//
	// A certificate needs the extended key usage serverAuth to listen and clientAuth
	// to dial, unless it lists none. One that listens has the name or IP address that
	// others dial among its subject alternative names; for a unix socket that is
	// localhost. It is refused before and after its time; revocation lists are not
	// read.
	//
	// Whoever has a certificate of these authorities may be a host or a coordinator:
	// it is the authority that says who belongs to the cluster, and no list of
	// names does beside it. So it should sign for nothing else.
	TLSCert, TLSKey, TLSCA string

	// SharedFiles says that the hosts have the files that MatMulFiles reads, by the same
	// absolute paths: on a file system that they share. Then they read the matrices
	// there, and nothing of them is sent. A host that has no such file, or one of another
	// size, time or other samples, takes no part.
	SharedFiles bool

	// Wait is how long a job waits for a host when no device is left, or none is there
	// yet. Without it Open fails if it reaches none of Hosts, unless workers may join.
	Wait time.Duration

	// Memory caps the bytes that are allocated on each device that has memory
	// of its own. The default, and the upper limit, is 80 % of that memory. It also
	// bounds the bands of MandelbrotBands, and what the CPU takes for MatMulFiles and for
	// kernels whose arrays are not in memory.
	Memory int64

	// Verify is the part of each result of a device that is computed again by the
	// CPU of this process, and compared bit for bit: from 0, the default, to 1. So
	// a single wrong element of a tile, wherever it is, is found with that probability,
	// and a device that gets n tiles wrong with 1 − (1 − Verify)ⁿ at least. Of matrix
	// products the whole is looked at too, by Freivalds' check: elements that are off
	// by more than rounding explains are found wherever they are.
	//
	// A device that is found is set aside until the image or the product is done, also
	// if its host goes and comes again, and all that it has computed for it is computed
	// again by others. Of MandelbrotBands that is the band in which it is found: those
	// before it, which were looked at as closely, have been handed over and stay as they
	// are. Mandelbrot has one band.
	//
	// It takes that part of the time that the CPU alone would need, and of products
	// the time to read the operands of each tile once more. Matrix products that the
	// CPU of this process computes are jobs then, too. Kernels of users need a function in Go
	// for it, and are compared by their Tolerance.
	Verify float64

	// Tiles is the fixed number of equal tiles to cut every job into; a band of an
	// image gets its part of them. 0 lets the queue cut by cost and measured rates,
	// which is faster.
	Tiles int

	// State is a folder in which Mandelbrot, MandelbrotBands, MatMulFiles, and Run where all
	// arrays are in files, keep their results while they compute them, so that when this process dies another one can
	// go on: the same call with the same State computes what is missing, on whatever
	// devices and hosts, and the bits are those of a run that was never interrupted. At
	// most what was computed in the last second before is computed again, and the tiles
	// that were. Empty keeps nothing. A folder is for one job at a time; it takes as
	// much room as the result, which is set aside at once where the system can do that, and
	// twice as much when a kernel has several. A kernel's function in Go has to be registered.
	//
	// The result of an image stays in it until FinishState is called, which whoever asked
	// for it does when it is safe elsewhere; others are finished by themselves.
	State string

	// Trace keeps when each tile was computed where, for Report.WriteTrace: some hundred
	// bytes for each tile.
	Trace bool

	// AllowKernels has a Worker run the kernels of users that coordinators send: OpenCL C, which is
	// code that may do anything that the worker's process may. It takes a KeyFile, certificates or a
	// Launch, which say whose coordinators those are. Each kernel runs in a process of its own, which
	// KernelCommand starts and which then calls ServeKernels, with two more arguments that it hands on;
	// for the command gpurun that is "gpurun serve-kernel". What the kernel breaks there is not
	// the worker; it waits up to ten seconds for the next run of the same source, of any coordinator. It is
	// ended when it takes more than 4 GiB of memory, or 1 GiB more than
	// Memory if that is less, or does not come on for KernelTime, a minute if that is 0.
	AllowKernels  bool
	KernelCommand []string
	KernelTime    time.Duration

	// Progress, if not nil, is called with the done part of the job, from 0 to
	// 1, never by two goroutines at once. It must not start another job, nor
	// close the engine: both wait for the job that calls it. Matrix products that
	// the CPU computes in place do not call it.
	Progress func(done float64)

	// Log, if not nil, is told of hosts that come, go or are turned away, of tiles that
	// fail, of devices that are set aside, and at debug level of jobs. Of records with the
	// same message 10 pass at once, and then one a second.
	Log *slog.Logger

	// Metrics is an address, host:port or :port, at which Prometheus finds metrics, at
	// /metrics, and /healthz answers 200, or 503 while a worker drains. It is plain HTTP,
	// and anybody who reaches the address may ask. Empty for none.
	Metrics string
}

// check returns an error if c asks an engine for what makes no sense.
func (c *Config) check() error {
	if c.Tiles < 0 {
		return fmt.Errorf("gpurun: Config.Tiles is %d: it must be 0 for automatic tiles, or how many", c.Tiles)
	}
	if c.Memory < 0 {
		return fmt.Errorf("gpurun: Config.Memory is %d: it must be 0 for the default, or the bytes to use", c.Memory)
	}
	if c.KernelTime < 0 {
		return fmt.Errorf("gpurun: Config.KernelTime is %v: it must be 0 for the default, or how long", c.KernelTime)
	}
	if !(c.Verify >= 0 && c.Verify <= 1) {
		return fmt.Errorf("gpurun: Config.Verify is %g: it must be a part of each result, from 0 to 1", c.Verify)
	}
	return nil
}

// Device describes a device of an Engine.
type Device = device.Info

// Engine owns devices and runs jobs on them. Its methods are safe for
// concurrent use. Jobs run one after the other, each on all devices; but matrix
// products that the CPU computes in the caller's memory wait for nobody and run
// beside each other and beside a job. See Gemm64.
type Engine struct {
	config  Config
	devices []device.Device

	// spare is a CPU device that is always there: it samples costs, multiplies
	// matrices, and stands in where "auto" found GPUs that lack a job's element
	// type.
	spare device.Multiplier

	cluster *cluster // nil without hosts

	job    chan struct{} // holds one token while no job runs
	closed chan struct{}

	// products counts the matrix products that run; it grows only under mu, and
	// not any more once the engine is closed.
	products sync.WaitGroup

	rates kernelRates

	mu     sync.Mutex
	report *Report  // of the last job that has ended
	done   bool     // that job has not failed
	live   *liveJob // nil while none runs

	log     *slog.Logger
	metrics *metrics.Coordinator
	server  *metrics.Server // nil unless metrics are served
}

// Open finds the devices that config names and returns an engine of them. A nil
// config stands for the defaults. The error matches ErrDevice if a named device
// is not there.
func Open(ctx context.Context, config *Config) (e *Engine, err error) {
	if config == nil {
		config = &Config{}
	}
	if config.Launch != nil {
		if err := config.Launch.use(true); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				config.Launch.release()
				config.Launch.fail()
			}
		}()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	log := quiet(config.Log)
	devices, err := openDevices(config, log)
	if err != nil {
		return nil, fmt.Errorf("gpurun: open devices: %w", err)
	}
	spare, err := device.OpenCPU(config.Memory)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gpurun: open the CPU: %w", err), closeAll(devices))
	}
	e = &Engine{
		config:  *config,
		devices: devices,
		spare:   spare,
		job:     make(chan struct{}, 1),
		closed:  make(chan struct{}),
		log:     log,
	}
	e.metrics = metrics.NewCoordinator(e.liveHosts, e.liveDone)
	e.config.Devices = slices.Clone(config.Devices)
	if len(config.Hosts) > 0 || config.Listen != "" || config.Launch != nil {
		if e.cluster, err = openCluster(ctx, config, e.log); err != nil {
			return nil, errors.Join(err, closeAll(append(devices, spare)))
		}
	}
	e.server, err = metrics.Listen(ctx, config.Metrics, e.log, func() bool { return true }, e.metrics)
	if err != nil {
		if e.cluster != nil {
			e.cluster.close(false)
		}
		return nil, errors.Join(fmt.Errorf("gpurun: %w", err), closeAll(append(devices, spare)))
	}
	e.job <- struct{}{}
	return e, nil
}

// AllDevices describes every device that this machine has, chosen or not, and
// opens none. A driver that is there but fails is an error beside the devices
// that were found.
func AllDevices() ([]Device, error) { return device.List() }

// Devices describes the devices of e: those of this machine, and then those of
// the hosts that are there, with the host's address before their ids.
func (e *Engine) Devices() []Device {
	infos := make([]Device, len(e.devices))
	for i, d := range e.devices {
		infos[i] = d.Info()
	}
	if e.cluster != nil {
		infos = append(infos, e.cluster.infos()...)
	}
	return infos
}

// MissingHosts says of each host that is not there now why it is not.
func (e *Engine) MissingHosts() []error {
	if e.cluster == nil {
		return nil
	}
	return e.cluster.notes()
}

// Report describes the last job that has ended, whether or not it succeeded,
// or nil before the first. Products through BLAS leave none. The caller must not
// change it.
func (e *Engine) Report() *Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.report
}

// Close waits for what is running and releases the devices. Further jobs fail
// with ErrClosed. Close may be called more than once, but not from
// Config.Progress.
func (e *Engine) Close() error {
	<-e.job
	defer func() { e.job <- struct{}{} }()
	if !e.shut() {
		return nil
	}
	e.products.Wait()
	if e.cluster != nil {
		e.cluster.close(e.finished())
	}
	e.server.Close()
	defer e.config.Launch.release()
	return closeAll(append(e.devices, e.spare))
}

// finished reports whether the last job has ended well, as none has if there was none.
func (e *Engine) finished() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.done
}

// shut lets nothing begin any more. It returns false if that was so already.
func (e *Engine) shut() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.closed:
		return false
	default:
		close(e.closed)
		return true
	}
}

func closeAll(devices []device.Device) error {
	var errs []error
	for _, d := range devices {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// begin waits until no job runs. The caller calls end when its job is done.
func (e *Engine) begin(ctx context.Context) (end func(), err error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-e.job:
	}
	end = func() {
		e.setLive(nil)
		e.job <- struct{}{}
	}
	if err := ctx.Err(); err != nil {
		end()
		return nil, err
	}
	select {
	case <-e.closed:
		end()
		return nil, ErrClosed
	default:
		e.setLive(&liveJob{start: time.Now()})
		return end, nil
	}
}

// beginProduct counts one more product, where the engine is open. The caller
// calls end when it is done.
func (e *Engine) beginProduct(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.closed:
		return nil, ErrClosed
	default:
		e.products.Add(1)
		return e.products.Done, nil
	}
}

// devicesFor returns the devices that compute in t. Inexact ones take part only
// where they were named by id.
func (e *Engine) devicesFor(t kernels.DType) ([]device.Device, error) {
	var fit []device.Device
	for _, d := range e.devices {
		info := d.Info()
		switch info.Support(t) {
		case device.Exact:
			fit = append(fit, d)
		case device.Inexact:
			if slices.Contains(e.config.Devices, info.ID) {
				fit = append(fit, d)
			}
		}
	}
	switch {
	case len(fit) > 0 || e.cluster != nil:
		return fit, nil
	case len(e.devices) == 0:
		return nil, fmt.Errorf("gpurun: no device was chosen: choose one, or name hosts: %w", ErrDevice)
	case len(e.config.Devices) == 0 || slices.Contains(e.config.Devices, "auto"):
		return []device.Device{e.spare}, nil
	}
	return nil, fmt.Errorf("gpurun: none of the chosen devices computes %v exactly: choose another precision, or add the device cpu: %w", t, ErrDevice)
}

// leavesChoice reports whether the devices were left to the engine.
func (e *Engine) leavesChoice() bool {
	for _, choice := range e.config.Devices {
		if choice != "auto" && choice != "all" {
			return false
		}
	}
	return true
}

// keep makes r the report of the last job, which has ended with err, and counts it.
func (e *Engine) keep(r *Report, err error) {
	e.metrics.Job(r.Job, err == nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report, e.done = r, err == nil
}

// run computes job on devices, and on hosts if they are to work on it and it can travel.
func (e *Engine) run(ctx context.Context, job kernels.Job, devices []device.Device, hosts bool, sink dist.Sink, opts dist.Options) (*Report, error) {
	pullers := make([]dist.Device, len(devices))
	for i, d := range devices {
		pullers[i] = d
	}
	if opts.Tiles == 0 {
		opts.Tiles = e.config.Tiles
	}
	if opts.Progress == nil {
		opts.Progress = e.config.Progress
	}
	opts.Spans = e.config.Trace
	infos := make([]Device, len(devices))
	for i, d := range devices {
		infos[i] = d.Info()
	}
	travels := hosts && e.cluster != nil && dist.Travels(job)
	if travels {
		remote, join, end := e.cluster.begin()
		defer end()
		pullers = append(pullers, remote...)
		opts.Join, opts.Wait, opts.Absent = join, e.config.Wait, e.cluster.notes
		infos = append(infos, e.cluster.infos()...) // of hosts that may go
	}
	if e.config.Verify > 0 {
		v, err := newVerifier(ctx, job, e.config.Verify)
		if err != nil {
			return newReport(job, &dist.Report{}, devices, infos), fmt.Errorf("gpurun: verify results: %w", err)
		}
		defer v.close()
		opts.Verify = v.check
	}
	observed := e.observe(job, devices, infos, &opts)
	r, err := dist.Run(ctx, job, pullers, sink, opts)
	observed(r, err)
	if travels {
		infos = append(infos, e.cluster.infos()...) // and of those that came
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("gpurun: %w", err)
	}
	return newReport(job, r, devices, infos), err
}
