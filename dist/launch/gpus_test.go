package launch

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// environment returns what os.LookupEnv is, of "NAME=value" settings.
func environment(settings ...string) func(string) (string, bool) {
	all := map[string]string{}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		all[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := all[name]
		return value, ok
	}
}

// cards returns n devices of a vendor, of a driver of its own, with UUIDs that begin with
// their numbers.
func cards(vendor string, n int) []GPU {
	var all []GPU
	for i := range n {
		all = append(all, GPU{
			Driver: vendor + "-gpu", ID: fmt.Sprintf("%s:0.%d", vendor, i), Vendor: vendor,
			PCI: fmt.Sprintf("0000:%02x:00.0", 16+i), UUID: fmt.Sprintf("%d0000000-1111-2222-3333-444444444444", i), Wanted: true,
		})
	}
	return all
}

// processors returns n devices of which nothing is known, as PoCL's are.
func processors(n int) []GPU {
	var all []GPU
	for i := range n {
		all = append(all, GPU{Driver: "ocl:0-cpu", ID: fmt.Sprintf("ocl:0.%d", i), Wanted: true})
	}
	return all
}

// used returns the numbers of the devices that a process uses where nobody else does.
func used(share GPUs) string {
	var all []string
	for _, part := range share.Parts {
		for _, i := range part.GPUs[:part.Most] {
			all = append(all, fmt.Sprint(i))
		}
	}
	return strings.Join(all, " ")
}

// TestShareGPUs has for each process of a machine what its environment says, beside what
// is the same for all, and the devices that it uses. Where the driver goes by the variable
// a process sees those alone, numbered from 0.
func TestShareGPUs(t *testing.T) {
	const both, one = "SLURM_GPUS_ON_NODE=2", "SLURM_GPUS_ON_NODE=1"
	for _, test := range []struct {
		name  string
		all   string   // settings that are the same for all
		each  []string // settings of each process
		gpus  []GPU    // that each sees
		wants []string
	}{
		{"no variables", "", []string{"", ""}, cards("nvidia", 2), []string{"0", "1"}},
		{"no variables, one GPU", "", []string{"", "", ""}, cards("nvidia", 1), []string{"0", "", ""}},
		{"no variables, fewer GPUs", "", []string{"", "", "", ""}, cards("nvidia", 2), []string{"0", "", "1", ""}},
		{"no variables, more GPUs", "", []string{"", "", ""}, cards("nvidia", 8), []string{"0 1 2", "3 4 5", "6 7"}},
		{"no variables, no GPU", "", []string{"", ""}, nil, []string{"", ""}},
		{"by itself on its machine", "", []string{""}, cards("nvidia", 2), []string{"0 1"}},
		{"by itself, with a list", "", []string{"CUDA_VISIBLE_DEVICES=1,2"}, processors(4), []string{"1 2"}},
		{"two drivers", "", []string{"", ""}, append(cards("nvidia", 1), processors(1)...), []string{"1", "0"}},

		// srun --gpus-per-task=1: lists differ.
		{"a list each, obeyed", both, []string{"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"}, cards("nvidia", 1), []string{"0", "0"}},
		{"a list each, constrained", both, []string{"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=0"}, processors(1), []string{"0", "0"}},
		{"a list each, not obeyed", both, []string{"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"}, processors(2), []string{"0", "1"}},
		{"two each", "SLURM_GPUS_ON_NODE=4", []string{"CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=2,3"}, processors(4), []string{"0 1", "2 3"}},
		{"a list each, of a wrapper", "", []string{"CUDA_VISIBLE_DEVICES=1", "CUDA_VISIBLE_DEVICES=0"}, processors(2), []string{"1", "0"}},
		// srun --gpus-per-node=4 --gpu-bind=closest: two processes have one list.
		{"lists that overlap", "SLURM_GPUS_ON_NODE=4", []string{"CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=2,3", "CUDA_VISIBLE_DEVICES=2,3"}, processors(4), []string{"0", "1", "2", "3"}},

		// srun --gpus-per-node=2: one list for all.
		{"one list, obeyed", both + " CUDA_VISIBLE_DEVICES=0,1", []string{"", ""}, cards("nvidia", 2), []string{"0", "1"}},
		{"one list, not obeyed", both + " CUDA_VISIBLE_DEVICES=2,3", []string{"", ""}, processors(4), []string{"2", "3"}},
		{"one list of one", one + " CUDA_VISIBLE_DEVICES=0", []string{"", ""}, cards("nvidia", 1), []string{"0", ""}},
		{"one list, no Slurm", "CUDA_VISIBLE_DEVICES=0,1", []string{"", "", "", ""}, processors(2), []string{"0", "", "1", ""}},
		{"one list, two orders", "", []string{"CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=1,0"}, processors(3), []string{"0", "1"}},

		// Without Slurm it cannot be known that nobody else has this list's only entry.
		{"one list of one, no Slurm", "CUDA_VISIBLE_DEVICES=1", []string{"", ""}, processors(2), []string{"1", "1"}},

		{"hidden: empty", "CUDA_VISIBLE_DEVICES=", []string{"", ""}, processors(2), []string{"", ""}},
		{"hidden: NoDevFiles", "CUDA_VISIBLE_DEVICES=NoDevFiles", []string{"", ""}, processors(2), []string{"", ""}},
		{"hidden: -1", "CUDA_VISIBLE_DEVICES=-1", []string{"", ""}, processors(1), []string{"", ""}},
		{"ended by -1", "CUDA_VISIBLE_DEVICES=1,-1,0", []string{"", ""}, processors(2), []string{"1", "1"}},
		{"empty where that says nothing", "ZE_AFFINITY_MASK= GPU_DEVICE_ORDINAL=", []string{"", ""}, processors(2), []string{"0", "1"}},
		{"stale", "CUDA_VISIBLE_DEVICES=7", []string{"", ""}, processors(2), []string{"", ""}},
		{"stale, as many as there are", "CUDA_VISIBLE_DEVICES=6,7", []string{"", ""}, processors(2), []string{"0", "1"}},

		{"UUIDs", "SLURM_GPUS_ON_NODE=3", []string{"CUDA_VISIBLE_DEVICES=GPU-20000000-1111-2222-3333-444444444444", "CUDA_VISIBLE_DEVICES=GPU-1000"}, cards("nvidia", 3), []string{"2", "1"}},
		{"UUID of AMD", "", []string{"ROCR_VISIBLE_DEVICES=GPU-1000000011112222", "ROCR_VISIBLE_DEVICES=0"}, cards("amd", 2), []string{"1", "0"}},
		{"UUID that is not there", "", []string{"CUDA_VISIBLE_DEVICES=GPU-9", "CUDA_VISIBLE_DEVICES=GPU-"}, cards("nvidia", 2), []string{"", ""}},
		{"UUID where none is known", "CUDA_VISIBLE_DEVICES=GPU-1000", []string{"", ""}, processors(2), []string{"", ""}},

		{"one after the other", "ROCR_VISIBLE_DEVICES=2,3 HIP_VISIBLE_DEVICES=1", []string{"", ""}, cards("amd", 4), []string{"3", "3"}},
		{"one after the other, obeyed", "ROCR_VISIBLE_DEVICES=2,3", []string{"HIP_VISIBLE_DEVICES=0", "HIP_VISIBLE_DEVICES=1"}, cards("amd", 2), []string{"0", "1"}},
		{"Slurm's several", both, []string{"CUDA_VISIBLE_DEVICES=0 ROCR_VISIBLE_DEVICES=0 GPU_DEVICE_ORDINAL=0", "CUDA_VISIBLE_DEVICES=1 ROCR_VISIBLE_DEVICES=1 GPU_DEVICE_ORDINAL=1"}, cards("amd", 1), []string{"0", "0"}},
		{"parts of a card of Intel's", "", []string{"ZE_AFFINITY_MASK=0.0,0.1", "ZE_AFFINITY_MASK=1.0"}, cards("intel", 2), []string{"0", "1"}},
		{"another vendor's", "CUDA_VISIBLE_DEVICES=1", []string{"", ""}, cards("amd", 2), []string{"0", "1"}},
		{"each vendor's own", "CUDA_VISIBLE_DEVICES=0", []string{"ROCR_VISIBLE_DEVICES=0", "ROCR_VISIBLE_DEVICES=1"}, cards("amd", 2), []string{"0", "1"}},
	} {
		for rank, want := range test.wants {
			env := environment(append(strings.Fields(test.all), strings.Fields(test.each[rank])...)...)
			share := ShareGPUs(env, rank, len(test.wants), test.gpus)
			if got := used(share); got != want {
				t.Errorf("%s: local rank %d uses %q, not %q", test.name, rank, got, want)
			}
			for i := range test.gpus {
				in := slices.ContainsFunc(share.Parts, func(p Part) bool { return slices.Contains(p.GPUs, i) })
				if in == (share.Left[i] != "") {
					t.Errorf("%s: local rank %d: device %d is left because %q, and is in %+v", test.name, rank, i, share.Left[i], share.Parts)
				}
			}
		}
	}
}

// TestShareGPUsOverlap has processes go on to the next device where another one is in use.
func TestShareGPUsOverlap(t *testing.T) {
	share := ShareGPUs(environment("CUDA_VISIBLE_DEVICES=0,1", "SLURM_GPUS_ON_NODE=4"), 3, 4, processors(4))
	if want := []Part{{GPUs: []int{1, 0}, Most: 1}}; !reflect.DeepEqual(share.Parts, want) {
		t.Errorf("%+v", share.Parts)
	}
}

// TestShareGPUsOrder has a driver number its devices as each process's list does.
func TestShareGPUsOrder(t *testing.T) {
	for rank, list := range []string{"0,1,2", "2,1,0", "1,0,2"} {
		gpus := cards("nvidia", 3)
		var seen []GPU
		for entry := range strings.SplitSeq(list, ",") {
			seen = append(seen, gpus[entry[0]-'0'])
		}
		share := ShareGPUs(environment("CUDA_VISIBLE_DEVICES="+list), rank, 3, seen)
		if len(share.Parts) != 1 || share.Names[share.Parts[0].GPUs[0]] != "uuid-"+gpus[rank].UUID {
			t.Errorf("local rank %d: %+v", rank, share)
		}
	}
}

// TestShareGPUsWanted has devices that are numbered, and are not wanted.
func TestShareGPUsWanted(t *testing.T) {
	gpus := processors(3)
	gpus[0].Wanted = false
	for rank, want := range []string{"1", "2"} {
		if got := used(ShareGPUs(environment(), rank, 2, gpus)); got != want {
			t.Errorf("local rank %d uses %q", rank, got)
		}
	}
	share := ShareGPUs(environment("CUDA_VISIBLE_DEVICES=0"), 0, 2, gpus)
	if len(share.Parts) != 0 || len(share.Left) != 2 || !strings.Contains(share.Left[1], "CUDA_VISIBLE_DEVICES=0") {
		t.Errorf("%+v", share)
	}
}

// TestShareGPUsTwice has two drivers offer one card.
func TestShareGPUsTwice(t *testing.T) {
	gpus := append(cards("nvidia", 2), GPU{Driver: "ocl:1-gpu", ID: "ocl:1.0", Vendor: "nvidia", PCI: "0000:11:00.0", Wanted: true})
	for rank, want := range []string{"0", "1"} {
		if got := used(ShareGPUs(environment(), rank, 2, gpus)); got != want {
			t.Errorf("local rank %d uses %q", rank, got)
		}
	}
}

// TestGPUNames has what processes know devices by.
func TestGPUNames(t *testing.T) {
	gpus := []GPU{
		{Driver: "a", ID: "a.0", UUID: "u0", PCI: "p"}, {Driver: "a", ID: "a.1", UUID: "u1", PCI: "p"}, // parts of a card
		{Driver: "b", ID: "b.0", UUID: "u0", PCI: "p"}, // one of them, of another driver
		{Driver: "c", ID: "c.0", UUID: "same", PCI: "q"}, {Driver: "c", ID: "c.1", UUID: "same", PCI: "r"},
		{Driver: "d", ID: "d.0", UUID: "same"}, {Driver: "d", ID: "d.1", UUID: "same"},
	}
	want := []string{"uuid-u0", "uuid-u1", "uuid-u0", "pci-q", "pci-r", "d-d.0", "d-d.1"}
	if got := ShareGPUs(environment(), 0, 1, gpus).Names; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	part := ShareGPUs(environment("CUDA_VISIBLE_DEVICES=MIG-7,MIG-8"), 0, 1, cards("nvidia", 1))
	if part.Names[0] != "MIG-7" || used(part) != "0" {
		t.Errorf("%+v", part)
	}
}

// FuzzShareGPUs shares out what any list leaves. Each process uses devices that are there,
// once, and those that all were given alike are used by one process each.
func FuzzShareGPUs(f *testing.F) {
	f.Add("0,1", "", uint8(2), uint8(2))
	f.Add("GPU-1,MIG-2, 3,-1", "4", uint8(5), uint8(3))
	f.Fuzz(func(t *testing.T, list, onNode string, devices, processes uint8) {
		size := int(processes%8) + 1
		gpus := cards("nvidia", int(devices%9))
		alike := len(entries(list)) > 1 && onNode == ""
		users := map[string]int{}
		for rank := range size {
			env := environment("CUDA_VISIBLE_DEVICES="+list, "SLURM_GPUS_ON_NODE="+onNode)
			share := ShareGPUs(env, rank, size, gpus)
			mine := map[string]bool{}
			for _, part := range share.Parts {
				if part.Most < 1 || part.Most > len(part.GPUs) {
					t.Fatalf("%+v", part)
				}
				for _, i := range part.GPUs[:part.Most] {
					mine[share.Names[i]] = true
				}
			}
			if n := len(strings.Fields(used(share))); len(mine) != n {
				t.Errorf("rank %d uses %d devices in %d ways", rank, len(mine), n)
			}
			for name := range mine {
				if users[name]++; alike && users[name] > 1 {
					t.Errorf("%q: %s is used by %d of %d", list, name, users[name], size)
				}
			}
		}
	})
}
