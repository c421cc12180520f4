package device

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"

	"github.com/gpurun/gpurun/kernels"
)

// Measured rates outlive the process, in the cache: so that the first job of the next
// one is predicted, and its launches are cut, by what the device is known to do.

// measurable is a rate that may have been measured.
type measurable interface {
	now() (rate float64, measured bool)
	set(rate float64) // as measured
}

// loadRates sets those of rates that are in the cache under name, and returns them.
func loadRates(name string, rates map[string]measurable) map[string]float64 {
	stored := map[string]float64{}
	if json.Unmarshal(cacheLoad(name), &stored) != nil {
		return map[string]float64{}
	}
	for key, r := range rates {
		if x := stored[key]; x > 0 && !math.IsInf(x, 1) {
			r.set(x)
		}
	}
	return stored
}

// storeRates stores those of rates that have been measured since they were loaded. It
// says nothing if it cannot: they are measured again.
func storeRates(name string, loaded map[string]float64, rates map[string]measurable) {
	changed := false
	all := map[string]float64{}
	maps.Copy(all, loaded)
	for key, r := range rates {
		if x, measured := r.now(); measured && x != loaded[key] {
			all[key], changed = x, true
		}
	}
	if !changed {
		return
	}
	if data, err := json.Marshal(all); err == nil {
		_ = cacheStore(name, data)
	}
}

// ratesName returns the cache's name of the rates of all cores of this processor with
// these kernels.
func (d *cpuDevice) ratesName() string {
	return cacheName("rates", string(d.variant), d.info.Name, fmt.Sprint(d.info.Units))
}

func (d *cpuDevice) measurables() map[string]measurable {
	all := map[string]measurable{}
	for t, r := range d.rates {
		all["product "+t.String()] = r
	}
	return all
}

// ratesName returns the cache's name of the rates of this device with its driver.
func (d *openCLDevice) ratesName() string {
	return cacheName("rates", d.device.Name, d.device.Vendor, d.device.DriverVersion, d.device.Platform.Name, fmt.Sprint(d.info.Units))
}

func (d *openCLDevice) measurables() map[string]measurable {
	all := map[string]measurable{}
	for kernel, speeds := range map[string]map[kernels.DType]*speedometer{"mandelbrot ": d.speeds, "product ": d.products} {
		for t, s := range speeds {
			all[kernel+t.String()] = s
		}
	}
	return all
}
