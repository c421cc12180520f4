package gpurun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/metrics"
)

// trust returns by what c wants hosts and coordinators to know each other, or
// nil if it does not say: then only this machine is trusted.
func (c *Config) trust() (*dist.Trust, error) {
	certificates := c.TLSCert != "" || c.TLSKey != "" || c.TLSCA != ""
	switch {
	case certificates && c.KeyFile != "":
		return nil, errors.New("gpurun: Config has both a KeyFile and certificates (TLSCert, TLSKey, TLSCA): leave out one of them")
	case certificates:
		return dist.TrustCertificates(c.TLSCert, c.TLSKey, c.TLSCA)
	case c.KeyFile == "" && c.Launch != nil:
		return c.Launch.trust()
	case c.KeyFile == "":
		return nil, nil
	}
	key, err := dist.ReadKeyFile(c.KeyFile)
	if err != nil {
		return nil, err
	}
	if c.Launch != nil {
		key = c.Launch.derive(key)
	}
	return dist.TrustKey(key)
}

// NewKey returns a new key, as the text of a key file.
func NewKey() string { return dist.NewKey().Reveal() }

// WriteKeyFile writes a new key to a file that only its owner can read. It
// replaces no file.
func WriteKeyFile(name string) error { return dist.WriteKeyFile(name, dist.NewKey()) }

// Worker computes tiles for engines of other machines, on devices of this one:
// for those that name it among their Hosts, or for one that it joins.
type Worker struct {
	host      *dist.Host
	devices   []device.Device
	sandboxes []*sandbox
	listener  net.Listener // nil if it joins
	launch    *Launch      // nil unless it is for JoinLaunch
	trust     *dist.Trust
	server    *metrics.Server // nil unless metrics are served
	log       *slog.Logger
}

// OpenWorker opens the devices that config names. It listens at config.Listen,
// host:port or unix:/path; if that is empty it is for Join, or, with config.Launch, for
// JoinLaunch. Without a key or
// certificates in config the address must be on this machine alone. log, if not
// nil, is told of coordinators that come, go, are turned away, or cannot be joined, and
// of tiles that fail; Config.Log says how often.
//
// The matrices of products lie in this machine's memory, of which config.Memory is the
// most that they take together, for all coordinators, and without it half. Of a product
// that needs more each device reads a part at a time, into at most its own budget; one
// with β ≠ 0 is refused, and left to others.
//
// Where a coordinator says that its files are shared, w opens files in NumPy's format by
// the paths that it names, and uses those of which it knows the size, the time and a hash.
func OpenWorker(ctx context.Context, config *Config, log *slog.Logger) (*Worker, error) {
	if config == nil {
		config = &Config{}
	}
	if config.Launch != nil {
		if err := config.Launch.use(false); err != nil {
			return nil, err
		}
		if err := config.Launch.meet(ctx); err != nil {
			return nil, err
		}
	}
	trust, err := config.trust()
	if err != nil {
		return nil, err
	}
	switch {
	case config.AllowKernels && trust == nil:
		return nil, errors.New("gpurun: kernels of others are run for those alone who have the key: set Config.KeyFile, or certificates (--key, or --tls-cert with the others), or leave Config.AllowKernels (--allow-kernels) out")
	case config.AllowKernels && len(config.KernelCommand) == 0:
		return nil, errors.New("gpurun: Config.AllowKernels without a KernelCommand: say how to start the process that runs a kernel")
	}
	w := &Worker{launch: config.Launch, trust: trust, log: quiet(log)}
	if config.Listen != "" && config.Launch == nil {
		if w.listener, err = listen(ctx, config.Listen, trust); err != nil {
			return nil, err
		}
	}
	devices, err := openDevices(config, w.log)
	if err != nil {
		if w.listener != nil {
			w.listener.Close()
		}
		return nil, fmt.Errorf("gpurun: open devices: %w", err)
	}
	pullers, infos := hosted(devices)
	runners, sandboxes := kernelRunners(config, devices, infos, w.log)
	w.sandboxes = sandboxes
	w.host, w.devices = dist.NewHost(machineName(), pullers, infos, w.log), devices
	w.host.LimitOperands(operandBytes(config.Memory))
	w.host.AllowKernels(runners)
	healthy := func() bool { return !w.host.Draining() }
	if w.server, err = metrics.Listen(ctx, config.Metrics, w.log, healthy, metrics.Worker(w.host.Stats)); err != nil {
		if w.listener != nil {
			w.listener.Close()
		}
		return nil, w.closed(fmt.Errorf("gpurun: %w", err))
	}
	return w, nil
}

// hosted returns devices as a host has them.
func hosted(devices []device.Device) (pullers []dist.Device, infos []dist.DeviceInfo) {
	for _, d := range devices {
		info := d.Info()
		pullers = append(pullers, d)
		infos = append(infos, dist.DeviceInfo{
			ID: info.ID, Kind: string(info.Kind), Name: info.Name, Driver: info.Driver,
			Units: info.Units, Memory: info.Memory, F32: string(info.Float32), F64: string(info.Float64),
		})
	}
	return pullers, infos
}

// operandBytes returns how much of this machine's memory a worker takes for the matrices
// of products: half of it, or what memory says if that is positive, up to 80 %.
func operandBytes(memory int64) int64 {
	total := float64(device.TotalMemory())
	if memory > 0 {
		return int64(min(float64(memory), 0.8*total))
	}
	return int64(0.5 * total)
}

// Addr returns the address at which w listens, or nil.
func (w *Worker) Addr() net.Addr {
	if w.listener == nil {
		return nil
	}
	return w.listener.Addr()
}

// Devices describes the devices of w.
func (w *Worker) Devices() []Device {
	infos := make([]Device, len(w.devices))
	for i, d := range w.devices {
		infos[i] = d.Info()
	}
	return infos
}

// Serve serves coordinators until ctx is done, or until Drain was called and
// they have let go. It closes the devices, so that w is of no more use.
func (w *Worker) Serve(ctx context.Context) error {
	if w.listener == nil {
		return w.closed(errors.New("gpurun: the worker does not listen anywhere: set Config.Listen, or use Join"))
	}
	return w.closed(w.host.Serve(ctx, w.listener, w.trust))
}

// Join serves the coordinator that listens at addr, host:port or unix:/path,
// and dials it again, at first after 250 ms and then every 2 s, whenever it is
// not there. Why it is not goes to the log, once.
//
// It returns when ctx is done, when Drain was called, and where no other attempt
// would do better: addr is no address, or not one to be used without a key, the
// coordinator does not trust it, or is another version of gpurun. It closes the
// devices, so that w is of no more use.
func (w *Worker) Join(ctx context.Context, addr string) error {
	said := ""
	for pause := firstRedial; ; pause = min(2*pause, lastRedial) {
		began := time.Now()
		err := w.host.Join(ctx, addr, w.trust)
		switch {
		case ctx.Err() != nil:
			return w.closed(ctx.Err())
		case w.host.Draining():
			return w.closed(nil)
		case forGood(err):
			return w.closed(err)
		case time.Since(began) > lastRedial:
			pause = firstRedial
		}
		switch {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			w.log.Warn("coordinator not joined; trying again", "addr", addr, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// forGood reports whether err, of joining, is one that stays.
func forGood(err error) bool {
	_, plain := errors.AsType[*dist.PlainError](err)
	_, address := errors.AsType[*net.AddrError](err)
	return plain || address || errors.Is(err, dist.ErrUntrusted) || errors.Is(err, dist.ErrVersion)
}

// closed closes the devices and returns err, or else the error of that.
func (w *Worker) closed(err error) error {
	w.server.Close()
	defer w.launch.release()
	for _, s := range w.sandboxes {
		_ = s.Close() // which is never an error
	}
	if closing := closeAll(w.devices); err == nil {
		err = closing
	}
	return err
}

// Drain makes w finish the tiles that it has, for at most 30 s, and take no more.
func (w *Worker) Drain() { w.host.Drain() }
