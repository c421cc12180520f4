package gpurun

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
)

// Trust is by what coordinators and hosts know each other.
type Trust = dist.Trust

// ReadTrust returns the trust of those who have the key in keyFile, or nil if
// that is empty: then only this machine is trusted.
func ReadTrust(keyFile string) (*Trust, error) {
	if keyFile == "" {
		return nil, nil
	}
	key, err := dist.ReadKeyFile(keyFile)
	if err != nil {
		return nil, err
	}
	return dist.TrustKey(key)
}

// NewKey returns a new key, as the text of a key file.
func NewKey() string { return dist.NewKey().Reveal() }

// WriteKeyFile writes a new key to a file that only its owner can read. It
// replaces no file.
func WriteKeyFile(name string) error { return dist.WriteKeyFile(name, dist.NewKey()) }

// Worker computes tiles for engines of other machines that name it among their
// Hosts, on devices of this one.
type Worker struct {
	host     *dist.Host
	devices  []device.Device
	listener net.Listener
	trust    *Trust
}

// OpenWorker opens the devices that config names and listens at addr, host:port
// or unix:/path. Without config.KeyFile addr must be on this machine alone. log,
// if not nil, is told of coordinators that come, go, or are turned away.
func OpenWorker(ctx context.Context, addr string, config *Config, log func(format string, args ...any)) (*Worker, error) {
	if config == nil {
		config = &Config{}
	}
	trust, err := ReadTrust(config.KeyFile)
	if err != nil {
		return nil, err
	}
	var l net.Listener
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		l, err = dist.ListenUnix(path)
	} else {
		if trust == nil {
			if resolved, err := net.ResolveTCPAddr("tcp", addr); err != nil {
				return nil, fmt.Errorf("gpurun: listen at %s: %w", addr, err)
			} else if err := dist.CheckPlain(resolved); err != nil {
				return nil, fmt.Errorf("gpurun: listen at %s: %w", addr, err)
			}
		}
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("gpurun: listen at %s: %w", addr, err)
	}
	devices, err := device.Open(config.Devices, config.Memory)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("gpurun: open devices: %w", err)
	}
	pullers := make([]dist.Device, len(devices))
	infos := make([]dist.DeviceInfo, len(devices))
	for i, d := range devices {
		info := d.Info()
		pullers[i] = d
		infos[i] = dist.DeviceInfo{
			ID: info.ID, Kind: string(info.Kind), Name: info.Name, Driver: info.Driver,
			Units: info.Units, Memory: info.Memory, F32: string(info.Float32), F64: string(info.Float64),
		}
	}
	return &Worker{host: dist.NewHost(machineName(), pullers, infos, log), devices: devices, listener: l, trust: trust}, nil
}

// Addr returns the address at which w listens.
func (w *Worker) Addr() net.Addr { return w.listener.Addr() }

// Devices describes the devices of w.
func (w *Worker) Devices() []Device {
	infos := make([]Device, len(w.devices))
	for i, d := range w.devices {
		infos[i] = d.Info()
	}
	return infos
}

// Serve serves coordinators until ctx is done, or until Drain was called and
// they have let go. It closes the devices.
func (w *Worker) Serve(ctx context.Context) error {
	err := w.host.Serve(ctx, w.listener, w.trust)
	if closing := closeAll(w.devices); err == nil {
		err = closing
	}
	return err
}

// Drain makes w finish the tiles that it has and take no more.
func (w *Worker) Drain() { w.host.Drain() }
