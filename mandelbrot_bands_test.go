package gpurun_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
)

// bandsMemory makes views of some hundred pixels' width have several bands.
const bandsMemory = 64 << 10

// TestBands puts the bands of an image together: they are the image, to the last bit, in all
// that can be made of it.
func TestBands(t *testing.T) {
	p, err := gpurun.NewPalette("classic")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*gpurun.View){
		"float32":     func(*gpurun.View) {},
		"float64":     func(v *gpurun.View) { v.Precision = gpurun.Float64 },
		"counts only": func(v *gpurun.View) { v.CountsOnly = true },
		"julia":       func(v *gpurun.View) { v.Julia = julia(-0.8, 0.156) },
		"one row":     func(v *gpurun.View) { v.Height = 1 },
		"one column":  func(v *gpurun.View) { v.Width, v.Height, v.Span = 1, 3001, 0.001 },
		"deep":        func(v *gpurun.View) { v.Center, v.Span, v.MaxIter = complex(-0.7463, 0.1102), 1e-6, 3000 },
	} {
		v := gpurun.View{Center: -0.5, Span: 3, Width: 301, Height: 203, MaxIter: 500}
		change(&v)
		whole, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		want := whole.Image(p)
		got := image.NewRGBA(want.Bounds())
		rows, bands := 0, 0
		eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: bandsMemory})
		err = eng.MandelbrotBands(t.Context(), v, func(band *gpurun.Field) error {
			if band.Y != rows || band.Rows < 1 || band.View != whole.View || len(band.Counts) != v.Width*band.Rows {
				t.Fatalf("%s: band %d has %d counts, the rows from %d on, %d of them, of %+v", name, bands, len(band.Counts), band.Y, band.Rows, band.View)
			}
			rows, bands = rows+band.Rows, bands+1
			sameBand(t, whole, band)
			part := band.Image(p)
			draw.Draw(got, part.Bounds(), part, part.Bounds().Min, draw.Src)
			sameRGB(t, part, band, p)
			return nil
		})
		if err != nil || rows != v.Height || (bands == 1) != (name == "one row") {
			t.Errorf("%s: %d rows in %d bands, error %v", name, rows, bands, err)
		}
		if !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%s: the bands make another picture", name)
		}
		if got, want := eng.Report().Iterations, iterations(whole); name == "float64" && got != want {
			t.Errorf("%s: %d iterations, want %d", name, got, want)
		}
	}
}

// sameBand checks that band has the rows of whole.
func sameBand(t *testing.T, whole, band *gpurun.Field) {
	t.Helper()
	from, to := band.Y*whole.View.Width, (band.Y+band.Rows)*whole.View.Width
	if !slices.Equal(band.Counts, whole.Counts[from:to]) {
		t.Errorf("the counts differ from row %d on", band.Y)
	}
	if (band.Magnitudes == nil) != (whole.Magnitudes == nil) || band.Magnitudes != nil && !slices.Equal(band.Magnitudes, whole.Magnitudes[from:to]) {
		t.Errorf("the magnitudes differ from row %d on", band.Y)
	}
	for _, i := range []int{0, len(band.Counts) - 1} {
		if band.Smooth(i) != whole.Smooth(from+i) {
			t.Errorf("μ differs from row %d on", band.Y)
		}
	}
}

// sameRGB checks that RGB and img have the same colours.
func sameRGB(t *testing.T, img *image.RGBA, band *gpurun.Field, p *gpurun.Palette) {
	t.Helper()
	w := band.View.Width
	for _, rows := range [][2]int{{0, band.Rows}, {band.Rows - 1, band.Rows}, {0, 0}} {
		rgb := make([]byte, 3*w*(rows[1]-rows[0]))
		band.RGB(rgb, p, rows[0], rows[1])
		for i := range len(rgb) / 3 {
			if !bytes.Equal(rgb[3*i:3*i+3], img.Pix[4*(rows[0]*w+i):][:3]) {
				t.Fatalf("pixel %d of rows %v has another colour", i, rows)
			}
		}
	}
}

// TestBandsReport checks that report, trace and progress are of the whole image.
func TestBandsReport(t *testing.T) {
	var seen []float64
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: bandsMemory, Tiles: 40, Trace: true, Progress: func(done float64) { seen = append(seen, done) }})
	v := gpurun.View{Center: -0.5, Span: 3, Width: 300, Height: 200}
	bands := 0
	err := eng.MandelbrotBands(t.Context(), v, func(*gpurun.Field) error { bands++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(seen) || len(seen) < bands || seen[len(seen)-1] != 1 || seen[0] <= 0 {
		t.Errorf("the progress of %d bands was %v", bands, seen)
	}
	r := eng.Report()
	if r.Job != "mandelbrot" || r.Makespan <= 0 || r.Seconds < r.Makespan || r.MakespanOverIdeal < 1 || r.Iterations <= 0 || len(r.Devices) != 1 {
		t.Fatalf("implausible report %+v", r)
	}
	d := r.Devices[0]
	if d.ID != "cpu" || d.Tiles < 40 || d.Tiles > 40+bands || math.Abs(d.Share-1) > 1e-9 || d.Rate <= 0 || d.BusySeconds <= 0 || d.BusySeconds > r.Makespan {
		t.Errorf("implausible device report %+v", d)
	}
	checkSpans(t, r, v)
}

// checkSpans checks that the tiles of the trace make up the image.
func checkSpans(t *testing.T, r *gpurun.Report, v gpurun.View) {
	t.Helper()
	rows := make([]int, v.Height) // pixels seen of each
	last := 0.0
	var b bytes.Buffer
	var trace struct {
		TraceEvents []struct {
			Name, Ph string
			Ts, Dur  float64
		}
	}
	if err := r.WriteTrace(&b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &trace); err != nil {
		t.Fatal(err)
	}
	for _, e := range trace.TraceEvents {
		if e.Ph != "X" || strings.HasPrefix(e.Name, "tile ") {
			continue
		}
		var w, h, x, y int
		if _, err := fmt.Sscanf(e.Name, "lease %d×%d+%d+%d", &w, &h, &x, &y); err != nil {
			t.Fatal(e.Name, err)
		}
		for j := y; j < y+h; j++ {
			rows[j] += w
		}
		last = max(last, e.Ts+e.Dur)
	}
	for j, n := range rows {
		if n != v.Width {
			t.Fatalf("row %d has %d pixels in the trace", j, n)
		}
	}
	if seconds := last / 1e6; seconds < r.Makespan*0.99 || seconds > r.Seconds {
		t.Errorf("the trace ends after %g s, the makespan is %g s of %g s", seconds, r.Makespan, r.Seconds)
	}
}

// TestBandsErrors has put fail, panic, and be interrupted; the engine is good afterwards.
func TestBandsErrors(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: bandsMemory})
	v := gpurun.View{Center: -0.5, Span: 3, Width: 300, Height: 200}
	mine := errors.New("mine")
	calls := 0
	if err := eng.MandelbrotBands(t.Context(), v, func(*gpurun.Field) error { calls++; return mine }); err != mine || calls != 1 {
		t.Errorf("put fails, is called %d times, and the error is %v", calls, err)
	}
	func() {
		defer func() {
			if r := recover(); r != mine {
				t.Errorf("recovered %v", r)
			}
		}()
		eng.MandelbrotBands(t.Context(), v, func(*gpurun.Field) error { panic(mine) })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	err := eng.MandelbrotBands(ctx, v, func(*gpurun.Field) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls > 2 {
		t.Errorf("cancelled in put, called %d times, the error is %v", calls, err)
	}
	if r := eng.Report(); r == nil || r.Seconds <= 0 || len(r.Devices) != 1 {
		t.Errorf("the report is %+v", r)
	}
	if err := eng.MandelbrotBands(ctx, v, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done the error is %v", err)
	}
	v.Span = -1
	if err := eng.MandelbrotBands(t.Context(), v, nil); !errors.Is(err, gpurun.ErrView) {
		t.Errorf("a view that is none: %v", err)
	}
	v.Span, v.Width = 3, 100000
	if err := eng.MandelbrotBands(t.Context(), v, nil); !errors.Is(err, gpurun.ErrTooLarge) {
		t.Errorf("a row that does not fit: %v", err)
	}
	if _, err := eng.Mandelbrot(t.Context(), smallView()); err != nil {
		t.Error(err)
	}
}

// TestBandsInterrupted interrupts the computation while put is idle, and while it runs.
func TestBandsInterrupted(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: bandsMemory})
	v := endlessView()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := eng.MandelbrotBands(ctx, v, func(*gpurun.Field) error { t.Error("a band was ready"); return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	var putting atomic.Bool
	v = gpurun.View{Center: -0.5, Span: 3, Width: 300, Height: 200}
	ctx, cancel = context.WithCancel(t.Context())
	err = eng.MandelbrotBands(ctx, v, func(*gpurun.Field) error {
		putting.Store(true)
		defer putting.Store(false)
		cancel()
		time.Sleep(100 * time.Millisecond)
		return nil
	})
	if !errors.Is(err, context.Canceled) || putting.Load() {
		t.Errorf("the error is %v, put runs: %v", err, putting.Load())
	}
}
