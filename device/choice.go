package device

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The words that choose devices, besides ids.
const (
	choiceAuto   = "auto"
	choiceAll    = "all"
	choiceCPU    = "cpu"
	choiceGPU    = "gpu"
	choiceOpenCL = "opencl"
	choiceNone   = "none"
)

// ErrName is matched by the error about a word that names no kind of device
// and is no id.
var ErrName = errors.New("unknown device name")

// candidate is a device that could be opened.
type candidate struct {
	info Info
	open func() (Device, error)
}

// List describes every device of this machine: the CPU first, then those of
// each OpenCL platform. An OpenCL driver that fails is an error beside the
// devices that were found; a machine without OpenCL is none.
func List() ([]Info, error) {
	candidates, err := discover(0, true)
	infos := describe(candidates)
	if errors.Is(err, errNoOpenCL) {
		err = nil
	}
	return infos, err
}

// Open opens the devices that choices name, each once: "auto" (all exact GPUs,
// or else the CPU), "all" (those and the CPU), "cpu", "gpu", "opencl" (every
// OpenCL device), ids, or "none" to leave the work to others. No choice stands for "auto". memory caps the budget
// of each device if it is positive. A driver that fails is as good as none,
// unless GPURUN_OPENCL_LIB names its library.
//
// The error matches ErrName if a choice is not a word or an id, and ErrChoice
// if what it names is not there. The caller closes the devices.
func Open(choices []string, memory int64) ([]Device, error) {
	return OpenSome(choices, memory, func(_ []Info, chosen []string) ([]string, error) { return chosen, nil })
}

// OpenSome is Open for a process that leaves some devices to others: pick is told of all
// devices and of the ids of those that choices name, and returns the ids of those that are
// opened, of which any may be among all. Its error is that of OpenSome.
func OpenSome(choices []string, memory int64, pick func(all []Info, chosen []string) ([]string, error)) ([]Device, error) {
	if len(choices) == 0 {
		choices = []string{choiceAuto}
	}
	for _, choice := range choices {
		if err := checkName(choice); err != nil {
			return nil, err
		}
	}
	onlyCPU := !slices.ContainsFunc(choices, func(c string) bool { return c != choiceCPU && c != choiceNone })
	candidates, err := discover(memory, !onlyCPU)
	if errors.Is(err, errBrokenLibrary) {
		return nil, err // whoever names a library means it
	}
	var chosen []string
	for _, choice := range choices {
		if choice == choiceNone {
			continue
		}
		matches := choose(choice, candidates)
		if len(matches) == 0 {
			return nil, missing(choice, candidates, err)
		}
		for _, m := range matches {
			if !slices.Contains(chosen, m.info.ID) {
				chosen = append(chosen, m.info.ID)
			}
		}
	}
	picked, err := pick(describe(candidates), chosen)
	if err != nil {
		return nil, err
	}
	return openAll(picked, candidates)
}

func describe(candidates []candidate) []Info {
	infos := make([]Info, len(candidates))
	for i, c := range candidates {
		infos[i] = c.info
	}
	return infos
}

// openAll opens the candidates that have ids, in the order of those, or none.
func openAll(ids []string, candidates []candidate) ([]Device, error) {
	var devices []Device
	for _, id := range ids {
		d, err := openOne(id, candidates)
		if err != nil {
			for _, d := range devices {
				err = errors.Join(err, d.Close())
			}
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

func openOne(id string, candidates []candidate) (Device, error) {
	for _, c := range candidates {
		if c.info.ID == id {
			return c.open()
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrChoice, id)
}

// OpenCPU opens the CPU alone, which does not look for OpenCL.
func OpenCPU(memory int64) (Multiplier, error) { return newCPU(memory) }

// discover returns the CPU and, if openCL is set, every OpenCL device. The
// error is about OpenCL only, and matches errNoOpenCL where there is none.
func discover(memory int64, openCL bool) ([]candidate, error) {
	candidates := []candidate{{
		info: newCPUInfo(memory),
		open: func() (Device, error) { return newCPU(memory) },
	}}
	if !openCL {
		return candidates, nil
	}
	found, err := discoverOpenCL(memory)
	return append(candidates, found...), err
}

// choose returns the candidates that choice stands for. A card that two drivers
// offer is one GPU, the first; the second is there by its id.
func choose(choice string, candidates []candidate) []candidate {
	match := func(want func(Info) bool) []candidate {
		var m []candidate
		for _, c := range candidates {
			if want(c.info) {
				m = append(m, c)
			}
		}
		return m
	}
	var cards []string
	isGPU := func(i Info) bool {
		if i.Kind != GPU || i.Float32 != Exact && i.Float64 != Exact || i.PCI != "" && slices.Contains(cards, i.PCI) {
			return false
		}
		cards = append(cards, i.PCI)
		return true
	}
	isCPU := func(i Info) bool { return i.ID == choiceCPU }
	switch choice {
	case choiceAuto:
		if gpus := match(isGPU); len(gpus) > 0 {
			return gpus
		}
		return match(isCPU)
	case choiceAll:
		return match(func(i Info) bool { return isCPU(i) || isGPU(i) })
	case choiceGPU:
		return match(isGPU)
	case choiceOpenCL:
		return match(func(i Info) bool { return i.Backend == BackendOpenCL })
	}
	return match(func(i Info) bool { return i.ID == choice })
}

func checkName(choice string) error {
	switch choice {
	case choiceAuto, choiceAll, choiceCPU, choiceGPU, choiceOpenCL, choiceNone:
		return nil
	}
	var platform, device uint16
	if n, err := fmt.Sscanf(choice, "ocl:%d.%d", &platform, &device); err == nil && n == 2 && choice == openCLID(int(platform), int(device)) {
		return nil
	}
	return fmt.Errorf("%w %q: use auto, all, cpu, gpu, opencl, none, or an id that 'gpurun devices' lists", ErrName, choice)
}

// missing says why choice names nothing here, and what to do.
func missing(choice string, candidates []candidate, err error) error {
	what := "device " + choice + " is not there"
	hint := "see 'gpurun devices'"
	switch choice {
	case choiceGPU:
		what, hint = "no GPU was found", "install the GPU's OpenCL driver, or use --device cpu"
	case choiceOpenCL:
		what, hint = "no OpenCL device was found", "install an OpenCL driver, or use --device cpu"
	}
	looked := "looked at"
	for _, c := range candidates {
		looked += fmt.Sprintf(" %s (%s, %s),", c.info.ID, c.info.Kind, strings.TrimSpace(c.info.Name))
	}
	looked = strings.TrimSuffix(looked, ",")
	if err != nil {
		looked += "; OpenCL: " + err.Error()
	}
	return fmt.Errorf("%w: %s: %s; %s", ErrChoice, what, looked, hint)
}
