// Saxpy computes z = a·x + y by an expression, on all devices of this machine.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/gpurun/gpurun"
)

// saxpy is the expression, and the same in Go for the CPU: also for those of hosts whose workers are
// programs with this variable.
var saxpy = gpurun.Elementwise("z = a*x + y", func(p *gpurun.Part) error {
	a, x, y := gpurun.ValueOf[float32](p, "a"), gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "y")
	for i, z := 0, gpurun.Elements[float32](p, "z"); i < len(z); i++ {
		z[i] = float32(a*x[i]) + y[i]
	}
	return nil
}).Register("gpurun/examples/saxpy")

func main() {
	x, y := make([]float32, 10_000_000), make([]float32, 10_000_000)
	for i := range x {
		x[i], y[i] = float32(i), 1
	}
	z, err := run(2.5, x, y, &gpurun.Config{Devices: []string{"all"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(z[:4], "…", z[len(z)-1])
}

func run(a float32, x, y []float32, config *gpurun.Config) ([]float32, error) {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	z := make([]float32, len(x))
	return z, eng.Run(ctx, saxpy, gpurun.Value("a", a), gpurun.In("x", x), gpurun.In("y", y), gpurun.Out("z", z))
}
