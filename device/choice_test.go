package device

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func fake(id string, kind Kind, backend string, f32, f64 Support) candidate {
	return candidate{info: Info{ID: id, Kind: kind, Backend: backend, Name: "fake " + id, Float32: f32, Float64: f64}}
}

// card is a GPU at a PCI address.
func card(id, pci string) candidate {
	c := fake(id, GPU, BackendOpenCL, Exact, Exact)
	c.info.PCI = pci
	return c
}

var (
	fakeCPU   = fake("cpu", CPU, BackendCPU, Exact, Exact)
	fakePoCL  = fake("ocl:0.0", CPU, BackendOpenCL, Exact, Exact)
	fakeGPU0  = fake("ocl:1.0", GPU, BackendOpenCL, Exact, Exact)
	fakeGPU1  = fake("ocl:1.1", GPU, BackendOpenCL, Exact, None)
	fakeSloth = fake("ocl:2.0", GPU, BackendOpenCL, Inexact, None)
	fakeFPGA  = fake("ocl:3.0", Accelerator, BackendOpenCL, Exact, Exact)
)

func TestChoose(t *testing.T) {
	bare := []candidate{fakeCPU}
	pocl := []candidate{fakeCPU, fakePoCL}
	full := []candidate{fakeCPU, fakePoCL, fakeGPU0, fakeGPU1, fakeSloth, fakeFPGA}
	for _, test := range []struct {
		choice     string
		candidates []candidate
		want       string
	}{
		{"auto", bare, "cpu"},
		{"auto", pocl, "cpu"},
		{"auto", full, "ocl:1.0 ocl:1.1"},
		{"auto", []candidate{fakeCPU, fakeSloth}, "cpu"},
		{"all", bare, "cpu"},
		{"all", pocl, "cpu"},
		{"all", full, "cpu ocl:1.0 ocl:1.1"},
		{"cpu", full, "cpu"},
		{"gpu", pocl, ""},
		{"gpu", full, "ocl:1.0 ocl:1.1"},
		{"opencl", bare, ""},
		{"opencl", pocl, "ocl:0.0"},
		{"opencl", full, "ocl:0.0 ocl:1.0 ocl:1.1 ocl:2.0 ocl:3.0"},
		{"gpu", []candidate{fakeCPU, card("ocl:0.0", "0000:3b:00.0"), card("ocl:1.0", "0000:3b:00.0"), card("ocl:1.1", "0000:5e:00.0"), card("ocl:2.0", ""), card("ocl:2.1", "")}, "ocl:0.0 ocl:1.1 ocl:2.0 ocl:2.1"},
		{"ocl:2.0", full, "ocl:2.0"},
		{"ocl:9.0", full, ""},
	} {
		var got []string
		for _, c := range choose(test.choice, test.candidates) {
			got = append(got, c.info.ID)
		}
		if ids := strings.Join(got, " "); ids != test.want {
			t.Errorf("choose(%q) of %d candidates = %q, want %q", test.choice, len(test.candidates), ids, test.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"auto", "all", "cpu", "gpu", "opencl", "none", "ocl:0.0", "ocl:12.3"} {
		if err := checkName(good); err != nil {
			t.Errorf("checkName(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", "CPU", "gpu0", "ocl", "ocl:", "ocl:0", "ocl:0.", "ocl:0.0.0", "ocl:0.0x", "ocl:-1.0", "ocl:+1.0", "ocl:00.1", "ocl: 0.1"} {
		if err := checkName(bad); !errors.Is(err, ErrName) {
			t.Errorf("checkName(%q) = %v, want an ErrName", bad, err)
		}
	}
}

func TestOpenOnce(t *testing.T) {
	devices, err := Open([]string{"cpu", "cpu"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(devices) != 1 {
		t.Errorf("cpu,cpu opened %d devices", len(devices))
	}
	for _, d := range devices {
		d.Close()
	}
}

// TestMissing checks that an error says what was wanted, seen, and can be done.
func TestMissing(t *testing.T) {
	err := missing("gpu", []candidate{fakeCPU, fakePoCL}, nil)
	if !errors.Is(err, ErrChoice) {
		t.Errorf("%v is not an ErrChoice", err)
	}
	for _, part := range []string{"no GPU", "ocl:0.0 (cpu, fake ocl:0.0)", "OpenCL driver", "--device cpu"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	err = missing("opencl", []candidate{fakeCPU}, errNoOpenCL)
	if !errors.Is(err, ErrChoice) || !strings.Contains(err.Error(), errNoOpenCL.Error()) {
		t.Errorf("%v does not say why there is no OpenCL", err)
	}
}

func TestBudget(t *testing.T) {
	for _, test := range []struct{ total, limit, want int64 }{
		{1000, 0, 800}, {1000, 100, 100}, {1000, 900, 800}, {1000, -5, 800},
	} {
		if got := budget(test.total, test.limit); got != test.want {
			t.Errorf("budget(%d, %d) = %d, want %d", test.total, test.limit, got, test.want)
		}
	}
}

// TestList checks what holds of the devices of any machine.
func TestList(t *testing.T) {
	infos, err := List()
	if err != nil {
		t.Logf("OpenCL: %v", err)
	}
	if len(infos) == 0 || infos[0].ID != "cpu" || infos[0].Float32 != Exact || infos[0].Float64 != Exact {
		t.Fatalf("the first device is not the CPU: %+v", infos)
	}
	var ids []string
	for _, i := range infos {
		if i.Name == "" || i.Units < 1 || i.Memory < 1 || i.Budget < 1 || i.Budget > i.Memory {
			t.Errorf("implausible device %+v", i)
		}
		if slices.Contains(ids, i.ID) {
			t.Errorf("id %s is there twice", i.ID)
		}
		ids = append(ids, i.ID)
	}
}

// TestOpenSome has other devices opened than those that were chosen.
func TestOpenSome(t *testing.T) {
	devices, err := OpenSome([]string{"none"}, 0, func(all []Info, chosen []string) ([]string, error) {
		if len(all) == 0 || all[0].ID != "cpu" || len(chosen) != 0 {
			t.Errorf("%v is chosen of %+v", chosen, all)
		}
		return []string{"cpu"}, nil
	})
	if err != nil || len(devices) != 1 || devices[0].ID() != "cpu" {
		t.Fatalf("%v, %v", devices, err)
	}
	devices[0].Close()
	no := errors.New("no")
	if _, err := OpenSome(nil, 0, func([]Info, []string) ([]string, error) { return []string{"cpu"}, no }); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if _, err := OpenSome(nil, 0, func([]Info, []string) ([]string, error) { return []string{"cpu", "ocl:77.0"}, nil }); !errors.Is(err, ErrChoice) {
		t.Errorf("%v", err)
	}
}
