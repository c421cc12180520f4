package gpurun

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// TestKernelRates has runs of a kernel learn what devices do in a second, and others not.
func TestKernelRates(t *testing.T) {
	eng, err := Open(t.Context(), &Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	add := func(text string) *Kernel {
		return Elementwise(text, func(p *Part) error {
			x, table, z := Elements[float32](p, "x"), Elements[float32](p, "table"), Elements[float32](p, "z")
			for i := range z {
				z[i] = x[i] + table[0]
			}
			return nil
		})
	}
	args := func(n int) []Argument {
		x, z := make([]float32, 1000), make([]float32, 1000)
		return []Argument{In("x", x), Whole("table", make([]float32, n)), Out("z", z)}
	}
	if err := eng.Run(t.Context(), add("z = x + table[0]"), args(5)...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text  string
		whole int
		known int
	}{{"z = x + table[0]", 5, 1}, {"z = x + table[0]", 6, 0}, {"z = table[0] + x", 5, 0}} {
		job, _, err := add(c.text).job(args(c.whole))
		if err != nil {
			t.Fatal(err)
		}
		rates := eng.rates.known(kernelID(job))
		if len(rates) != c.known {
			t.Errorf("%s with a table of %d: %d devices are known, want %d", c.text, c.whole, len(rates), c.known)
		}
		for id, rate := range rates {
			if rate <= 0 {
				t.Errorf("%s computes %g elements a second", id, rate)
			}
		}
	}
}

// TestKernelRatesAreBounded has a program run more kernels than are kept, and one that has no name.
func TestKernelRatesAreBounded(t *testing.T) {
	var rates kernelRates
	report := &Report{Elements: 1, Makespan: 1, Devices: []DeviceReport{{Rate: 1, Share: 1}}}
	rates.learn([sha256.Size]byte{}, report)
	if len(rates.of) != 0 {
		t.Error("a kernel without a name was learned")
	}
	for i := range 3 * mostRated {
		id := sha256.Sum256(fmt.Append(nil, i))
		rates.learn(id, report)
		if len(rates.known(id)) != 1 || len(rates.of) > mostRated {
			t.Fatalf("after %d kernels %d are kept, and the last has %d devices", i+1, len(rates.of), len(rates.known(id)))
		}
	}
}

// TestKernelRatesOfLiars has a host say that it has taken next to no time.
func TestKernelRatesOfLiars(t *testing.T) {
	var rates kernelRates
	id := sha256.Sum256([]byte("k"))
	report := &Report{Elements: 1000, Makespan: 2, Devices: []DeviceReport{{ID: "liar", Rate: 1e15, Share: 0.5}, {ID: "honest", Rate: 300, Share: 0.5}}}
	rates.learn(id, report)
	if known := rates.known(id); known["liar"] != 16*250 || known["honest"] != 300 {
		t.Errorf("%v", known)
	}
	rates.learn(id, &Report{Elements: 1000, Resumed: 1, Devices: []DeviceReport{{ID: "honest"}}})
	if known := rates.known(id); len(known) != 2 || known["honest"] != 300 {
		t.Errorf("after a run in which nothing was computed: %v", known)
	}
}

// TestKernelRatesAreUsed has a device that was quick take all of a small run at once.
func TestKernelRatesAreUsed(t *testing.T) {
	eng, err := Open(t.Context(), &Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	k := Elementwise("z = x", func(p *Part) error { copy(Elements[float32](p, "z"), Elements[float32](p, "x")); return nil })
	args := []Argument{In("x", make([]float32, 1000)), Out("z", make([]float32, 1000))}
	job, _, err := k.job(args)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ rate, tiles float64 }{{0, 2}, {1e9, 1}} {
		eng.rates.of = map[[sha256.Size]byte]map[string]float64{kernelID(job): {"cpu": c.rate}}
		if err := eng.Run(t.Context(), k, args...); err != nil {
			t.Fatal(err)
		}
		if n := eng.Report().Devices[0].Tiles; (n == 1) != (c.tiles == 1) {
			t.Errorf("with %g elements a second there were %d tiles", c.rate, n)
		}
	}
}
