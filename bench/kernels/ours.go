package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/gpurun/gpurun"
)

// ours are the contestants in Go.
var ours = []string{"gpurun, OpenCL", "gpurun, CPU", "plain Go, one core"}

// factor is a of saxpy, and x of the polynomial's coefficients.
const factor = float32(2.5)

const degree = 20

// serve computes the tasks that it reads, until an empty line.
func serve(name string, elements int) {
	x, y, z := make([]float32, elements), make([]float32, elements), make([]float32, elements)
	for i := range x {
		x[i], y[i] = element(i, 1), element(i, 2)
	}
	compute := plain
	if name != ours[2] {
		device := "opencl"
		if name == ours[1] {
			device = "cpu"
		}
		eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{device}})
		if err != nil {
			fail(err)
		}
		defer eng.Close()
		compute = func(task string, x, y, z []float32) float32 { return devices(eng, task, x, y, z) }
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan() && lines.Text() != ""; {
		start := time.Now()
		sum := compute(lines.Text(), x, y, z)
		took, bits := time.Since(start), uint64(0)
		if lines.Text() != "dot" {
			for _, v := range z {
				bits += uint64(math.Float32bits(v))
			}
		}
		fmt.Println(took.Seconds(), bits, sum)
	}
}

// element returns an element of an array, from 0 to 1 in steps of 2⁻²⁴, as the one in Python does.
func element(i, array int) float32 {
	return float32((uint32(i)*2654435761+uint32(array)*0x9e3779b9)>>8) / (1 << 24)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kernels:", err)
	os.Exit(1)
}

// plain computes a task in a loop.
func plain(task string, x, y, z []float32) (sum float32) {
	switch task {
	case "saxpy":
		for i := range z {
			z[i] = float32(factor*x[i]) + y[i]
		}
	case "hypot":
		for i := range z {
			z[i] = float32(math.Sqrt(float64(float32(x[i]*x[i]) + float32(y[i]*y[i]))))
		}
	case "horner":
		for i := range z {
			s := y[i]
			for range degree {
				s = float32(s*x[i]) + factor
			}
			z[i] = s
		}
	case "dot":
		exact := 0.0 // one sum in float32 would be off by 7 %
		for i := range x {
			exact += float64(x[i] * y[i])
		}
		sum = float32(exact)
	}
	return sum
}

// twin is plain for a part.
func twin(task string) func(p *gpurun.Part) error {
	return func(p *gpurun.Part) error {
		plain(task, gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "y"), gpurun.Elements[float32](p, "z"))
		return nil
	}
}

var expressions = map[string]*gpurun.Kernel{
	"saxpy": gpurun.Elementwise("z = 2.5f*x + y", twin("saxpy")),
	"hypot": gpurun.Elementwise("z = sqrt(x*x + y*y)", twin("hypot")),
	"horner": gpurun.Elementwise(`z = y;
for (int k = 0; k < 20; k++)
	z = z*x + 2.5f`, twin("horner")),
}

var dot = &gpurun.Reduction[float32]{Neutral: "0", Map: "x*y", Reduce: "a + b", CPU: &gpurun.ReductionCPU[float32]{
	Map: func(p *gpurun.Part, to []float32) error {
		x, y := gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "y")
		for i := range to {
			to[i] = x[i] * y[i]
		}
		return nil
	},
	Reduce: func(a, b float32) float32 { return a + b },
}}

// devices computes a task on the devices of eng.
func devices(eng *gpurun.Engine, task string, x, y, z []float32) (sum float32) {
	ctx, err := context.Background(), error(nil)
	if task == "dot" {
		sum, err = gpurun.Reduce(ctx, eng, dot, gpurun.In("x", x), gpurun.In("y", y))
	} else {
		err = eng.Run(ctx, expressions[task], gpurun.In("x", x), gpurun.In("y", y), gpurun.Out("z", z))
	}
	if err != nil {
		fail(err)
	}
	return sum
}
