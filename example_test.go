package gpurun_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gpurun/gpurun"
)

// The whole set, a few pixels wide, as text.
func ExampleEngine_Mandelbrot() {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()

	field, err := eng.Mandelbrot(ctx, gpurun.View{Center: -0.5, Span: 3, Width: 30, Height: 25, MaxIter: 100})
	if err != nil {
		log.Fatal(err)
	}
	for j := 0; j < 25; j += 2 { // a character is twice as high as it is wide
		for i := range 30 {
			if field.Counts[30*j+i] == 0 {
				fmt.Print("#")
			} else {
				fmt.Print(".")
			}
		}
		fmt.Println()
	}
	// Output:
	// ..............................
	// ..............................
	// ..................##..........
	// ................#####.........
	// ..............#########.......
	// ........####.###########......
	// #######################.......
	// ........####.###########......
	// ..............#########.......
	// ................#####.........
	// ..................##..........
	// ..............................
	// ..............................
}

// A Julia set, computed on the CPU alone.
func ExampleView_julia() {
	eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()

	c := complex(-0.8, 0.156)
	field, err := eng.Mandelbrot(context.Background(), gpurun.View{Span: 3, Width: 101, Height: 101, Julia: &c})
	if err != nil {
		log.Fatal(err)
	}
	corner, opposite := field.Counts[0], field.Counts[len(field.Counts)-1]
	fmt.Println("symmetric about 0:", corner == opposite)
	// Output: symmetric about 0: true
}

// What each device did.
func ExampleEngine_Report() {
	eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: []string{"cpu"}, Tiles: 8})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	if _, err := eng.Mandelbrot(context.Background(), gpurun.DefaultView()); err != nil {
		log.Fatal(err)
	}
	for _, d := range eng.Report().Devices {
		fmt.Printf("%s: %d tiles, %.0f %% of the work\n", d.ID, d.Tiles, 100*d.Share)
	}
	// Output: cpu: 8 tiles, 100 % of the work
}

// An image that need not fit into memory, a band of rows at a time: here the pixels that
// never escape are counted.
func ExampleEngine_MandelbrotBands() {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()

	view := gpurun.View{Center: -0.5, Span: 4, Width: 4000, Height: 3000, CountsOnly: true}
	inside, rows := 0, 0
	err = eng.MandelbrotBands(ctx, view, func(band *gpurun.Field) error {
		for _, n := range band.Counts {
			if n == 0 {
				inside++
			}
		}
		rows = band.Y + band.Rows
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	pixel := view.Span / float64(view.Width)
	fmt.Printf("%d rows; the set's area is about %.2f\n", rows, float64(inside)*pixel*pixel)
	// Output: 3000 rows; the set's area is about 1.51
}
