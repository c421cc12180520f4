// Mandelbrot draws the seahorse valley with all devices of this machine.
package main

import (
	"context"
	"fmt"
	"image/png"
	"log"
	"os"

	"github.com/gpurun/gpurun"
)

func main() {
	if err := draw("seahorse.png"); err != nil {
		log.Fatal(err)
	}
}

func draw(name string) error {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, &gpurun.Config{Devices: []string{"all"}})
	if err != nil {
		return err
	}
	defer eng.Close()

	field, err := eng.Mandelbrot(ctx, gpurun.View{
		Center: complex(-0.7463, 0.1102), Span: 0.005,
		Width: 1200, Height: 800, MaxIter: 5000,
	})
	if err != nil {
		return err
	}
	palette, err := gpurun.NewPalette("ember")
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := png.Encode(f, field.Image(palette)); err != nil {
		return err
	}
	for _, d := range eng.Report().Devices {
		fmt.Printf("%s (%s) computed %.0f %% in %d tiles\n", d.ID, d.Name, 100*d.Share, d.Tiles)
	}
	return f.Close()
}
