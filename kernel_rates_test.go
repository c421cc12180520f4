package gpurun_test

import (
	"testing"

	"github.com/gpurun/gpurun"
)

// What devices did in one run of a kernel tells the next how large tiles are to be that are worth the way.
func TestKernelRunsAgain(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	k := gpurun.Elementwise("z = x + 1", func(p *gpurun.Part) error {
		x, z := gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "z")
		for i := range z {
			z[i] = x[i] + 1
		}
		return nil
	})
	x, z := make([]float32, 1000), make([]float32, 1000)
	var tiles []int
	for range 100 { // one in which the machine had something else to do may follow any other
		if err := eng.Run(t.Context(), k, gpurun.In("x", x), gpurun.Out("z", z)); err != nil {
			t.Fatal(err)
		}
		tiles = append(tiles, eng.Report().Devices[0].Tiles)
		if n := len(tiles); n > 1 && tiles[n-1] == 1 {
			break
		}
	}
	if last := len(tiles) - 1; tiles[0] < 2 || tiles[last] != 1 {
		t.Errorf("a thousand elements were computed in %v tiles, one run after the other", tiles)
	}
}
