// Package views names the images of the Mandelbrot set that are measured, so that
// the command and the comparison with others in bench measure the same ones.
//
// They differ in what makes a kernel slow. A kernel computes many orbits side by
// side, and where they start and end together all wait for the longest. So how well
// it can do depends on how unlike the orbits of neighbouring pixels are. The SIMD
// efficiency below says that: the steps of all orbits ÷ those that groups of 64
// neighbours take if each waits for its longest, at 960×640 pixels; 1 where
// neighbours are alike.
package views

import (
	"fmt"
	"strings"
)

// EscapeRadius is that of all views: the one of pictures, for smooth colours.
const EscapeRadius = 256

// View is an image of the Mandelbrot set.
type View struct {
	Name          string
	Re, Im        float64 // of the centre
	Span          float64 // the width in the complex plane
	Width, Height int     // pixels
	MaxIter       int
}

// All are the views, the easily known one first.
var All = []View{
	// The whole set, nearly all of whose inside the interior test settles. The other
	// orbits take 40 steps in the mean; SIMD efficiency 0.30.
	{"full", -0.5, 0, 3, 1920, 1280, 1000},

	// Seahorse valley with small copies of the set, a ninth of the image: 830 steps in
	// the mean; SIMD efficiency 0.51.
	{"seahorse", -0.746, 0.102083, 0.005, 1920, 1280, 5000},

	// The same valley, where a few orbits among many short ones are long: 160 steps in
	// the mean; SIMD efficiency 0.28.
	{"valley", -0.7463, 0.1102, 0.005, 1920, 1280, 5000},

	// Elephant valley at the cusp of the main cardioid: 260 steps in the mean; SIMD
	// efficiency 0.40. The standard deviation of the steps is four times their mean,
	// and in the other valley twice.
	{"elephant", 0.2825, 0.0085, 0.01, 1920, 1280, 5000},

	// Inside the period-3 bulb, which the interior test does not settle: every orbit
	// takes MaxIter steps, unless it is found to be in a cycle.
	{"inside", -0.1226, 0.7449, 0.05, 1920, 1280, 2000},

	// At the edge of that bulb, where the multiplier of the cycle is about 0.995: every
	// orbit takes MaxIter steps, since none comes to exactly where it was before. What
	// the arithmetic units bound shows here.
	{"spiral", -0.18103315, 0.81928757, 0.00025, 1920, 1280, 5000},

	// Far outside: every orbit takes about four steps, and the time goes into what a
	// pixel takes besides.
	{"outside", 2, 2, 2, 1920, 1280, 1000},
}

// Names returns the names of all views.
func Names() []string {
	var names []string
	for _, v := range All {
		names = append(names, v.Name)
	}
	return names
}

// Named returns the views of those names, in the order of the names.
func Named(names []string) ([]View, error) {
	var out []View
	for _, name := range names {
		v, err := named(name)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func named(name string) (View, error) {
	for _, v := range All {
		if v.Name == name {
			return v, nil
		}
	}
	return View{}, fmt.Errorf("view %s is none of %s", name, strings.Join(Names(), ", "))
}
