// Kmeans finds the centres of clusters of points by S. Lloyd's algorithm (1957).
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/gpurun/gpurun"
)

// nearest is the number of the centre that is nearest to each point.
var nearest = gpurun.Elementwise(`
int best = 0;
float least = INFINITY;
for (int k = 0; k < centres; k++) {
	float dx = x - cx[k], dy = y - cy[k], d = dx*dx + dy*dy;
	if (d < least) { least = d; best = k; }
}
label = best;`, func(p *gpurun.Part) error {
	x, y, label := gpurun.Elements[float32](p, "x"), gpurun.Elements[float32](p, "y"), gpurun.Elements[int32](p, "label")
	cx, cy := gpurun.Elements[float32](p, "cx"), gpurun.Elements[float32](p, "cy")
	for i := range label {
		for k := range cx {
			if distance(x[i], y[i], cx[k], cy[k]) < distance(x[i], y[i], cx[label[i]], cy[label[i]]) || k == 0 {
				label[i] = int32(k)
			}
		}
	}
	return nil
}).Register("gpurun/examples/kmeans")

func distance(x, y, cx, cy float32) float32 {
	dx, dy := x-cx, y-cy
	return float32(dx*dx) + float32(dy*dy)
}

// total is the sum of what the points of a cluster have.
var total = (&gpurun.Reduction[float64]{Neutral: "0", Map: "label == k ? v : 0", Reduce: "a + b", CPU: &gpurun.ReductionCPU[float64]{
	Map: func(p *gpurun.Part, to []float64) error {
		label, v, k := gpurun.Elements[int32](p, "label"), gpurun.Elements[float32](p, "v"), gpurun.ValueOf[int32](p, "k")
		for i := range to {
			if to[i] = 0; label[i] == k {
				to[i] = float64(v[i])
			}
		}
		return nil
	},
	Reduce: func(a, b float64) float64 { return a + b },
}}).Register("gpurun/examples/kmeans/total")

func main() {
	x, y := points(200_000, 4)
	cx, cy, err := cluster(x, y, 4, 20, &gpurun.Config{Devices: []string{"all"}})
	if err != nil {
		log.Fatal(err)
	}
	for k := range cx {
		fmt.Printf("centre %d: (%.3f, %.3f)\n", k, cx[k], cy[k])
	}
}

// points returns n points around the corners of a square.
func points(n, corners int) (x, y []float32) {
	rng := rand.New(rand.NewPCG(1, 2))
	x, y = make([]float32, n), make([]float32, n)
	for i := range x {
		c := i % corners
		x[i], y[i] = float32(rng.NormFloat64()/8)+float32(c%2), float32(rng.NormFloat64()/8)+float32(c/2)
	}
	return x, y
}

// cluster returns the centres after so many rounds, which begin with the first points.
func cluster(x, y []float32, centres, rounds int, config *gpurun.Config) (cx, cy []float32, err error) {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	defer eng.Close()
	cx, cy = append(cx, x[:centres]...), append(cy, y[:centres]...)
	label, ones := make([]int32, len(x)), make([]float32, len(x))
	for i := range ones {
		ones[i] = 1
	}
	for range rounds {
		err := eng.Run(ctx, nearest, gpurun.Value("centres", int32(centres)), gpurun.In("x", x), gpurun.In("y", y),
			gpurun.Whole("cx", cx), gpurun.Whole("cy", cy), gpurun.Out("label", label))
		if err != nil {
			return nil, nil, err
		}
		for k := range cx {
			sum := func(v []float32) (s float64) {
				if err == nil {
					s, err = gpurun.Reduce(ctx, eng, total, gpurun.In("label", label), gpurun.In("v", v), gpurun.Value("k", int32(k)))
				}
				return s
			}
			if n := sum(ones); n > 0 {
				cx[k], cy[k] = float32(sum(x)/n), float32(sum(y)/n)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return cx, cy, nil
}
