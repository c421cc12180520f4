package launch

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GPU is an OpenCL device that a process sees.
type GPU struct {
	Driver string // those of one driver, and of one kind, are numbered in their order, from 0
	ID     string // the same in every process that sees as many devices, and of no other device
	Vendor string // "nvidia", "amd", "intel", or empty for others
	PCI    string // "0000:3b:00.0", or empty
	UUID   string // in the form of RFC 9562, or empty
	Wanted bool   // the others count where devices are numbered, and are not shared out
}

// Part is devices of which a process is to use the first Most that nobody else has.
type Part struct {
	GPUs []int // by their indices
	Most int
}

// GPUs is which devices a process is to use, of those that it sees.
type GPUs struct {
	Parts []Part
	Names []string       // of the devices, by which all processes of a machine know them
	Left  map[int]string // why wanted ones are not in Parts
}

// variable is an environment variable that lists the GPUs that a process may use. hides
// says that an empty one hides all, where others then are as good as not there.
type variable struct {
	name  string
	hides bool
}

// variables are those that speak of a vendor's GPUs, in the order in which each takes from
// what the one before has left. Launchers set them, and so do the scripts that people put
// between a launcher and a program. Sources: "CUDA C++ Programming Guide", environment
// variables; ROCm's documentation, "GPU isolation techniques"; "oneAPI Level Zero
// Specification", affinity mask; gres.conf(5) for what Slurm sets.
var variables = map[string][]variable{
	"nvidia": {{"CUDA_VISIBLE_DEVICES", true}},
	"amd":    {{"ROCR_VISIBLE_DEVICES", true}, {"GPU_DEVICE_ORDINAL", false}, {"HIP_VISIBLE_DEVICES", false}},
	"intel":  {{"ZE_AFFINITY_MASK", false}},
}

// ShareGPUs returns which of gpus are for the process of localRank, from 0 to localSize−1,
// among those of one command on this machine. lookup is os.LookupEnv.
//
// Those that a variable of their vendor lists were given to it, and all where none is set.
// What was given to each process alone it has to itself; what was given to all of them
// alike is shared out in blocks by local rank, so that each device is for one process.
//
// From its own environment a process can tell those cases apart where Slurm says how many
// GPUs all have together, and where the list has one entry. Longer lists are taken for the
// same one.
func ShareGPUs(lookup func(string) (string, bool), localRank, localSize int, gpus []GPU) GPUs {
	s := sharing{lookup: lookup, rank: localRank, size: localSize, gpus: gpus}
	s.out = GPUs{Names: names(gpus), Left: map[int]string{}}
	for _, members := range drivers(gpus) {
		s.add(members)
	}
	s.divide()
	return s.out
}

type sharing struct {
	lookup     func(string) (string, bool)
	rank, size int
	gpus       []GPU
	pool       []int // what was given to all processes alike
	out        GPUs
}

// drivers returns the devices by their drivers and vendors, by which they are numbered.
func drivers(gpus []GPU) [][]int {
	at := map[[2]string]int{}
	var all [][]int
	for i, g := range gpus {
		key := [2]string{g.Driver, g.Vendor}
		if _, ok := at[key]; !ok {
			at[key] = len(all)
			all = append(all, nil)
		}
		all[at[key]] = append(all[at[key]], i)
	}
	return all
}

// names tells devices apart by what stays the same however they are numbered. A UUID that
// a driver gives to several is none; the parts of a divided card have one each, and the
// card's address.
func names(gpus []GPU) []string {
	count := map[[2]string]int{}
	for _, g := range gpus {
		count[[2]string{g.Driver, g.UUID}]++
		count[[2]string{g.Driver, g.PCI}]++
	}
	all := make([]string, len(gpus))
	for i, g := range gpus {
		switch {
		case g.UUID != "" && count[[2]string{g.Driver, g.UUID}] == 1:
			all[i] = "uuid-" + g.UUID
		case g.PCI != "" && count[[2]string{g.Driver, g.PCI}] == 1:
			all[i] = "pci-" + g.PCI
		default:
			all[i] = g.Driver + "-" + g.ID
		}
	}
	return all
}

// add takes in the devices of one driver and vendor.
func (s *sharing) add(members []int) {
	given, listed := members, -1
	for _, v := range s.set(s.gpus[members[0]].Vendor) {
		text, _ := s.lookup(v.name)
		list := entries(text)
		s.nameParts(given, list)
		given = narrow(given, s.gpus, list)
		if listed < 0 || len(list) < listed {
			listed = len(list)
		}
		for _, i := range members {
			if !slices.Contains(given, i) && s.out.Left[i] == "" && s.gpus[i].Wanted {
				s.out.Left[i] = fmt.Sprintf("%s=%s leaves it out", v.name, text)
			}
		}
	}
	given = slices.DeleteFunc(slices.Clone(given), func(i int) bool { return !s.gpus[i].Wanted || s.again(i) })
	if most, alone := s.alone(listed, len(given)); alone {
		s.keep(given, most)
	} else {
		s.pool = append(s.pool, given...)
	}
}

// again tells whether another driver has offered device i before. One process with both
// would use the card twice.
func (s *sharing) again(i int) bool {
	for j, g := range s.gpus[:i] {
		same := s.out.Names[j] == s.out.Names[i] || g.PCI != "" && g.PCI == s.gpus[i].PCI
		if same && g.Wanted && g.Driver != s.gpus[i].Driver {
			s.out.Left[i] = "it is " + g.ID
			return true
		}
	}
	return false
}

// set returns the variables that speak of the devices of vendor: where it has none of its
// own, the first that is set.
func (s *sharing) set(vendor string) []variable {
	isSet := func(v variable) bool {
		text, ok := s.lookup(v.name)
		return ok && (v.hides || text != "")
	}
	own, known := variables[vendor]
	if !known {
		own = slices.Concat(variables["nvidia"], variables["amd"], variables["intel"])
	}
	all := slices.DeleteFunc(slices.Clone(own), func(v variable) bool { return !isSet(v) })
	if !known && len(all) > 1 {
		all = all[:1]
	}
	return all
}

// entries returns what a list has before the first entry that is none, such as -1 or
// NoDevFiles, where CUDA ends it too. Of an entry such as 1.0, a part of a card, it has the
// card, once.
func entries(text string) []string {
	var all []string
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if !strings.HasPrefix(entry, "GPU-") && !strings.HasPrefix(entry, mig) {
			card, _, _ := strings.Cut(entry, ".")
			n, err := strconv.ParseUint(card, 10, 16)
			if err != nil {
				break
			}
			entry = strconv.FormatUint(n, 10)
		}
		if !slices.Contains(all, entry) {
			all = append(all, entry)
		}
	}
	return all
}

// mig begins the name of a part of a card (NVIDIA's Multi-Instance GPU).
const mig = "MIG-"

// nameParts names parts of cards as the list does: a driver may tell the card's UUID
// for each of them.
func (s *sharing) nameParts(members []int, list []string) {
	if len(members) > len(list) {
		return
	}
	for n, i := range members {
		if strings.HasPrefix(list[n], mig) {
			s.out.Names[i] = list[n]
		}
	}
}

// narrow returns those of members that list has. Where there are no more than it has
// entries, that is all: a driver that goes by the variable itself has left out the others
// and numbers these from 0, and so do a container and Slurm's ConstrainDevices. So nobody
// has to know which drivers do.
func narrow(members []int, gpus []GPU, list []string) []int {
	if len(members) <= len(list) {
		return members
	}
	var given []int
	for n, i := range members {
		if slices.ContainsFunc(list, func(entry string) bool { return means(entry, n, gpus[i].UUID) }) {
			given = append(given, i)
		}
	}
	return given
}

// means tells whether an entry is device n, which has uuid. Of a UUID an entry may have
// only the beginning.
func means(entry string, n int, uuid string) bool {
	begin, ok := strings.CutPrefix(entry, "GPU-")
	if !ok {
		return entry == strconv.Itoa(n)
	}
	plain := func(text string) string { return strings.ToLower(strings.ReplaceAll(text, "-", "")) }
	return plain(begin) != "" && strings.HasPrefix(plain(uuid), plain(begin))
}

// alone tells whether devices are this process's own, by how many its list has, or −1
// where it has none, and how many of those it may take.
func (s *sharing) alone(listed, given int) (most int, alone bool) {
	text, _ := s.lookup("SLURM_GPUS_ON_NODE")
	onNode, _ := strconv.Atoi(text)
	switch {
	case s.size == 1, listed == 0, onNode <= 0 && listed == 1:
		return given, true
	case listed < 0, onNode <= 0, listed >= onNode:
		return 0, false
	case listed*s.size <= onNode:
		return given, true
	}
	return max(1, onNode/s.size), true // lists overlap, as with --gpu-bind=closest
}

// keep takes at most most of devices. Processes with the same list begin at different ones.
func (s *sharing) keep(devices []int, most int) {
	if len(devices) == 0 {
		return
	}
	s.sort(devices)
	most = min(most, len(devices))
	first := 0
	if most < len(devices) {
		first = s.rank * most % len(devices)
	}
	s.out.Parts = append(s.out.Parts, Part{GPUs: slices.Concat(devices[first:], devices[:first]), Most: most})
}

// sort brings devices into an order that is the same in all processes.
func (s *sharing) sort(devices []int) {
	slices.SortFunc(devices, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.gpus[a].PCI, s.gpus[b].PCI), cmp.Compare(s.out.Names[a], s.out.Names[b]))
	})
}

// divide takes this process's share of the pool: neighbours, if it is several, as the
// processors are that a launcher binds a process to.
func (s *sharing) divide() {
	s.sort(s.pool)
	var mine []int
	for n, i := range s.pool {
		if owner := n * s.size / len(s.pool); owner == s.rank {
			mine = append(mine, i)
		} else {
			s.out.Left[i] = fmt.Sprintf("it is for the process of local rank %d", owner)
		}
	}
	if len(mine) > 0 {
		s.out.Parts = append(s.out.Parts, Part{GPUs: mine, Most: len(mine)})
	}
}
