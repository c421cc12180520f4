// Nbody follows bodies that attract each other, by the leapfrog method.
package main

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/gpurun/gpurun"
)

// softening keeps bodies that come close from being thrown out.
const softening = 0.01

// bodies have places and speeds in a plane.
type bodies struct{ mass, x, y, vx, vy []float64 }

// pull is the acceleration of each body by all others.
var pull = gpurun.Elementwise(`
ax = 0; ay = 0;
for (long k = 0; k < size_w; k++) {
	double dx = xs[k] - xs[col], dy = ys[k] - ys[col];
	double d2 = dx*dx + dy*dy + softening*softening;
	double s = masses[k] / (d2 * sqrt(d2));
	ax += s*dx; ay += s*dy;
}`, func(p *gpurun.Part) error {
	xs, ys, masses := gpurun.Elements[float64](p, "xs"), gpurun.Elements[float64](p, "ys"), gpurun.Elements[float64](p, "masses")
	ax, ay := gpurun.Elements[float64](p, "ax"), gpurun.Elements[float64](p, "ay")
	first, _, _, _ := p.Bounds()
	for i := range ax {
		sx, sy := 0.0, 0.0
		for k := range xs {
			dx, dy := xs[k]-xs[first+i], ys[k]-ys[first+i]
			d2 := float64(float64(dx*dx)+float64(dy*dy)) + softening*softening
			s := masses[k] / (d2 * math.Sqrt(d2))
			sx, sy = sx+float64(s*dx), sy+float64(s*dy)
		}
		ax[i], ay[i] = sx, sy
	}
	return nil
}).Register("gpurun/examples/nbody")

func main() {
	b := ring(2000)
	before := b.energy()
	if err := b.follow(100, 0.001, &gpurun.Config{Devices: []string{"all"}}); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the energy was %.6f and is %.6f; the first body is at (%.4f, %.4f)\n", before, b.energy(), b.x[0], b.y[0])
}

// ring returns n bodies that circle around their centre.
func ring(n int) *bodies {
	b := &bodies{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
	for i := range n {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) * math.Phi)
		r := 0.5 + float64(i)/float64(n)
		b.mass[i], b.x[i], b.y[i], b.vx[i], b.vy[i] = 1/float64(n), r*cos, r*sin, -sin*0.8, cos*0.8
	}
	return b
}

// follow moves the bodies by so many steps.
func (b *bodies) follow(steps int, step float64, config *gpurun.Config) error {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return err
	}
	defer eng.Close()
	ax, ay := make([]float64, len(b.x)), make([]float64, len(b.x))
	for k := 0; k <= steps; k++ {
		err := eng.Run(ctx, pull, gpurun.Value("softening", softening), gpurun.Whole("masses", b.mass), gpurun.Whole("xs", b.x), gpurun.Whole("ys", b.y),
			gpurun.Out("ax", ax), gpurun.Out("ay", ay))
		if err != nil {
			return err
		}
		kick := step
		if k == 0 || k == steps {
			kick = step / 2
		}
		for i := range ax {
			b.vx[i] += float64(kick * ax[i])
			b.vy[i] += float64(kick * ay[i])
			if k < steps {
				b.x[i] += float64(step * b.vx[i])
				b.y[i] += float64(step * b.vy[i])
			}
		}
	}
	return nil
}

// energy returns the kinetic and the potential energy.
func (b *bodies) energy() (sum float64) {
	for i := range b.x {
		sum += b.mass[i] * (b.vx[i]*b.vx[i] + b.vy[i]*b.vy[i]) / 2
		for k := range i {
			sum -= b.mass[i] * b.mass[k] / math.Sqrt((b.x[i]-b.x[k])*(b.x[i]-b.x[k])+(b.y[i]-b.y[k])*(b.y[i]-b.y[k])+softening*softening)
		}
	}
	return sum
}
