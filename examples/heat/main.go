// Heat follows the heat in a plate whose upper edge is hot, by finite differences.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/gpurun/gpurun"
)

// conduct is one step: each place goes towards the mean of its neighbours. The edges stay as
// they are.
var conduct = gpurun.Elementwise(`
bool edge = col == 0 || row == 0 || col == size_w-1 || row == size_h-1;
next = edge ? now : now + c*((now_at(-1, 0) + now_at(1, 0)) + (now_at(0, -1) + now_at(0, 1)) - 4*now);`, func(p *gpurun.Part) error {
	now, next, c := gpurun.Elements[float32](p, "now"), gpurun.Elements[float32](p, "next"), gpurun.ValueOf[float32](p, "c")
	x, y, w, h := p.Bounds()
	columns, rows, _ := p.Size()
	for j := range h {
		for i := range w {
			line := w + 2
			at := (j+1)*line + i + 1
			next[j*w+i] = now[at]
			if col, row := x+i, y+j; col > 0 && row > 0 && col < columns-1 && row < rows-1 {
				next[j*w+i] += float32(c * ((now[at-1] + now[at+1]) + (now[at-line] + now[at+line]) - float32(4*now[at])))
			}
		}
	}
	return nil
}).Register("gpurun/examples/heat")

func main() {
	const w, h = 60, 20
	plate, err := heat(w, h, 500, &gpurun.Config{Devices: []string{"all"}})
	if err != nil {
		log.Fatal(err)
	}
	for row := range h {
		for _, v := range plate[row*w:][:w] {
			fmt.Printf("%c", " .:-=+*#%@"[min(int(v*10), 9)])
		}
		fmt.Println()
	}
}

// heat returns the heat in a plate after so many steps.
func heat(w, h, steps int, config *gpurun.Config) ([]float32, error) {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	now, next := make([]float32, w*h), make([]float32, w*h)
	for i := range w {
		now[i] = 1
	}
	for range steps {
		err := eng.Run(ctx, conduct, gpurun.Size(w, h), gpurun.Value("c", float32(0.2)),
			gpurun.Halo(gpurun.In("now", now), gpurun.EdgeZero, 1, 1), gpurun.Out("next", next))
		if err != nil {
			return nil, err
		}
		now, next = next, now
	}
	return now, nil
}
