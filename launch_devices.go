package gpurun

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist/launch"
)

// openDevices opens the devices that config names; of a process that was launched, those
// that are its own.
func openDevices(config *Config, log *slog.Logger) ([]device.Device, error) {
	l := config.Launch
	if l == nil {
		return device.Open(config.Devices, config.Memory)
	}
	choices, rank, size := l.choices(config.Devices)
	auto := len(choices) == 0 || slices.Contains(choices, "auto")
	devices, err := device.OpenSome(choices, config.Memory, func(all []device.Info, chosen []string) ([]string, error) {
		gpus := openCLDevices(all, chosen)
		return l.pick(launch.ShareGPUs(os.LookupEnv, rank, size, gpus), gpus, chosen, auto, log)
	})
	if err != nil {
		l.release()
	}
	return devices, err
}

// choices returns which devices this process is to have where all were told devices, and
// its number among those of this machine that compute, and theirs.
func (l *Launch) choices(devices []string) (own []string, rank, size int) {
	switch {
	case l.Rank == 0 || !slices.Equal(devices, []string{"none"}):
		return devices, l.LocalRank, l.LocalSize
	case l.Rank > l.LocalRank: // local ranks go by ranks, so rank 0 is elsewhere
		return nil, l.LocalRank, l.LocalSize
	}
	return nil, l.LocalRank - 1, l.LocalSize - 1
}

// openCLDevices returns all devices but the CPU, which processes share by their threads.
func openCLDevices(all []device.Info, chosen []string) []launch.GPU {
	var gpus []launch.GPU
	for _, info := range all {
		driver, _, openCL := strings.Cut(info.ID, ".")
		if !openCL {
			continue
		}
		gpus = append(gpus, launch.GPU{
			Driver: driver + "-" + string(info.Kind), ID: info.ID, Vendor: info.Vendor, PCI: info.PCI, UUID: info.UUID,
			Wanted: slices.Contains(chosen, info.ID),
		})
	}
	return gpus
}

// pick returns which of the chosen devices this process opens, with their locks taken:
// where share leaves none, the CPU if auto is set, which stands for that.
func (l *Launch) pick(share launch.GPUs, gpus []launch.GPU, chosen []string, auto bool, log *slog.Logger) ([]string, error) {
	mine, left := l.take(share, gpus, log)
	picked := slices.DeleteFunc(slices.Clone(chosen), func(id string) bool {
		return slices.ContainsFunc(gpus, func(g launch.GPU) bool { return g.ID == id }) && !slices.Contains(mine, id)
	})
	switch {
	case len(left) == 0:
	case len(picked) == 0 && auto:
		picked = []string{"cpu"}
	case len(picked) == 0:
		return nil, fmt.Errorf("%w: no chosen device is left for this process, of local rank %d: %s; start as many processes on a machine as it has such devices, or use --device auto",
			device.ErrChoice, l.LocalRank, strings.Join(left, "; "))
	}
	log.Info("devices of this process", "devices", picked, "left", left)
	return picked, nil
}

// take takes the locks of this process's devices, and returns their ids, and why it leaves
// the others.
func (l *Launch) take(share launch.GPUs, gpus []launch.GPU, log *slog.Logger) (mine, left []string) {
	for i, why := range share.Left {
		left = append(left, gpus[i].ID+": "+why)
	}
	for _, part := range share.Parts {
		taken := 0
		for _, i := range part.GPUs {
			if taken == part.Most {
				left = append(left, gpus[i].ID+": it is one of those of others")
				continue
			}
			lock, holder, err := lockDevice(share.Names[i], l.process())
			switch {
			case err != nil: // the launcher's word has to do
				log.Warn("cannot keep other processes from using a device too", "device", gpus[i].ID, "err", err)
			case lock == nil:
				log.Warn("a device is left to the process that has it", "device", gpus[i].ID, "name", share.Names[i], "process", holder)
				left = append(left, gpus[i].ID+": "+holder+" has it")
				continue
			default:
				l.locks = append(l.locks, lock)
			}
			mine = append(mine, gpus[i].ID)
			taken++
		}
	}
	slices.Sort(left)
	return mine, left
}

// process is what others are told of this process.
func (l *Launch) process() string {
	return fmt.Sprintf("process %d of rank %d", os.Getpid(), l.Rank)
}

// release lets others have the devices. l may be nil.
func (l *Launch) release() {
	if l == nil {
		return
	}
	for _, lock := range l.locks {
		lock.Close()
	}
	l.locks = nil
}
