package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"gonum.org/v1/gonum/floats"

	"github.com/gpurun/gpurun"
)

// ours are the contestants in Go.
var ours = []string{"gpurun, OpenCL", "gpurun, CPU", "plain Go, one core"}

// gonum is another, of which there is only float64.
const gonum = "gonum/floats, one core"

type float interface{ float32 | float64 }

// factor is a of saxpy, and x of the polynomial's coefficients.
const factor = 2.5

const degree = 20

// contest computes a task of x and y: it fills z, or returns a sum.
type contest[T float] func(task string, x, y, z []T) T

// serve computes the tasks that it reads, until an empty line.
func serve[T float](name, device string, elements int) {
	x, y, z := make([]T, elements), make([]T, elements), make([]T, elements)
	for i := range x {
		x[i], y[i] = element[T](i, 1), element[T](i, 2)
	}
	var compute contest[T]
	switch name {
	case ours[2]:
		compute = plain[T]
	case gonum:
		compute = func(task string, x, y, z []T) T {
			return T(floatsOf(task, any(x).([]float64), any(y).([]float64), any(z).([]float64)))
		}
	default:
		if name == ours[1] {
			device = "cpu"
		}
		eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{device}})
		if err != nil {
			fail(err)
		}
		defer eng.Close()
		compute = onDevices[T](eng)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan() && lines.Text() != ""; {
		start := time.Now()
		sum := compute(lines.Text(), x, y, z)
		took, bits := time.Since(start), uint64(0)
		if lines.Text() != "dot" {
			for _, v := range z {
				bits += bitsOf(v)
			}
		}
		fmt.Println(took.Seconds(), bits, sum)
	}
}

// bitsOf returns the bits of v as a number.
func bitsOf[T float](v T) uint64 {
	if f, ok := any(v).(float32); ok {
		return uint64(math.Float32bits(f))
	}
	return math.Float64bits(float64(v))
}

// element returns an element of an array, from 0 to 1 in steps of 2⁻²⁴, as the one in Python does.
func element[T float](i, array int) T {
	return T((uint32(i)*2654435761+uint32(array)*0x9e3779b9)>>8) / (1 << 24)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kernels:", err)
	os.Exit(1)
}

// plain computes a task in a loop.
func plain[T float](task string, x, y, z []T) (sum T) {
	switch task {
	case "saxpy":
		for i := range z {
			z[i] = T(factor*x[i]) + y[i]
		}
	case "hypot":
		for i := range z {
			z[i] = T(math.Sqrt(float64(T(x[i]*x[i]) + T(y[i]*y[i]))))
		}
	case "horner":
		for i := range z {
			s := y[i]
			for range degree {
				s = T(s*x[i]) + factor
			}
			z[i] = s
		}
	case "dot":
		exact := 0.0 // one sum in float32 would be off by 7 %
		for i := range x {
			exact += float64(x[i] * y[i])
		}
		sum = T(exact)
	}
	return sum
}

// floatsOf computes the tasks that gonum/floats has.
func floatsOf(task string, x, y, z []float64) float64 {
	if task == "dot" {
		return floats.Dot(x, y)
	}
	floats.AddScaledTo(z, y, factor, x)
	return 0
}

// onDevices returns what computes tasks on the devices of eng.
func onDevices[T float](eng *gpurun.Engine) contest[T] {
	kernels := map[string]*gpurun.Kernel{}
	for task, text := range map[string]string{
		"saxpy":  "z = (T)2.5*x + y",
		"hypot":  "z = sqrt(x*x + y*y)",
		"horner": "z = y;\nfor (int k = 0; k < 20; k++)\n\tz = z*x + (T)2.5",
	} {
		kernels[task] = gpurun.Elementwise("typedef "+nameOf[T]()+" T; "+text, func(p *gpurun.Part) error {
			plain(task, gpurun.Elements[T](p, "x"), gpurun.Elements[T](p, "y"), gpurun.Elements[T](p, "z"))
			return nil
		})
	}
	dot := &gpurun.Reduction[T]{Neutral: "0", Map: "x*y", Reduce: "a + b", CPU: &gpurun.ReductionCPU[T]{
		Map: func(p *gpurun.Part, to []T) error {
			x, y := gpurun.Elements[T](p, "x"), gpurun.Elements[T](p, "y")
			for i := range to {
				to[i] = x[i] * y[i]
			}
			return nil
		},
		Reduce: func(a, b T) T { return a + b },
	}}
	return func(task string, x, y, z []T) (sum T) {
		ctx, err := context.Background(), error(nil)
		if task == "dot" {
			sum, err = gpurun.Reduce(ctx, eng, dot, gpurun.In("x", x), gpurun.In("y", y))
		} else {
			err = eng.Run(ctx, kernels[task], gpurun.In("x", x), gpurun.In("y", y), gpurun.Out("z", z))
		}
		if err != nil {
			fail(err)
		}
		return sum
	}
}

// nameOf returns what T is called in OpenCL C.
func nameOf[T float]() string {
	if _, ok := any(T(0)).(float32); ok {
		return "float"
	}
	return "double"
}
