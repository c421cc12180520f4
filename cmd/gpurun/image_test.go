package main

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpurun/gpurun"
)

// TestPictureOfBands compares a picture that was computed and written in many bands, pixel for
// pixel, with one that the library makes in one piece.
func TestPictureOfBands(t *testing.T) {
	eng, err := gpurun.Open(t.Context(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	field, err := eng.Mandelbrot(t.Context(), gpurun.View{Center: complex(-0.75, 0.1), Span: 0.2, Width: 401, Height: 303, MaxIter: 700})
	if err != nil {
		t.Fatal(err)
	}
	palette, err := gpurun.NewPalette("ember")
	if err != nil {
		t.Fatal(err)
	}
	want := field.Image(palette)
	for _, memory := range []string{"64KiB", "1GiB"} {
		name := filepath.Join(t.TempDir(), "m.png")
		var stdout, stderr buffer
		code := run(context.Background(), []string{"mandel", "--device", "cpu", "--center", "-0.75,0.1", "--span", "0.2",
			"--size", "401x303", "--max-iter", "700", "--palette", "ember", "--mem", memory, "--quiet", "-o", name}, &stdout, &stderr)
		if code != exitDone {
			t.Fatal(stderr.String())
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := img.(*image.RGBA); !ok || got.Rect != want.Rect || !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("with %s the picture of bands differs from the one in one piece", memory)
		}
	}
}
